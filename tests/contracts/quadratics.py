"""A quadratic bilevel problem with one x for all samples, and its solution in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import bilevel as bl
from bilevel.model import Bounds

DOUBLE = torch.float64


@dataclass(frozen=True)
class Quadratic:
    """J_i = ½xᵀA_i x + xᵀ(B_i θ + b_i), ℓ_j = ½xᵀC_j x + c_jᵀx + ½θᵀE_j θ; mean over samples."""

    a: Tensor
    b: Tensor
    offset: Tensor
    c: Tensor
    slope: Tensor
    e: Tensor

    @staticmethod
    def random(seed: int, *, d: int = 6, p: int = 3, n: int = 24, m: int = 20) -> Quadratic:
        """Eigenvalues of the mean A and E well above zero."""
        g = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=DOUBLE)

        def positive(count: int, size: int, least: float) -> Tensor:
            half = draw(count, size, size)
            return half @ half.mT / size + least * torch.eye(size, dtype=DOUBLE)

        return Quadratic(
            positive(n, d, 0.2),
            draw(n, d, p),
            draw(n, d),
            positive(m, d, 0.0),
            draw(m, d),
            positive(m, p, 0.2),
        )

    def lower(self, x: Tensor, theta: bl.Theta, ids: Tensor) -> Tensor:
        """The mean of J_i."""
        a, b, offset = self.a[ids].mean(0), self.b[ids].mean(0), self.offset[ids].mean(0)
        return 0.5 * x @ (a @ x) + x @ (b @ theta["w"] + offset)

    def upper(self, x: Tensor, theta: bl.Theta, ids: Tensor) -> Tensor:
        """The mean of ℓ_j."""
        c, slope, e = self.c[ids].mean(0), self.slope[ids].mean(0), self.e[ids].mean(0)
        w = theta["w"]
        return 0.5 * x @ (c @ x) + slope @ x + 0.5 * w @ (e @ w)

    def problem(self, start: Tensor | None = None) -> bl.SharedProblem:
        """With proved constants."""
        eigenvalues = torch.linalg.eigvalsh(self.a.mean(0))
        d, p = self.b.shape[1:]
        return bl.SharedProblem(
            bl.FiniteSum(len(self.a), self.lower),
            bl.FiniteSum(len(self.c), self.upper),
            {"w": torch.zeros(p, dtype=DOUBLE) if start is None else start},
            torch.zeros(d, dtype=DOUBLE),
            bounds=Bounds.of(eigenvalues[0], eigenvalues[-1]),
        )

    def loss(self, w: Tensor) -> Tensor:
        """F(w)."""
        a, b, offset = self.a.mean(0), self.b.mean(0), self.offset.mean(0)
        x = -torch.linalg.solve(a, b @ w + offset)
        return self.upper(x, {"w": w}, torch.arange(len(self.c)))

    def gradient(self, w: Tensor) -> Tensor:
        """∇F(w)."""
        return torch.autograd.functional.jacobian(self.loss, w)

    def solution(self) -> Tensor:
        """argmin F."""
        zero = torch.zeros(self.b.shape[2], dtype=DOUBLE)
        hessian = torch.autograd.functional.hessian(self.loss, zero)
        return -torch.linalg.solve(hessian, self.gradient(zero))

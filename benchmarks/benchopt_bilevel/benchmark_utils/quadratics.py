"""Random quadratics with prescribed spectra of the means' models, and their minimum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.model import Bounds

DOUBLE = torch.float64


@dataclass(frozen=True)
class Sum:
    """f_i(x, w) = ½ (a_iᵀx)² + ½ (b_iᵀw)² + (p_iᵀw)(q_iᵀx) + c_iᵀx + d_iᵀw, one row a sample."""

    a: Tensor
    b: Tensor
    p: Tensor
    q: Tensor
    c: Tensor
    d: Tensor

    @staticmethod
    def random(
        count: int, size: int, mu: float, largest: float, cross: float, seed: int, name: str
    ) -> Sum:
        """Rows of a and b have covariances with logarithmic spectra from ``mu`` to ``largest``.

        p_i = U D z_i and q_i = V z_i with the same normal z_i, so that the mean of p_i q_iᵀ
        tends to U D Vᵀ with singular values from ``mu`` to ``cross``.
        """
        random = generator(seed, "quadratic", name)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=random, dtype=DOUBLE)

        def basis() -> Tensor:
            return torch.linalg.qr(normal(size, size)).Q

        def root() -> Tensor:
            u = basis()
            spectrum = torch.logspace(math.log10(mu), math.log10(largest), size, dtype=DOUBLE)
            return u * spectrum.sqrt() @ u.T

        z = normal(count, size)
        values = torch.logspace(math.log10(mu), math.log10(cross), size, dtype=DOUBLE)
        return Sum(
            normal(count, size) @ root(),
            normal(count, size) @ root(),
            z * values @ basis(),
            z @ basis(),
            normal(count, size),
            normal(count, size),
        )

    def mean(self, x: Tensor, theta: bl.Theta, ids: Tensor) -> Tensor:
        """Over the samples ``ids``."""
        w = theta["w"]
        squares = (self.a[ids] @ x).square() + (self.b[ids] @ w).square()
        products = (self.p[ids] @ w) * (self.q[ids] @ x)
        return (0.5 * squares + products + self.c[ids] @ x + self.d[ids] @ w).mean()

    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Means: Hessians in x and in w, the mixed one (w, x), and both linear terms."""
        count = len(self.a)
        mixed = self.p.T @ self.q / count
        hessians = self.a.T @ self.a / count, self.b.T @ self.b / count
        return *hessians, mixed, self.c.mean(0), self.d.mean(0)


@dataclass(frozen=True)
class Quadratics:
    """Both levels."""

    lower: Sum
    upper: Sum

    @staticmethod
    def random(
        n: int, m: int, size: int, mu: float, largest: float, cross: float, seed: int
    ) -> Quadratics:
        """The first draw whose loss, as a function of w alone, is strictly convex.

        Raises:
            ValueError: there is none among twenty.
        """
        for number in range(20):
            lower = Sum.random(n, size, mu, largest, cross, seed, f"lower {number}")
            upper = Sum.random(m, size, mu, largest, cross, seed, f"upper {number}")
            found = Quadratics(lower, upper)
            if float(torch.linalg.eigvalsh(found.reduced()[0])[0]) > 1e-12:
                return found
        raise ValueError(f"no draw with mu={mu}, largest={largest}, cross={cross} is convex")

    def problem(self) -> bl.SharedProblem:
        """Fresh, from w = 0, with the exact bounds of the lower level's Hessian."""
        spectrum = torch.linalg.eigvalsh(self.lower.parts()[0])
        zero = torch.zeros(self.lower.a.shape[1], dtype=DOUBLE)
        return bl.SharedProblem(
            bl.FiniteSum(len(self.lower.a), self.lower.mean),
            bl.FiniteSum(len(self.upper.a), self.upper.mean),
            {"w": zero},
            zero,
            bounds=Bounds.of(spectrum[0], spectrum[-1]),
        )

    def reduced(self) -> tuple[Tensor, Tensor, float]:
        """H, g, c with loss(w) = ½ wᵀHw + gᵀw + c, after x(w) = X w + x₀ was inserted."""
        hx, _, mixed, cx, _ = self.lower.parts()
        inverse = torch.linalg.inv(hx)
        slope, start = -inverse @ mixed.T, -inverse @ cx
        ux, uw, cross, vx, vw = self.upper.parts()
        bent = cross @ slope
        hessian = slope.T @ ux @ slope + uw + bent + bent.T
        linear = slope.T @ (ux @ start + vx) + cross @ start + vw
        return hessian, linear, float(0.5 * start @ ux @ start + vx @ start)

    def minimum(self) -> float:
        """The least loss."""
        hessian, linear, constant = self.reduced()
        return constant - float(0.5 * linear @ torch.linalg.solve(hessian, linear))

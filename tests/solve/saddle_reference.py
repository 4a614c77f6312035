"""Small non-smooth problems as dense matrices, minimised by ADMM in float64, all in one batch.

min_x ρ/2 ‖x‖² + φ(A x - y) + TV(x) over lower <= x <= upper, where φ is w/2 ‖·‖² or w ‖·‖₁.
Independent of the library: matrices, and formulas written out anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Dense:
    """One problem; ``a`` (m, n), ``y`` (m,), ``weights`` (n,) of the lengths of the differences."""

    a: Tensor
    y: Tensor
    fidelity: float
    absolute: bool
    weights: Tensor
    isotropic: bool
    ridge: float
    lower: float
    upper: float
    shape: tuple[int, int]

    def differences(self) -> Tensor:
        """(2 n, n): to the next row, then to the next column."""
        h, w = self.shape
        d = torch.zeros(2, h, w, h, w, dtype=torch.float64)
        for i in range(h):
            for j in range(w):
                if i + 1 < h:
                    d[0, i, j, i + 1, j], d[0, i, j, i, j] = 1, -1
                if j + 1 < w:
                    d[1, i, j, i, j + 1], d[1, i, j, i, j] = 1, -1
        return d.reshape(2 * h * w, h * w)

    def value(self, x: Tensor) -> float:
        """J(x) of x (n,), box left out."""
        r = self.a @ x - self.y
        data = r.abs().sum() if self.absolute else r.square().sum() / 2
        t = (self.differences() @ x).reshape(2, -1)
        length = t.norm(dim=0) if self.isotropic else t.abs().sum(0)
        tv = (self.weights * length).sum()
        return float(self.fidelity * data + tv + self.ridge / 2 * x.square().sum())


def solve(problems: list[Dense], steps: int = 3000) -> Tensor:
    """Near minimisers (k, n), inside the boxes, by over-relaxed ADMM with z = (D x, A x, x).

    Exact to rounding for most; their values are never below the minimum.
    """
    n, m = problems[0].a.shape[1], max(p.a.shape[0] for p in problems)
    eye = torch.eye(n, dtype=torch.float64)
    pad = [torch.cat((p.a, p.a.new_zeros(m - len(p.a), n))) for p in problems]
    d = problems[0].differences()
    k = torch.stack([torch.cat((d, a, eye)) for a in pad])
    y = torch.stack([torch.cat((p.y, p.y.new_zeros(m - len(p.y)))) for p in problems])
    column = lambda values: torch.tensor(values, dtype=torch.float64)[:, None]  # noqa: E731
    absolute = torch.tensor([p.absolute for p in problems])[:, None]
    isotropic = torch.tensor([p.isotropic for p in problems])[:, None]
    fidelity, ridge = column([p.fidelity for p in problems]), column([p.ridge for p in problems])
    lower, upper = column([p.lower for p in problems]), column([p.upper for p in problems])
    weights = torch.stack([p.weights for p in problems])
    rho = torch.where(absolute, 3.0, 1.0).double()
    inverse = torch.linalg.inv(rho[..., None] * k.mT @ k + ridge[..., None] * eye)
    back = rho[..., None] * inverse @ k.mT
    z = torch.zeros(len(problems), k.shape[1], dtype=torch.float64)
    u = torch.zeros_like(z)
    for _ in range(steps):
        x = (back @ (z - u)[..., None])[..., 0]
        image = 1.7 * (k @ x[..., None])[..., 0] - 0.7 * z
        v = image + u
        t, s, e = v[:, : 2 * n], v[:, 2 * n : 2 * n + m], v[:, 2 * n + m :]
        first, second = t[:, :n], t[:, n:]
        size = (first.square() + second.square()).sqrt().clamp_min(1e-300)
        radial = (1 - weights / rho / size).clamp_min(0)
        one = lambda c: c.sign() * (c.abs() - weights / rho).clamp_min(0)  # noqa: E731
        first = torch.where(isotropic, radial * first, one(first))
        second = torch.where(isotropic, radial * second, one(second))
        far = s - y
        soft = y + far.sign() * (far.abs() - fidelity / rho).clamp_min(0)
        data = torch.where(absolute, soft, (rho * s + fidelity * y) / (rho + fidelity))
        box = torch.minimum(torch.maximum(e, lower), upper)
        z = torch.cat((first, second, data, box), 1)
        u = v - z
    return z[:, 2 * n + m :]

"""Stabilised biconjugate gradients: any square map, with five vectors and no transpose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.rows import expand, inner, norm
from bilevel.linear.krylov import Method, State, residual_drop, solve
from bilevel.linear.map import LinearMap
from bilevel.linear.solution import LinearSolution, LinearStatus
from bilevel.linear.solver import LinearSolver
from bilevel.linear.system import System

__all__ = ["BiCGStab", "bicgstab"]

_FLOOR = 3.0


@dataclass(frozen=True)
class BiCGStab(LinearSolver):
    """Solve A x = b for each row, A any square map, by stabilised biconjugate gradients.

    The returned x never has a larger residual than the start. Two applications a step.
    The recursion may break down; a row that then makes no progress ends as STALLED: use gmres.

    Source: van der Vorst (1992), Bi-CGSTAB, section 3.

    Raises:
        InputError: shapes, dtypes or tolerances do not fit.

    Example:
        >>> turn = torch.tensor([[1.0, 2.0], [-2.0, 1.0]])
        >>> bicgstab(LinearMap.shared(lambda v: v @ turn.T), torch.ones(1, 2), rtol=1e-6).x
        tensor([[-0.2000,  0.6000]])
    """

    def solve(self, system: System, max_steps: int) -> LinearSolution:
        """By its recursion."""
        return solve(_METHOD, system, max_steps)[0]


@dataclass(frozen=True)
class _State(State):
    r: Tensor
    shadow: Tensor
    p: Tensor
    rho: Tensor


def _init(r: Tensor, size: Tensor) -> _State:
    rho = inner(r, r)
    status = torch.full_like(rho, LinearStatus.RUNNING, dtype=torch.long)
    return _State(torch.zeros_like(r), rho.sqrt(), size, status, r=r, shadow=r, p=r, rho=rho)


def _step(operator: LinearMap, s: _State) -> _State:
    eps = torch.finfo(s.x.dtype).eps
    image = operator(s.p)
    along, length = inner(s.shadow, image), norm(image)
    size = torch.maximum(s.size, length / norm(s.p))
    orthogonal = along.abs() <= eps * norm(s.shadow) * length
    alpha = torch.where(orthogonal, 0, s.rho / along)
    half = torch.addcmul(s.r, expand(-alpha, image), image)
    turned = operator(half)
    square = inner(turned, turned)
    omega = torch.where(square > 0, inner(turned, half) / square, 0)
    x = s.x + expand(alpha, s.p) * s.p + expand(omega, half) * half
    r = torch.addcmul(half, expand(-omega, turned), turned)
    residual, rho = norm(r), inner(s.shadow, r)
    beta = rho / s.rho * alpha / omega
    p = r + expand(beta, r) * (s.p - expand(omega, image) * image)
    flat = orthogonal | (omega == 0) | (rho.abs() <= eps * norm(s.shadow) * residual)
    flat |= residual <= _FLOOR * eps * size * norm(x)
    status = torch.where(flat, LinearStatus.STALLED, LinearStatus.RUNNING)
    return _State(x, residual, size, status, r=r, shadow=s.shadow, p=p, rho=rho)


_METHOD = Method(_init, _step, residual_drop)

bicgstab = BiCGStab()

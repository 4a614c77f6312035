"""Conjugate gradients for symmetric positive definite maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.rows import expand, inner, norm
from bilevel.linear.krylov import Method, State, solve
from bilevel.linear.map import LinearMap
from bilevel.linear.solution import LinearSolution, LinearStatus
from bilevel.linear.solver import LinearSolver
from bilevel.linear.system import System

__all__ = ["CG", "cg", "cg_steps"]


@dataclass(frozen=True)
class CG(LinearSolver):
    """Solve A x = b for each row, A symmetric positive definite, by conjugate gradients.

    The returned x never has a higher energy ½⟨x, A x⟩ - ⟨b, x⟩ than the start.
    A direction p with ⟨p, A p⟩ <= 0, to rounding, ends the row as NEGATIVE_CURVATURE. Where the
    operator knows an approximate ``inverse``, every step applies it once: fewer steps.

    Source: Hestenes & Stiefel (1952), Methods of conjugate gradients, algorithm (3:1);
    preconditioned: Saad 2003, Iterative methods for sparse linear systems, Algorithm 9.1.

    Raises:
        InputError: shapes, dtypes or tolerances do not fit.

    Example:
        >>> scales = torch.tensor([[1.0, 2.0, 4.0]])
        >>> cg(LinearMap.shared(lambda v: scales * v), torch.ones(1, 3), rtol=1e-6).x
        tensor([[1.0000, 0.5000, 0.2500]])
    """

    def solve(self, system: System, max_steps: int) -> LinearSolution:
        """By its recursion."""
        return solve(_METHOD, system, max_steps)[0]


def cg_steps(operator: LinearMap, b: Tensor, x: Tensor, steps: int) -> Tensor:
    """``x`` after so many steps of conjugate gradients for A x = b, in every row; nothing is told.

    One application a step and one to begin with. Unlike :func:`cg`, no residual is computed afresh
    and no row leaves; a row without positive curvature, or that is solved, stays.

    Example:
        >>> scales = torch.tensor([[1.0, 2.0]])
        >>> cg_steps(LinearMap.shared(lambda v: scales * v), torch.ones(1, 2), torch.ones(1, 2), 2)
        tensor([[1.0000, 0.5000]])
    """
    r = b - operator(x)
    state = _init(r, torch.zeros_like(norm(r)))
    for _ in range(steps):
        state = _step(operator, state)
    return x + state.x


@dataclass(frozen=True)
class _State(State):
    r: Tensor
    p: Tensor
    rz: Tensor


def _init(r: Tensor, size: Tensor) -> _State:
    residual = norm(r)
    status = torch.full_like(residual, LinearStatus.RUNNING, dtype=torch.long)
    nothing, never = torch.zeros_like(r), torch.full_like(residual, torch.inf)
    return _State(nothing, residual, size, status, r=r, p=nothing, rz=never)


def _step(operator: LinearMap, s: _State) -> _State:
    z = s.r if operator.inverse is None else operator.inverse()(s.r)
    rz = inner(s.r, z)
    p = torch.addcmul(z, expand(torch.where(s.rz > 0, rz / s.rz, 0), s.p), s.p)
    image, pp = operator(p), inner(p, p)
    curvature = inner(p, image)
    size = torch.maximum(s.size, torch.where(pp > 0, curvature / pp, 0))
    flat = curvature <= torch.finfo(size.dtype).eps * size * pp
    alpha = torch.where(flat, 0, rz / curvature)
    x = torch.addcmul(s.x, expand(alpha, p), p)
    r = torch.addcmul(s.r, expand(-alpha, image), image)
    status = torch.where(flat, LinearStatus.NEGATIVE_CURVATURE, LinearStatus.RUNNING)
    return _State(x, norm(r), size, status, r=r, p=p, rz=rz)


def _energy_drop(d: Tensor, r: Tensor, fresh: Tensor) -> Tensor:
    """Twice ⟨d, r⟩ - ½⟨d, A d⟩, how much the energy falls along d, where fresh = r - A d."""
    return inner(d, r + fresh)


_METHOD = Method(_init, _step, _energy_drop)

cg = CG()

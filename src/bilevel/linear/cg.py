"""Conjugate gradients for symmetric positive definite maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.rows import expand, inner, norm
from bilevel.linear.krylov import Method, State, solve
from bilevel.linear.map import LinearMap
from bilevel.linear.solution import LinearSolution, LinearStatus
from bilevel.linear.system import System

__all__ = ["cg"]


def cg(
    operator: LinearMap,
    b: Tensor,
    *,
    rtol: float | Tensor = 0.0,
    atol: float | Tensor = 0.0,
    x0: Tensor | None = None,
    max_steps: int = 1000,
) -> LinearSolution:
    """Solve A x = b for each row, A symmetric positive definite, by conjugate gradients.

    Row k is done when ``‖b_k - A x_k‖₂ <= max(rtol ‖b_k‖₂, atol_k)``, computed afresh at the
    returned x; ``rtol`` and ``atol`` are numbers or (b,). No tape is kept. The returned x never
    has a higher energy ½⟨x, A x⟩ - ⟨b, x⟩ than the start ``x0`` (zero unless given).
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
    return solve(_METHOD, System.of(operator, b, rtol, atol, x0), max_steps)[0]


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
    p = torch.addcmul(z, expand(rz / s.rz, s.p), s.p)
    image, pp = operator(p), inner(p, p)
    curvature = inner(p, image)
    size = torch.maximum(s.size, curvature / pp)
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

"""Conjugate gradients for symmetric positive definite maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.rows import expand, inner
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
    A direction p with ⟨p, A p⟩ <= 0, to rounding, ends the row as NEGATIVE_CURVATURE.

    Source: Hestenes & Stiefel (1952), Methods of conjugate gradients, algorithm (3:1).

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
    rr: Tensor
    pp: Tensor


def _init(r: Tensor, size: Tensor) -> _State:
    rr = inner(r, r)
    status = torch.full_like(rr, LinearStatus.RUNNING, dtype=torch.long)
    return _State(torch.zeros_like(r), rr.sqrt(), size, status, r=r, p=r, rr=rr, pp=rr)


def _step(operator: LinearMap, s: _State) -> _State:
    image = operator(s.p)
    curvature = inner(s.p, image)
    size = torch.maximum(s.size, curvature / s.pp)
    flat = curvature <= torch.finfo(size.dtype).eps * size * s.pp
    alpha = torch.where(flat, 0, s.rr / curvature)
    x = torch.addcmul(s.x, expand(alpha, s.p), s.p)
    r = torch.addcmul(s.r, expand(-alpha, image), image)
    rr = inner(r, r)
    beta = rr / s.rr
    p = torch.addcmul(r, expand(beta, s.p), s.p)
    status = torch.where(flat, LinearStatus.NEGATIVE_CURVATURE, LinearStatus.RUNNING)
    return _State(x, rr.sqrt(), size, status, r=r, p=p, rr=rr, pp=rr + beta.square() * s.pp)


def _energy_drop(d: Tensor, r: Tensor, fresh: Tensor) -> Tensor:
    """Twice ⟨d, r⟩ - ½⟨d, A d⟩, how much the energy falls along d, where fresh = r - A d."""
    return inner(d, r + fresh)


_METHOD = Method(_init, _step, _energy_drop)

"""The Neumann series: powers of I - s A, the simplest inverse of a positive definite map."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.ground.checks import check_count, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.rows import expand
from bilevel.linear.map import LinearMap
from bilevel.linear.solution import LinearSolution, LinearStatus
from bilevel.linear.system import System, norm

__all__ = ["neumann"]

_GROWTH = 1e-3


def neumann(
    operator: LinearMap,
    b: Tensor,
    *,
    step: Tensor,
    terms: int,
    rtol: float | Tensor = 0.0,
    atol: float | Tensor = 0.0,
    x0: Tensor | None = None,
) -> LinearSolution:
    """The first ``terms`` terms of A⁻¹ b = s Σ_i (I - s A)^i b for each row, 0 < A <= 2/s.

    The residual, (I - s A)^K b, is computed afresh after every term; a row that meets
    ``max(rtol ‖b_k‖₂, atol_k)`` leaves. It never grows for such A; where it does, the row ends as
    NEGATIVE_CURVATURE. From ``x0`` the series continues what x0 lacks.

    Args:
        operator: A, symmetric.
        b: right-hand sides (b, ...).
        step: s (b,), e.g. 1/L.
        terms: K, at most so many applications of A a row.
        rtol: relative tolerance.
        atol: absolute tolerance.
        x0: start, zero if None.

    Raises:
        InputError: shapes, dtypes, steps or tolerances do not fit.

    Example:
        >>> scales = torch.tensor([[1.0, 0.5]])
        >>> halves = LinearMap.shared(lambda v: scales * v)
        >>> neumann(halves, torch.ones(1, 2), step=torch.ones(1), terms=2).x
        tensor([[1.0000, 1.5000]])
    """
    check_count(terms, "terms")
    if step.shape != (len(b),):
        raise InputError("one step for each row is needed", given=tuple(step.shape))
    check_positive(float(step.min()), "step")
    system = System.of(operator, b, rtol, atol, x0)
    with torch.no_grad():
        return _series(system, step.to(b), terms)


def _series(system: System, step: Tensor, terms: int) -> LinearSolution:
    operator, b, tolerance = system.operator, system.b, system.tolerance
    x = torch.zeros_like(b) if system.start is None else system.start.clone()
    r = b.clone() if system.start is None else b - operator(x)
    applications = 0 if system.start is None else len(b)
    residual = norm(r)
    steps = torch.zeros(len(b), dtype=torch.long, device=b.device)
    status = torch.where(residual <= tolerance, LinearStatus.CONVERGED, LinearStatus.RUNNING)
    status = torch.where(torch.isfinite(residual), status, LinearStatus.DIVERGED)
    for _ in range(terms):
        going = torch.nonzero(status == LinearStatus.RUNNING).flatten()
        if not len(going):
            break
        trial = x[going] + expand(step[going], b) * r[going]
        fresh = b[going] - operator.rows(going)(trial)
        applications += len(going)
        after = norm(fresh)
        finite = torch.isfinite(after)
        grown = after > (1 + _GROWTH) * torch.maximum(residual[going], _floor(b[going]))
        flag = torch.where(grown, LinearStatus.NEGATIVE_CURVATURE, LinearStatus.RUNNING)
        flag = torch.where(after <= tolerance[going], LinearStatus.CONVERGED, flag)
        flag = torch.where(finite, flag, LinearStatus.DIVERGED)
        kept = going[finite & ~grown]
        x[kept], r[kept] = trial[finite & ~grown], fresh[finite & ~grown]
        residual[kept], steps[going] = after[finite & ~grown], steps[going] + 1
        status[going] = flag
    status[status == LinearStatus.RUNNING] = LinearStatus.MAX_STEPS
    residual = torch.where(torch.isfinite(residual), residual, torch.inf).to(b.dtype)
    return LinearSolution(x, residual, steps, status, applications)


def _floor(b: Tensor) -> Tensor:
    """A residual that rounding alone may cause."""
    return 100 * torch.finfo(b.dtype).eps * norm(b)

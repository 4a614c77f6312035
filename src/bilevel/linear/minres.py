"""Minimal residuals for symmetric maps, indefinite or singular ones too."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground.rows import expand, inner, norm
from bilevel.linear.krylov import Method, State, residual_drop, solve
from bilevel.linear.map import LinearMap
from bilevel.linear.solution import LinearSolution, LinearStatus
from bilevel.linear.solver import LinearSolver
from bilevel.linear.system import System
from bilevel.linear.system import norm as length

__all__ = ["MINRES", "minres"]

_HALF = 0.5
_FLOOR = 3.0
_NULL = 10.0


@dataclass(frozen=True)
class MINRES(LinearSolver):
    """Solve A x = b for each row, A symmetric, by minimal residuals.

    The returned x never has a larger residual than the start.
    A may be singular. From a zero start a solvable row gives the solution of least norm; a row
    without solution ends as SINGULAR (A r = 0 to rounding) with a least-squares solution.

    Source: Paige & Saunders (1975), Solution of sparse indefinite systems of linear equations,
    section 6.

    Raises:
        InputError: shapes, dtypes or tolerances do not fit.

    Example:
        >>> scales = torch.tensor([[1.0, -2.0, 4.0]])
        >>> minres(LinearMap.shared(lambda v: scales * v), torch.ones(1, 3), rtol=1e-6).x
        tensor([[ 1.0000, -0.5000,  0.2500]])
    """

    def solve(self, system: System, max_steps: int) -> LinearSolution:
        """By its recursion; then rows that stalled are looked at again."""
        solution, size = solve(_METHOD, system, max_steps)
        with torch.no_grad():
            return _name_singular(system, solution, size)


def _name_singular(system: System, solution: LinearSolution, size: Tensor) -> LinearSolution:
    """Name singular the rows stalled with A r = 0 to rounding, at a residual above rounding."""
    rows = torch.nonzero(solution.status == LinearStatus.STALLED).flatten()
    if len(rows) == 0:
        return solution
    operator, x = system.operator.rows(rows), solution.x[rows]
    r = system.b[rows] - operator(x)
    eps = torch.finfo(x.dtype).eps
    singular = length(operator(r)) <= _NULL * eps**0.5 * size[rows] * length(r)
    singular &= length(r) > _FLOOR * eps * size[rows] * length(x)
    status = solution.status.clone()
    status[rows[singular]] = LinearStatus.SINGULAR
    applications = solution.applications + 2 * len(rows)
    return replace(solution, status=status, applications=applications)


@dataclass(frozen=True)
class _State(State):
    """Lanczos vectors, the QR factors' running entries, and a least-squares solution held back.

    On a singular system without solution ``walk`` comes to a least-squares solution, where
    ‖A r‖ vanishes to rounding, and then runs away. ``x`` stays there until the residual, and what
    rounding hides of it, fall below half of ``held``, what it was there (infinite elsewhere).
    """

    walk: Tensor
    held: Tensor
    v: Tensor
    v_old: Tensor
    w: Tensor
    w_old: Tensor
    beta: Tensor
    dbar: Tensor
    epsilon: Tensor
    cosine: Tensor
    sine: Tensor


def _init(r: Tensor, size: Tensor) -> _State:
    residual, zeros = norm(r), torch.zeros_like(r)
    zero = torch.zeros_like(residual)
    return _State(
        x=zeros,
        residual=residual,
        size=size,
        status=torch.full_like(residual, LinearStatus.RUNNING, dtype=torch.long),
        walk=zeros,
        held=zero + torch.inf,
        v=r / expand(residual, r),
        v_old=zeros,
        w=zeros,
        w_old=zeros,
        beta=zero,
        dbar=zero,
        epsilon=zero,
        cosine=zero - 1,
        sine=zero,
    )


def _step(operator: LinearMap, s: _State) -> _State:
    eps = torch.finfo(s.x.dtype).eps
    # Lanczos: A v = s.beta v_old + alpha v + beta v_new
    image = torch.addcmul(operator(s.v), expand(-s.beta, s.v), s.v_old)
    alpha = inner(s.v, image)
    image = torch.addcmul(image, expand(-alpha, s.v), s.v)
    beta = norm(image)
    size = torch.maximum(s.size, (s.beta.square() + alpha.square() + beta.square()).sqrt())
    # the last rotation on the new column, then the next rotation
    delta = s.cosine * s.dbar + s.sine * alpha
    gbar = s.sine * s.dbar - s.cosine * alpha
    epsilon, dbar = s.sine * beta, -s.cosine * beta
    gamma = torch.hypot(gbar, beta)
    cosine, sine = gbar / gamma, beta / gamma
    w = torch.addcmul(s.v, expand(-s.epsilon, s.v), s.w_old)
    w = torch.addcmul(w, expand(-delta, s.v), s.w) / expand(gamma, s.v)
    walk = torch.addcmul(s.walk, expand(cosine * s.residual, w), w)
    residual = sine * s.residual
    # hypot(gbar, dbar) = ‖A r‖ / ‖r‖ before this step
    arrived = (torch.hypot(gbar, dbar) <= eps**0.5 * size) & torch.isinf(s.held)
    held = torch.where(arrived, s.residual, s.held)
    rounding = _FLOOR * eps * size * norm(walk)
    moves = torch.maximum(residual, rounding) <= _HALF * held
    x = torch.where(expand(moves, w), walk, torch.where(expand(arrived, w), s.walk, s.x))
    return _State(
        x=x,
        residual=residual,
        size=size,
        status=torch.where(residual <= rounding, LinearStatus.STALLED, LinearStatus.RUNNING),
        walk=walk,
        held=torch.where(moves, torch.inf, held),
        v=image / expand(beta, image),
        v_old=s.v,
        w=w,
        w_old=s.w,
        beta=beta,
        dbar=dbar,
        epsilon=epsilon,
        cosine=cosine,
        sine=sine,
    )


_METHOD = Method(_init, _step, residual_drop)

minres = MINRES()

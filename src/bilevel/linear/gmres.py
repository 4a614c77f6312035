"""Generalised minimal residuals: any square map, no transpose, one basis vector a step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from bilevel.ground.checks import check_count
from bilevel.ground.rows import expand, norm
from bilevel.linear.krylov import Method, State, residual_drop, solve
from bilevel.linear.map import LinearMap
from bilevel.linear.solution import LinearSolution, LinearStatus
from bilevel.linear.solver import LinearSolver
from bilevel.linear.system import System

__all__ = ["GMRES", "gmres"]

_FLOOR = 3.0
_NULL = 10.0


@dataclass(frozen=True)
class GMRES(LinearSolver):
    """Solve A x = b for each row, A any square map, by restarted GMRES.

    The residual never grows; ``restart`` + 1 vectors are kept, and all is forgotten when they are
    used up. A may be singular: a row whose Krylov space ends without a solution is SINGULAR.

    Args:
        restart: steps after which the basis is built anew.

    Source: Saad & Schultz (1986), GMRES, algorithm 4; orthogonalised twice.

    Raises:
        InputError: ``restart`` below 1, or (when called) shapes, dtypes or tolerances do not fit.

    Example:
        >>> turn = torch.tensor([[0.0, 2.0], [-2.0, 0.0]])
        >>> gmres(LinearMap.shared(lambda v: v @ turn.T), torch.ones(1, 2), rtol=1e-6).x
        tensor([[-0.5000,  0.5000]])
    """

    restart: int = 30

    def __post_init__(self) -> None:
        """Check the options."""
        check_count(self.restart, "restart")

    def solve(self, system: System, max_steps: int) -> LinearSolution:
        """By cycles of ``restart`` steps."""

        def init(r: Tensor, size: Tensor) -> _State:
            return _first(torch.zeros_like(r), r, r, size, self.restart)

        return solve(Method(init, _step, residual_drop), system, max_steps)[0]


@dataclass(frozen=True)
class _State(State):
    """The QR factors of the Hessenberg matrix of the basis built since the last restart.

    ``basis`` (b, m+1, n) is orthonormal, ``filled`` (b,) counts its vectors less one, ``upper``
    (b, m, m) is R, ``turns`` (b, m, 2) the rotations, ``g`` (b, m+1) what they make of the
    residual. ``r`` is the right-hand side, ``base`` the x of the last restart. ``step`` writes
    into these.
    """

    r: Tensor
    base: Tensor
    basis: Tensor
    upper: Tensor
    turns: Tensor
    g: Tensor
    filled: Tensor


def _first(x: Tensor, r: Tensor, rest: Tensor, size: Tensor, restart: int) -> _State:
    """A basis of one vector: the direction of what remains, ``rest`` = r - A x."""
    b, residual = len(r), norm(rest)
    basis = r.new_zeros(b, restart + 1, r[0].numel())
    basis[:, 0] = (rest / expand(residual, rest)).flatten(1)
    g = torch.zeros(b, restart + 1, dtype=torch.float64, device=r.device)
    g[:, 0] = residual
    return _State(
        x=x,
        residual=residual,
        size=size,
        status=torch.full_like(residual, LinearStatus.RUNNING, dtype=torch.long),
        r=r,
        base=x,
        basis=basis,
        upper=g.new_zeros(b, restart, restart),
        turns=g.new_zeros(b, restart, 2),
        g=g,
        filled=torch.zeros_like(residual, dtype=torch.long),
    )


def _step(operator: LinearMap, s: _State) -> _State:
    eps, restart = torch.finfo(s.x.dtype).eps, s.upper.shape[1]
    if int(s.filled[0]) == restart:
        s = _first(s.x, s.r, s.r - operator(s.x), s.size, restart)
    j = int(s.filled[0])
    image = operator(s.basis[:, j].view_as(s.x)).flatten(1)
    size = torch.maximum(s.size, norm(image))
    column, fresh = _orthogonalise(s.basis[:, : j + 1], image)
    before = s.g[:, j].clone()
    diagonal = _rotate(s, j, column)
    s.basis[:, j + 1] = fresh
    void = diagonal <= _NULL * eps * size
    s.upper[:, j, j] = torch.where(void, 1.0, diagonal)
    lost = torch.where(void, before, s.g[:, j + 1])
    s.g[:, j] = torch.where(void, 0.0, s.g[:, j])
    upper = s.upper[:, : j + 1, : j + 1]
    y = cast(Tensor, torch.linalg.solve_triangular(upper, s.g[:, : j + 1, None], upper=True))
    x = s.base + (s.basis[:, : j + 1] * y.to(s.x)).sum(1).view_as(s.x)
    residual = lost.abs().to(s.x)
    flag = torch.where(void, LinearStatus.SINGULAR, LinearStatus.RUNNING)
    flag = torch.where(residual <= _FLOOR * eps * size * norm(x), LinearStatus.STALLED, flag)
    return replace(s, x=x, residual=residual, size=size, status=flag, filled=s.filled + 1)


def _orthogonalise(basis: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients (b, k+1) of v in the basis and a new unit vector, which is returned too."""
    total = v.new_zeros(len(v), basis.shape[1])
    for _ in range(2):
        part = (basis * v[:, None]).sum(2)
        v = v - (basis * part[..., None]).sum(1)
        total = total + part
    length = norm(v)
    unit = v / torch.where(length > 0, length, 1)[:, None]
    return torch.cat((total, length[:, None]), 1).double(), unit


def _rotate(s: _State, j: int, column: Tensor) -> Tensor:
    """Bring the column to triangular form, write it into R and return its diagonal entry."""
    for i in range(j):
        cosine, sine = s.turns[:, i].unbind(1)
        above, below = column[:, i].clone(), column[:, i + 1].clone()
        column[:, i] = cosine * above + sine * below
        column[:, i + 1] = cosine * below - sine * above
    diagonal = torch.hypot(column[:, j], column[:, j + 1])
    turn = column[:, j : j + 2] / torch.where(diagonal > 0, diagonal, 1)[:, None]
    s.turns[:, j] = turn
    s.upper[:, :j, j] = column[:, :j]
    s.g[:, j + 1], s.g[:, j] = -turn[:, 1] * s.g[:, j], turn[:, 0] * s.g[:, j]
    return diagonal


gmres = GMRES()

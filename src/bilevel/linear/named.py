"""The names that configurations give to linear solvers."""

from __future__ import annotations

from collections.abc import Mapping

from bilevel.ground.checks import check_choice
from bilevel.linear.bicgstab import bicgstab
from bilevel.linear.cg import cg
from bilevel.linear.gmres import GMRES
from bilevel.linear.minres import minres
from bilevel.linear.solver import LinearSolver
from bilevel.linear.symmetric import symmetric

__all__ = ["linear_solver"]

_NAMED: Mapping[str, LinearSolver] = {
    "bicgstab": bicgstab,
    "cg": cg,
    "gmres": GMRES(restart=100),
    "minres": minres,
    "symmetric": symmetric,
}


def linear_solver(given: LinearSolver | str) -> LinearSolver:
    """The solver itself, or ours: "bicgstab", "cg", "gmres" (100 steps), "minres", "symmetric".

    Raises:
        InputError: a name that none has.

    Example:
        >>> linear_solver("minres"), linear_solver(minres)
        (MINRES(), MINRES())
    """
    return _NAMED[check_choice(given, _NAMED, "linear solver")] if isinstance(given, str) else given

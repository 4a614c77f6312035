"""The solver that fits an objective, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bilevel.model.kinds import by_kind
from bilevel.model.objective import Objective
from bilevel.solve.solver import Solver
from bilevel.solve.solvers.admm import ADMM
from bilevel.solve.solvers.fista import FISTA
from bilevel.solve.solvers.lbfgs import LBFGS
from bilevel.solve.solvers.nesterov import Nesterov
from bilevel.solve.solvers.pdhg import PDHG
from bilevel.solve.solvers.proximal_newton import ProximalNewton

__all__ = ["Choice", "accelerated", "automatic", "frugal"]


@dataclass(frozen=True)
class Choice:
    """A solver and the reason for it, in words."""

    solver: Solver[Any]
    reason: str


def automatic(objective: Objective) -> Choice:
    """The solver for what the objective is: smooth, composite or a saddle problem.

    Example:
        >>> import torch
        >>> import bilevel as bl
        >>> tv = bl.regularisers.TotalVariation(0.1, 0.01)
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), tv)
        >>> choice = automatic(energy.at(torch.zeros(1, 1, 4, 4)))
        >>> print(choice.reason)
        J is smooth: L-BFGS needs the fewest gradients and products, and no constants of J
    """
    smooth = "J is smooth: L-BFGS needs the fewest gradients and products, and no constants of J"
    composite = "one term has no gradient, but a prox: FISTA takes it in every step"
    saddle = "a term of A x has no gradient: PDHG splits it off, and proves a gap"
    power = "a term of A x is not convex: ADMM splits it off, and nothing is proved"
    return by_kind(
        objective,
        smooth=lambda _: Choice(LBFGS(), smooth),
        composite=lambda _: Choice(FISTA(), composite),
        saddle=lambda f: (
            Choice(PDHG(), saddle)
            if all(term.convex for term in f.terms)
            else Choice(ADMM(), power)
        ),
    )


def accelerated(objective: Objective) -> Solver[Any]:
    """The accelerated first-order method that fits: Nesterov's, FISTA or PDHG.

    L-BFGS of 12 pairs where the state of a smooth J has further channels, in which J is flat:
    Nesterov's method takes several times its gradients there.

    Example:
        >>> import torch
        >>> import bilevel as bl
        >>> tv = bl.regularisers.TotalVariation(0.1, 0.01)
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), tv + bl.regularisers.Box(0.0, 1.0))
        >>> accelerated(energy.at(torch.zeros(1, 1, 4, 4)))
        FISTA(restart=True)
    """
    fits = automatic(objective).solver
    if Nesterov.takes is not fits.takes:
        return fits
    return LBFGS(memory=12) if _wide(objective) else Nesterov()


def _wide(objective: Objective) -> bool:
    """Whether the state has channels beside those of the image."""
    x = objective.start()
    return objective.image(x).shape != x.shape


def frugal(objective: Objective) -> Solver[Any]:
    """The solver of the fewest gradients and products: L-BFGS, proximal Newton or PDHG.

    Example:
        >>> import torch
        >>> import bilevel as bl
        >>> tv = bl.regularisers.TotalVariation(0.1, 0.01)
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), tv + bl.regularisers.Box(0.0, 1.0))
        >>> frugal(energy.at(torch.zeros(1, 1, 4, 4)))
        ProximalNewton(forcing=0.1, max_products=100)
    """
    fits = automatic(objective).solver
    return ProximalNewton() if ProximalNewton.takes is fits.takes else fits

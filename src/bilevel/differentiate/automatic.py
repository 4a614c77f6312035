"""The hypergradient that fits an objective."""

from __future__ import annotations

from bilevel.differentiate.hypergradient import Hypergradient
from bilevel.differentiate.implicit import Implicit
from bilevel.differentiate.piggyback import Piggyback
from bilevel.model.kinds import by_kind
from bilevel.model.objective import Curved, Objective
from bilevel.model.saddle import SaddleObjective

__all__ = ["automatic"]


def automatic(objective: Objective) -> Hypergradient:
    """Implicit where J has second derivatives, almost everywhere at least; Piggyback elsewhere.

    Example:
        >>> import torch
        >>> import bilevel as bl
        >>> tv = bl.regularisers.ExactTotalVariation(0.1)
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), tv)
        >>> automatic(energy.at(torch.zeros(1, 1, 4, 4)))
        Piggyback(max_steps=5000)
    """

    def implicit(_: Curved) -> Hypergradient:
        return Implicit()

    def piggyback(_: SaddleObjective) -> Hypergradient:
        return Piggyback()

    return by_kind(objective, smooth=implicit, composite=implicit, saddle=piggyback)

"""Equilibrium propagation: how ∂_θJ changes when the solution is pulled to and from the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bilevel.differentiate.differences import DifferenceMethod, strengths
from bilevel.differentiate.upper import Upper
from bilevel.ground.checks import check_positive
from bilevel.model.objective import Objective
from bilevel.solve import Solver

__all__ = ["EquilibriumPropagation"]


@dataclass(frozen=True)
class EquilibriumPropagation(DifferenceMethod):
    """Two solves with a little of the loss added and taken away; no second derivatives.

    z = (∂_θJ(x_s) - ∂_θJ(x_{-s}))/(2 s) with x_{±s} = argmin J ± s ℓ; error O(s²) + ε/s.

    (Scellier and Bengio 2017; symmetric: Laborieux et al. 2021.) Each row has its own s, such
    that s ∇ℓ has rms ``strength``, at most mu/(2 Lip ∇ℓ). Proved bounds, see
    :class:`DifferenceMethod`.

    Args:
        strength: rms of the pull s ∇ℓ [grey value, for a fidelity of weight 1].
        solver: of the two pulled problems; None: the accelerated one that fits.
        max_steps: its limit.

    Raises:
        InputError: a strength that is not positive.

    Example:
        >>> EquilibriumPropagation(1e-4).strength
        0.0001
    """

    strength: float = 1e-3
    solver: Solver[Any] | None = None
    max_steps: int = 20_000

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self.strength, "strength")

    def ends(
        self, lower: Objective, upper: Upper, x: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        """+s and -s."""
        s = strengths(lower, upper, x, self.strength, share)
        return s, -s

"""The value-function penalty: ∂_θJ at argmin λ J + ℓ against ∂_θJ at argmin J."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bilevel.differentiate.differences import DifferenceMethod, strengths
from bilevel.differentiate.upper import Upper
from bilevel.ground.checks import check_positive
from bilevel.model.objective import Objective
from bilevel.solve import Solver

__all__ = ["ValueFunction"]


@dataclass(frozen=True)
class ValueFunction(DifferenceMethod):
    """The gradients of two energies, without the loss and with it; no second derivatives.

    z = λ (∂_θJ(x_λ) - ∂_θJ(x̂)) with x_λ = argmin λ J + ℓ; error O(1/λ) + λ ε.

    The gradient of min_x ℓ + λ (J - min J) (BOME, Liu et al. 2022; F²SA, Kwon et al. 2023).
    Each row has its own λ, such that ∇ℓ/λ has rms 1/``penalty``, at least 2 Lip(∇ℓ)/mu. Proved
    bounds, see :class:`DifferenceMethod`.

    Args:
        penalty: one over the rms of the pull ∇ℓ/λ [1/grey value, for a fidelity of weight 1].
        solver: of the penalised problem, and of J where x̂ is not accurate enough; None: the
            accelerated one that fits.
        max_steps: its limit.

    Raises:
        InputError: a penalty that is not positive.

    Example:
        >>> ValueFunction(1e4).penalty
        10000.0
    """

    penalty: float = 1e4
    solver: Solver[Any] | None = None
    max_steps: int = 20_000

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self.penalty, "penalty")

    def ends(
        self, lower: Objective, upper: Upper, x: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        """s = 1/λ and 0."""
        s = strengths(lower, upper, x, 1 / self.penalty, share)
        return s, 0 * s

"""The absolute distance to the data with derivatives everywhere: impulse noise."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

from bilevel.model.fidelities.robust import LARGE, Robust
from bilevel.model.operators.operator import Operator
from bilevel.model.potentials import POTENTIALS, Potential

__all__ = ["SmoothedL1"]


class SmoothedL1(Robust):
    """weight Σ √((A x - y)² + ν²) - ν: impulse noise, with derivatives everywhere.

    Ψ(A x; y) = w Σ φ(A x - y), φ(r) = √(r² + ν²) - ν (Charbonnier et al. 1997): |r| smoothed over
    ν, convex and as often differentiable as one likes. For ν → 0 it is ``L1``. L = w/ν ‖A‖².

    As an infimal convolution of impulse and Gaussian noise it stands for λ₁ = w and λ₂ = w/ν, in
    the place of the Huber function, which has kinks.

    Args:
        operator: A, the identity if None.
        weight: factor w [1].
        smoothing: ν [grey value]; a hundredth of the contrast if None.
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a number that is not positive, an unknown name in ``learn``.

    Example:
        >>> import torch
        >>> x, y = torch.full((1, 1, 1, 1), 4.0), torch.zeros(1, 1, 1, 1)
        >>> round(SmoothedL1(smoothing=3.0)(x, y).item(), 6)  # √(16 + 9) - 3
        2.0
    """

    degree = 1
    potential: ClassVar[Potential] = POTENTIALS["charbonnier"]
    powers: ClassVar[Mapping[str, tuple[int, int]]] = {"smoothing": (-1, 1)}

    def __init__(
        self,
        operator: Operator | None = None,
        weight: float = 1.0,
        smoothing: float | None = None,
        *,
        learn: Collection[str] = (),
    ) -> None:
        """Forward operator, weight and smoothing."""
        super().__init__(operator, weight, learn, smoothing=(smoothing, LARGE / 10))

"""The size of parameters: their squares, or their absolute values, smoothed at 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bilevel.ground.checks import check_choice, check_positive
from bilevel.ground.theta import Theta
from bilevel.learn.penalties.penalty import Penalty, chosen
from bilevel.model.potentials import Charbonnier

__all__ = ["Size"]

CHARBONNIER = Charbonnier()


@dataclass(frozen=True)
class Size(Penalty):
    """The size of parameters, such as filters: half their squares, or their absolute values.

    r(θ) = weight/2 Σ θ_i² ("l2"), or weight Σ φ_ν(θ_i) with φ_ν(t) = √(t² + ν²) - ν ("l1", which
    pushes entries that matter little near 0).

    Args:
        weight: factor [unit of the loss].
        parameters: names of θ, or prefixes of them up to a dot; all if none.
        norm: which.
        smoothing: ν, the size up to which "l1" is a square [unit of the parameters].

    Raises:
        InputError: numbers that are not positive, an unknown norm, or names of nothing learned.

    Example:
        >>> Size(2.0).value({"w": torch.tensor([1.0, 2.0])})
        5.0
    """

    weight: float = 1.0
    parameters: tuple[str, ...] = ()
    norm: Literal["l1", "l2"] = "l2"
    smoothing: float = 1e-3

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self.weight, "the weight of a penalty")
        check_positive(self.smoothing, "the smoothing")
        check_choice(self.norm, ("l1", "l2"), "norm")

    def fitted(self, theta: Theta) -> Size:
        """The names must be there."""
        chosen(self.parameters, theta)
        return self

    def of(self, theta: Theta) -> Tensor:
        """The weighted sum over all entries."""
        sizes = [self._one(value.double()) for value in chosen(self.parameters, theta).values()]
        return self.weight * torch.stack(sizes).sum()

    def _one(self, value: Tensor) -> Tensor:
        if self.norm == "l2":
            return 0.5 * value.square().sum()
        return (self.smoothing * CHARBONNIER.value(value / self.smoothing)).sum()

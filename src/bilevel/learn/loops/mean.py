"""The mean direction of an outer step, and how it turns: what the length of steps goes by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor

from bilevel.ground import theta as algebra
from bilevel.ground.theta import Theta
from bilevel.learn.directions import Directions

__all__ = ["Mean", "Turn"]

_SMALL = 1e-12
"""Weight of what is not trusted at all, so that means exist."""


class Turn(Enum):
    """How the mean direction changes from one outer step to the next."""

    BACK = -1
    ASIDE = 0
    STRAIGHT = 1


@dataclass
class Mean:
    """Of the directions of θ in an outer step by their trust, and whether they alternate."""

    total: Theta = field(default_factory=dict[str, Tensor])
    places: Theta = field(default_factory=dict[str, Tensor])
    last: Theta = field(default_factory=dict[str, Tensor])
    loss: float = 0.0
    count: int = 0
    weight: float = 0.0
    trusted: float = 0.0
    turns: float = 0.0
    power: float = 0.0

    def add(self, theta: Theta, found: Directions) -> None:
        """One iteration at ``theta``."""
        grad, weight = found.theta, found.trust + _SMALL
        self.turns += weight * algebra.inner(grad, self.last) if self.last else 0.0
        self.power += weight * algebra.inner(grad, grad)
        zero = {name: torch.zeros_like(value) for name, value in grad.items()}
        self.total = algebra.add(self.total or zero, grad, weight)
        self.places = algebra.add(self.places or zero, theta, weight)
        self.loss, self.count, self.last = self.loss + found.value, self.count + 1, grad
        self.weight += weight
        self.trusted += found.trust

    @property
    def finite(self) -> bool:
        """Whether loss and directions are numbers so far."""
        return math.isfinite(self.loss) and math.isfinite(self.power)

    @property
    def trust(self) -> float:
        """The mean, zero where θ did not move."""
        return self.trusted / self.count

    def turn(self, before: Theta) -> Turn:
        """From the mean direction ``before`` to this one."""
        now = self.theta
        both = algebra.inner(now, before)
        if both < 0 or self.turns < -0.5 * self.power:
            return Turn.BACK
        straight = both > 0.8 * algebra.norm(now) * algebra.norm(before)
        return Turn.STRAIGHT if straight else Turn.ASIDE

    def newton(self, centre: Theta, before: Theta) -> float:
        """The step 1/curvature that the mean ``before`` at ``centre`` and this one show.

        ⟨Δθ, Δg⟩/‖Δg‖², the shorter of Barzilai and Borwein's; negative where F is concave.
        """
        change = algebra.add(self.theta, before, -1.0)
        power = algebra.inner(change, change)
        if power == 0:
            return 0.0
        return algebra.inner(algebra.add(self.centre, centre, -1.0), change) / power

    @property
    def value(self) -> float:
        """The mean loss."""
        return self.loss / self.count

    @property
    def theta(self) -> Theta:
        """The mean direction."""
        return {name: value / self.weight for name, value in self.total.items()}

    @property
    def centre(self) -> Theta:
        """The mean θ: to first order, the mean direction is that at it."""
        return {name: value / self.weight for name, value in self.places.items()}

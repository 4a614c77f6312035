"""Sets Θ that parameters live in, with exact Euclidean projections."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta
from bilevel.model.l1_ball import projection, threshold

__all__ = ["Ball", "Box", "CappedSimplex", "L1Ball", "Product", "Set", "Simplex", "ZeroMean"]


class Set(ABC):
    """A closed convex set of tensors."""

    @abstractmethod
    def project(self, value: Tensor) -> Tensor:
        """The point of the set nearest to ``value``."""

    def tangent(self, direction: Tensor) -> Tensor:
        """What of a direction stays among the differences of points of the set; all of it here.

        Whatever else a gradient tells is undone by the projection, and may be much larger.
        """
        return direction


@dataclass(frozen=True)
class Box(Set):
    """lower <= value <= upper, entry by entry.

    Example:
        >>> Box(0.0, 1.0).project(torch.tensor([-1.0, 0.5, 2.0]))
        tensor([0.0000, 0.5000, 1.0000])
    """

    lower: float = -math.inf
    upper: float = math.inf

    def __post_init__(self) -> None:
        """Refuse an empty box."""
        if not self.lower <= self.upper:
            raise InputError("a box needs lower <= upper", given=(self.lower, self.upper))

    def project(self, value: Tensor) -> Tensor:
        """Clamp every entry."""
        return value.clamp(self.lower, self.upper)


@dataclass(frozen=True)
class Ball(Set):
    """‖value‖ <= radius, Euclidean over all entries.

    Example:
        >>> Ball(1.0).project(torch.tensor([3.0, 4.0]))
        tensor([0.6000, 0.8000])
    """

    radius: float

    def __post_init__(self) -> None:
        """Refuse an empty ball."""
        check_positive(self.radius, "radius of a ball")

    def project(self, value: Tensor) -> Tensor:
        """Shrink towards 0 when outside."""
        norm = value.square().sum().sqrt()
        return value * (self.radius / norm) if norm > self.radius else value


@dataclass(frozen=True)
class ZeroMean(Set):
    """Every filter (the last ``dims`` dimensions) has mean zero, and at most norm ``radius``.

    Example:
        >>> ZeroMean(1).project(torch.tensor([1.0, 3.0]))
        tensor([-1.,  1.])
    """

    dims: int = 2
    radius: float = math.inf

    def __post_init__(self) -> None:
        """Refuse an empty ball."""
        if self.radius != math.inf:
            check_positive(self.radius, "radius")

    def project(self, value: Tensor) -> Tensor:
        """Subtract the mean, then shrink: the ball lies around zero, so that both stay true."""
        axes, centred = tuple(range(-self.dims, 0)), self.tangent(value)
        if self.radius == math.inf:
            return centred
        norm = centred.square().sum(dim=axes, keepdim=True).sqrt()
        return centred * (self.radius / norm.clamp_min(self.radius))

    def tangent(self, direction: Tensor) -> Tensor:
        """Subtract the mean of every filter."""
        return direction - direction.mean(dim=tuple(range(-self.dims, 0)), keepdim=True)


@dataclass(frozen=True)
class Simplex(Set):
    """Entries are not negative and sum to ``total``.

    Source: Held, Wolfe, Crowder 1974, "Validation of subgradient optimization".

    Example:
        >>> Simplex().project(torch.tensor([1.0, 1.0]))
        tensor([0.5000, 0.5000])
    """

    total: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an empty simplex."""
        check_positive(self.total, "total of a simplex")

    def project(self, value: Tensor) -> Tensor:
        """Subtract the threshold that makes the positive part sum to ``total``."""
        ordered = value.flatten().sort(descending=True).values
        excess = ordered.cumsum(0) - self.total
        count = torch.arange(1, ordered.numel() + 1, dtype=value.dtype, device=value.device)
        active = int((ordered * count > excess).sum())
        return (value - excess[active - 1] / active).clamp_min(0.0)

    def tangent(self, direction: Tensor) -> Tensor:
        """Subtract the mean: the sum stays."""
        return direction - direction.mean()


@dataclass(frozen=True)
class CappedSimplex(Set):
    """Entries lie between 0 and 1 and sum to ``total``: a budget.

    The projection is clip(v - ν, 0, 1); the sum of that is piecewise linear in ν and falls from n
    to 0 between the least v - 1 and the largest v, so that ν is found exactly by sorting.

    Source: Wang and Lu 2015, "Projection onto the capped simplex" (arXiv 1503.01002).

    Raises:
        InputError: a total that is not positive; by ``project``, one larger than n.

    Example:
        >>> CappedSimplex(1.5).project(torch.tensor([2.0, 0.5, 0.25, -1.0]))
        tensor([1.0000, 0.3750, 0.1250, 0.0000])
    """

    total: float

    def __post_init__(self) -> None:
        """Refuse an empty set."""
        check_positive(self.total, "total of a capped simplex")

    def project(self, value: Tensor) -> Tensor:
        """Subtract the threshold at which the clipped entries sum to ``total``."""
        v = value.double().flatten()
        excess = v.numel() - self.total
        if excess < -1e-6 * self.total:
            what = f"{v.numel()} entries between 0 and 1 cannot sum to {self.total:g}"
            raise InputError(what, advice="lower the total")
        turns, order = torch.cat([v - 1, v]).sort()
        falling = torch.where(order < v.numel(), 1.0, -1.0).double().cumsum(0)
        fallen = (falling[:-1] * turns.diff()).cumsum(0)
        left = excess - torch.cat([fallen.new_zeros(1), fallen])
        last = max(int((left >= 0).sum()) - 1, 0)
        threshold = turns[last] + left[last] / falling[last].clamp_min(1.0)
        return (v - threshold).clamp(0.0, 1.0).to(value.dtype).view_as(value)

    def tangent(self, direction: Tensor) -> Tensor:
        """Subtract the mean: the sum stays."""
        return direction - direction.mean()


@dataclass(frozen=True)
class L1Ball(Set):
    """The absolute values along the last dimension sum to at most ``radius``.

    Source: Duchi et al. 2008, "Efficient projections onto the l1-ball".

    Example:
        >>> L1Ball().project(torch.tensor([[1.0, -1.0], [0.25, 0.5]]))
        tensor([[ 0.5000, -0.5000],
                [ 0.2500,  0.5000]])
    """

    radius: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an empty ball."""
        check_positive(self.radius, "radius of a ball")

    def project(self, value: Tensor) -> Tensor:
        """Shrink every vector towards 0 by its own threshold."""
        parts = (value / self.radius).unbind(-1)
        return self.radius * torch.stack(projection(parts, threshold(parts)), -1)


@dataclass(frozen=True)
class Product:
    """A set for each named parameter; a parameter without one is free.

    Example:
        >>> Product({"w": Box(0.0, 1.0)}).project({"w": torch.tensor(2.0), "b": torch.tensor(2.0)})
        {'w': tensor(1.), 'b': tensor(2.)}
    """

    sets: Mapping[str, Set]

    def project(self, theta: Theta) -> Theta:
        """The nearest θ, parameter by parameter."""
        return {k: self.sets[k].project(v) if k in self.sets else v for k, v in theta.items()}

    def tangent(self, direction: Theta) -> Theta:
        """What of a direction stays among differences of points, parameter by parameter."""
        return {k: self.sets[k].tangent(v) if k in self.sets else v for k, v in direction.items()}

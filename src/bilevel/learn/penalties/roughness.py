"""The roughness of maps of parameters: neighbours share what they learn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta
from bilevel.learn.penalties.penalty import Penalty, chosen
from bilevel.model.operators import Differences

__all__ = ["Roughness"]

DIFFERENCES = Differences()
_MAP = 2


@dataclass(frozen=True)
class Roughness(Penalty):
    """The roughness of maps, such as one weight a pixel: neighbours then share what they learn.

    r(θ) = weight Σ mean |D m|² over the maps m (h, w) of θ, D their forward differences; of weights
    that is said of the logarithms, in which they are stored (as Hintermüller, Rautenberg 2017, who
    penalise the gradient of the map).

    Args:
        weight: factor [unit of the loss].
        parameters: names of maps, or prefixes of them up to a dot; all parameters with two
            dimensions if none.

    Raises:
        InputError: a weight that is not positive, or no map.

    Example:
        >>> Roughness(2.0).value({"w": torch.tensor([[0.0, 1.0]])})
        1.0
    """

    weight: float = 1.0
    parameters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the weight."""
        check_positive(self.weight, "the weight of a penalty")

    def fitted(self, theta: Theta) -> Roughness:
        """There must be maps, and nothing else under the names that are given."""
        maps = self._maps(theta)
        named = chosen(self.parameters, theta) if self.parameters else maps
        if not maps or len(named) > len(maps):
            shapes = ", ".join(f"{k} {tuple(v.shape)}" for k, v in (named or theta).items())
            advice = "learn a map of weights, or leave the penalty out"
            raise InputError("roughness is one of maps (h, w)", given=shapes, advice=advice)
        return self

    def _maps(self, theta: Theta) -> Theta:
        found = chosen(self.parameters, theta)
        return {k: v for k, v in found.items() if v.ndim == _MAP and v.numel() > 1}

    def of(self, theta: Theta) -> Tensor:
        """The sum over all maps."""
        total = torch.zeros((), dtype=torch.float64)
        for value in self._maps(theta).values():
            total = total + DIFFERENCES(value[None, None]).double().square().sum() / value.numel()
        return self.weight * total

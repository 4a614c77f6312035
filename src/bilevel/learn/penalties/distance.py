"""The squared distance of parameters to values that are known to be reasonable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground.checks import check_finite, check_positive, numbers
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta
from bilevel.learn.penalties.penalty import Penalty, chosen

__all__ = ["Distance"]


@dataclass(frozen=True)
class Distance(Penalty):
    """The squared distance of parameters to given values, or to those that learning starts from.

    r(θ) = weight/2 Σ |θ_i - value_i|² over the entries of the parameters named.

    Weights are stored as logarithms, and so are smoothings: a distance of 1 is a factor of e.

    Args:
        weight: factor [unit of the loss].
        parameters: names of θ, or prefixes of them up to a dot; all if none.
        values: numbers by name or prefix, in place of the first values.

    Raises:
        InputError: a weight that is not positive, or names of nothing that is learned.

    Example:
        >>> near = Distance(2.0, values={"w": 1.0})
        >>> near.value_and_grad({"w": torch.tensor([3.0])})
        (4.0, {'w': tensor([4.])})
    """

    weight: float = 1.0
    parameters: tuple[str, ...] = ()
    values: Mapping[str, float] | None = None
    first: Theta | None = None
    """The values, by parameter."""

    def __post_init__(self) -> None:
        """Check the weight."""
        check_positive(self.weight, "the weight of a penalty")
        for name, value in (self.values or {}).items():
            numbers(value, f"the value of '{name}'")

    def fitted(self, theta: Theta) -> Distance:
        """With the first values of a problem, where none are given."""
        return replace(self, first=self._values(theta))

    def _values(self, theta: Theta) -> Theta:
        if self.first is not None:
            for name, value in self.first.items():
                if name not in theta or theta[name].shape != check_finite(value, name).shape:
                    raise InputError(f"the penalty has values of '{name}' that θ does not have")
            return self.first
        picked = dict(chosen(self.parameters, theta))
        for name, value in (self.values or {}).items():
            for covered in chosen((name,), theta):
                picked[covered] = torch.full_like(theta[covered], value)
        return {name: value.detach().clone() for name, value in picked.items()}

    def of(self, theta: Theta) -> Tensor:
        """Half the weighted sum of squares."""
        squares = [(theta[k].double() - v.double()).square().sum() for k, v in self._of(theta)]
        return 0.5 * self.weight * torch.stack(squares).sum()

    def _of(self, theta: Theta) -> list[tuple[str, Tensor]]:
        return list((self._values(theta) if self.first is None else self.first).items())

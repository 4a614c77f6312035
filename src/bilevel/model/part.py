"""A part of an energy: it declares the sets of its parameters and how to build it again."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from bilevel.ground.checks import check_choice, check_finite
from bilevel.ground.errors import InputError
from bilevel.model.sets import Box, Product, Set

__all__ = ["Part", "Units", "around", "positive_parameter", "space_of"]

FACTORS = 1e-8, 1e6
"""How far positive parameters may move from where they are, so that mu and L stay finite."""
LARGEST = 1e30
"""Positive parameters lie between its inverse and it, as float32 can hold no more."""


@dataclass(frozen=True)
class Units:
    """In what defaults are measured: what differs between data in 0..1 and the same in 0..255."""

    grey: float = 1.0
    """The contrast c of the images [grey value]."""
    fidelity: float = 1.0
    """What Ψ grows by with the data: c² for squared distances, c for absolute ones."""


class Part(nn.Module):
    """A building block with parameters in declared sets.

    Parameters that are left to the data (:meth:`leave`) are those for a contrast of 1 until the
    energy sees its first data; then :meth:`settle` gives them their units, once and for all.
    """

    def __init__(self) -> None:
        """Nothing is left to the data."""
        super().__init__()
        self.left: dict[str, tuple[int, int]] = {}

    def leave(self, name: str, *, grey: int = 0, fidelity: int = 0) -> None:
        """The logarithm ``name`` is in units of contrast^grey · fidelity^fidelity, yet unknown."""
        self.left[name] = grey, fidelity

    def settle(self, units: Units) -> None:
        """Give the parameters that were left to the data their units."""
        with torch.no_grad():
            for name, (grey, fidelity) in self.left.items():
                shift = grey * math.log(units.grey) + fidelity * math.log(units.fidelity)
                self.get_parameter(name).add_(shift)
        self.left.clear()

    def sets(self) -> Mapping[str, Set]:
        """The set of each of its own parameters; a parameter that is not named is free."""
        return {}

    def options(self) -> dict[str, object]:
        """The arguments that build this part again: plain values, tensors, other parts."""
        return {}


def space_of(module: nn.Module) -> Product:
    """The sets that all parts of ``module`` declare, under the names of ``named_parameters``."""
    sets: dict[str, Set] = {}
    modules = cast(Iterable[tuple[str, nn.Module]], module.named_modules())
    for prefix, part in modules:
        if isinstance(part, Part):
            for name, admissible in part.sets().items():
                sets[f"{prefix}.{name}" if prefix else name] = admissible
    return Product(sets)


def positive_parameter(value: float | Tensor, name: str, learn: Collection[str]) -> nn.Parameter:
    """The logarithm of a positive value as a parameter, learnable if ``name`` is in ``learn``.

    Raises:
        InputError: a value that is not positive, not finite, or not in [1e-30, 1e30].
    """
    tensor = check_finite(torch.as_tensor(value, dtype=torch.get_default_dtype()).detach(), name)
    if not bool((tensor > 0).all()):
        raise InputError(f"{name} must be positive", given=float(tensor.min()))
    if not bool(((tensor >= 1 / LARGEST) & (tensor <= LARGEST)).all()):
        given = float(tensor.min()), float(tensor.max())
        advice = "measure grey values in another unit"
        raise InputError(f"{name} must lie in [1e-30, 1e30]", given=given, advice=advice)
    return nn.Parameter(tensor.log(), requires_grad=name in learn)


def around(log: Tensor, factors: tuple[float, float] = FACTORS) -> Box:
    """Where the logarithms of positive parameters live that are ``log`` now.

    From ``factors`` times the least to ``factors`` times the largest: the same set in any unit.

    Example:
        >>> box = around(torch.zeros(2))
        >>> round(math.exp(box.lower), 12), round(math.exp(box.upper))
        (1e-08, 1000000)
    """
    low, high = (math.log(factor) for factor in factors)
    return Box(float(log.detach().min()) + low, float(log.detach().max()) + high)


def check_learn(learn: Collection[str], names: Collection[str]) -> None:
    """Raise InputError for a name in ``learn`` that the part cannot learn."""
    for name in learn:
        check_choice(name, names, "learnable parameter")

"""A part of an energy: it declares the sets of its parameters and how to build it again."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from bilevel.ground.checks import check_choice, check_finite
from bilevel.ground.errors import InputError
from bilevel.model.sets import Box, Product, Set

__all__ = ["POSITIVE", "Part", "positive_parameter", "space_of", "zeros_for"]

POSITIVE = Box(math.log(1e-8), math.log(1e4))
"""Where logarithms of positive parameters live, so that mu and L stay finite."""


class Part(nn.Module):
    """A building block with parameters in declared sets."""

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


def zeros_for(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """An image of zeros (1, *shape) of the dtype and on the device of the module's tensors."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            return torch.zeros(1, *shape, dtype=tensor.dtype, device=tensor.device)
    return torch.zeros(1, *shape)


def positive_parameter(
    value: float | Tensor, name: str, learn: Collection[str], logs: Box = POSITIVE
) -> nn.Parameter:
    """The logarithm of a positive value as a parameter, learnable if ``name`` is in ``learn``.

    Raises:
        InputError: a value that is not positive, not finite, or whose logarithm is not in ``logs``.
    """
    tensor = check_finite(torch.as_tensor(value, dtype=torch.get_default_dtype()).detach(), name)
    if not bool((tensor > 0).all()):
        raise InputError(f"{name} must be positive", given=float(tensor.min()))
    log = tensor.log()
    if not torch.equal(logs.project(log), log):
        low, high = (round(limit / math.log(10)) for limit in (logs.lower, logs.upper))
        given = float(tensor.min()), float(tensor.max())
        raise InputError(f"{name} must lie in [1e{low}, 1e{high}]", given=given)
    return nn.Parameter(log, requires_grad=name in learn)


def check_learn(learn: Collection[str], names: Collection[str]) -> None:
    """Raise InputError for a name in ``learn`` that the part cannot learn."""
    for name in learn:
        check_choice(name, names, "learnable parameter")

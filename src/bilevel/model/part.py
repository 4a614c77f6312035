"""A part of an energy: it declares the sets of its parameters and how to build it again."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from bilevel.ground.checks import check_choice, numbers
from bilevel.ground.errors import InputError
from bilevel.ground.given import Typed
from bilevel.model.sets import Box, Product, Set

__all__ = [
    "Part",
    "Units",
    "accounted_under",
    "around",
    "check_learn",
    "one_or_each",
    "positive_parameter",
    "space_of",
    "unaccounted",
    "zeros_for",
]

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


class Part(Typed, nn.Module):
    """A building block with parameters in declared sets.

    A tensor that is set as an attribute becomes a buffer, not saved with the state, so that
    ``.double()`` and ``.to(device)`` reach it. Parameters that are left to the data
    (:meth:`leave`) are those for a contrast of 1 until the energy sees its first data; then
    :meth:`take_units` gives them their units, once and for all.

    Example:
        >>> part = Part()
        >>> part.centre = torch.zeros(2)
        >>> part.double().centre.dtype
        torch.float64
    """

    maps: ClassVar[frozenset[str]] = frozenset()
    """Parameters that may be a number or a map (h, w)."""
    before: ClassVar[Mapping[str, object]] = {}
    """What options of this very class were that descriptions of earlier versions do not name."""

    def __init__(self) -> None:
        """Nothing is left to the data."""
        super().__init__()
        self.left: dict[str, tuple[int, int]] = {}

    def leave(self, name: str, *, grey: int = 0, fidelity: int = 0) -> None:
        """The logarithm ``name`` is in units of contrast^grey · fidelity^fidelity, yet unknown."""
        self.left[name] = grey, fidelity

    def take_units(self, units: Units) -> None:
        """Give the parameters that were left to the data their units."""
        with torch.no_grad():
            for name, (grey, fidelity) in self.left.items():
                shift = grey * math.log(units.grey) + fidelity * math.log(units.fidelity)
                self.get_parameter(name).add_(shift)
        self.left.clear()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        """Complex tensors are converted like the pairs of numbers they are, and stay complex."""

        def kept(t: Tensor) -> Any:
            if not t.is_complex():
                return fn(t)
            pairs = fn(torch.view_as_real(t.resolve_conj()))
            return fn(t) if pairs.is_complex() else torch.view_as_complex(pairs.contiguous())

        return super()._apply(kept, recurse)  # pyright: ignore[reportUnknownMemberType]

    def __setattr__(self, name: str, value: object) -> None:
        """As for any module; plain tensors with a new name are registered as buffers."""
        plain = isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
        taken = name in dir(self) if plain else True
        if isinstance(value, Tensor) and not taken:
            self.register_buffer(name, value, persistent=False)
        else:
            super().__setattr__(name, cast(Tensor | nn.Module, value))

    def broadcasts(self) -> frozenset[str]:
        """Parameters that value-and-gradient, gradient and Hessian also take with rows.

        That is as (b, 1, 1, 1) or (b, 1, h, w), a value or a map for each image; none unless
        overridden. Others are mapped over, which is slower.
        """
        return frozenset()

    def sets(self) -> Mapping[str, Set]:
        """The set of each of its own parameters; a parameter that is not named is free."""
        return {}

    def options(self) -> dict[str, object]:
        """The arguments that build this part again: plain values, tensors, other parts."""
        return {}

    def accounted(self) -> frozenset[str]:
        """Parameters whose influence its error bounds know, named as in ``named_parameters``.

        Of a term or an energy: those that ``variation`` bounds the derivatives by. None unless
        overridden, so that nothing is claimed about a parameter that was forgotten.
        """
        return frozenset()


def accounted_under(prefix: str, part: Part) -> frozenset[str]:
    """What ``part`` accounts for, as a part named ``prefix`` of another."""
    return frozenset(f"{prefix}.{name}" for name in part.accounted())


def unaccounted(part: Part) -> list[str]:
    """The learnable parameters of ``part`` that its error bounds do not know.

    Example:
        >>> from bilevel.model.regularisers import Tikhonov
        >>> term = Tikhonov(1.0)
        >>> term.extra = nn.Parameter(torch.zeros(()))
        >>> unaccounted(term)
        ['extra']
    """
    known = part.accounted()
    named = cast(Iterable[tuple[str, Tensor]], part.named_parameters(remove_duplicate=False))
    return [name for name, p in named if p.requires_grad and name not in known]


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


def positive_parameter(value: float | Tensor, name: str, learn: Collection[str]) -> nn.Parameter:
    """The logarithm of a positive value as a parameter, learnable if ``name`` is in ``learn``.

    Raises:
        InputError: a value that is not positive, not finite, or not in [1e-30, 1e30], or one that
            requires a gradient.
    """
    tensor = numbers(value, name)
    if not bool((tensor > 0).all()):
        raise InputError(f"{name} must be positive", given=float(tensor.min()))
    if not bool(((tensor >= 1 / LARGEST) & (tensor <= LARGEST)).all()):
        given = float(tensor.min()), float(tensor.max())
        advice = "measure grey values in another unit"
        raise InputError(f"{name} must lie in [1e-30, 1e30]", given=given, advice=advice)
    return nn.Parameter(tensor.log(), requires_grad=name in learn)


def one_or_each(value: float | Tensor, count: int, name: str, of: str = "") -> Tensor:
    """(count,): a number for all, or one each; ``of`` says what there are so many of.

    Raises:
        InputError: another number of them, complex ones, or some that are not finite.

    Example:
        >>> one_or_each(0.5, 2, "weight")
        tensor([0.5000, 0.5000])
    """
    tensor = numbers(value, name)
    if tensor.ndim > 1 or (tensor.ndim == 1 and len(tensor) != count):
        each = f", one a {of}" if of else ""
        expected = f"{name} must be a number or have shape ({count},){each}"
        raise InputError(expected, given=tuple(tensor.shape))
    return tensor.expand(count).clone()


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

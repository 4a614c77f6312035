"""What makes a problem another one than the problem of a fit: facts to compare, with names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from bilevel.ground.errors import InputError
from bilevel.ground.fingerprint import fingerprint
from bilevel.ground.naming import name_of_class
from bilevel.ground.packing import Packable
from bilevel.model.describe import describe

__all__ = ["Identity", "facts", "nearby"]

_CLOSE = 1e-4
"""Relative difference of values that rounding, threads and compilers may make."""


@dataclass(frozen=True)
class Identity(Packable):
    """Facts by dotted name, the samples, and the values of both levels at one point.

    The values tell functions apart that no description tells: energies, losses or sums of one's
    own.

    Example:
        >>> one = Identity({"loss": "PSNR"}, "a", 1.0, 2.0)
        >>> one.difference(Identity({"loss": "SquaredError"}, "a", 1.0, 2.0))
        ('loss', 'PSNR', 'SquaredError')
    """

    facts: dict[str, str]
    samples: str
    lower: float
    """J of the first sample near its start, at the reference θ."""
    upper: float
    """ℓ there."""

    def also(self, name: str, value: object) -> Identity:
        """With one more thing that matters."""
        return replace(self, facts={**facts(value, name), **self.facts})

    def difference(self, other: Identity) -> tuple[str, str, str] | None:
        """The first thing that is different in ``other``, here and there; None if nothing is."""
        for name in dict.fromkeys([*self.facts, *other.facts]):
            here, there = (one.facts.get(name, "nothing") for one in (self, other))
            if here != there:
                return name, here, there
        if self.samples != other.samples:
            return "samples", "samples", "other samples"
        for name in ("lower", "upper"):
            here, there = float(getattr(self, name)), float(getattr(other, name))
            same = here == there or (math.isnan(here) and math.isnan(there))
            if not same and not math.isclose(here, there, rel_tol=_CLOSE):
                return f"value of the {name} level", f"{here:.6g}", f"{there:.6g}"
        return None


def facts(value: object, name: str) -> dict[str, str]:
    """``value`` as words by dotted name; objects without a description are their class.

    Example:
        >>> facts({"a": [1, None]}, "x")
        {'x.a.0': '1', 'x.a.1': 'None'}
    """
    if isinstance(value, Tensor):
        return {name: f"{value.dtype} {tuple(value.shape)} {fingerprint([], value)[:12]}"}
    if isinstance(value, nn.Module):
        return _of_module(value, name)
    if isinstance(value, Mapping):
        return _joined(name, cast(Mapping[str, object], value).items())
    if isinstance(value, list | tuple):
        return _joined(name, enumerate(cast(list[object], value)))
    if value is None or isinstance(value, bool | int | float | str):
        return {name: repr(value)}
    found = {name: name_of_class(type(value))}
    if is_dataclass(value):
        found |= _joined(name, ((f.name, getattr(value, f.name)) for f in fields(cast(Any, value))))
    return found


def nearby(x: Tensor) -> Tensor:
    """A point near ``x``, of its size, where no term of an energy vanishes by chance."""
    size = float(x.double().square().mean().sqrt()) or 1.0
    wave = torch.arange(x.numel(), device=x.device).cos().view_as(x).to(x)
    return x + 0.1 * size * wave


def _of_module(module: nn.Module, name: str) -> dict[str, str]:
    try:
        description, tensors = describe(module)
    except InputError:  # of one's own, which cannot be saved but learned
        state = cast(Mapping[str, object], module.state_dict())
        return {name: name_of_class(type(module)), **_joined(name, state.items())}
    return {**_flat(description, name), **_joined(name, tensors.items())}


def _flat(description: Mapping[str, Any], name: str) -> dict[str, str]:
    """A description without the words that structure it."""
    found = {name: str(description["type"])}
    for key, value in cast(dict[str, Any], description["options"]).items():
        inner = f"{name}.{key}"
        if isinstance(value, dict) and "type" in value:
            found |= _flat(cast(dict[str, Any], value), inner)
        elif isinstance(value, list):
            parts = enumerate(cast(list[Any], value))
            found |= _flat({"type": "list", "options": {str(k): v for k, v in parts}}, inner)
        elif not isinstance(value, dict):
            found |= facts(value, inner)
    return found


def _joined(name: str, parts: Iterable[tuple[object, object]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in parts:
        found |= facts(value, f"{name}.{key}")
    return found

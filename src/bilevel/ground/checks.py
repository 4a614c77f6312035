"""Checks of what a caller gives, before any long work starts."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor

from bilevel.ground.errors import InputError, nearest, shortened

__all__ = [
    "DETACH",
    "check_choice",
    "check_constant",
    "check_count",
    "check_finite",
    "check_fraction",
    "check_images",
    "check_kind",
    "check_matching",
    "check_nonnegative",
    "check_positive",
    "numbers",
]


K = TypeVar("K")
LARGEST = sys.float_info.max
"""Whole numbers beyond it are no numbers to compute with."""
DETACH = "give its detach() to learn from its values, or theta to what takes one"
"""Advice where a gradient would be lost."""


def check_positive(value: float, name: str) -> float:
    """``value`` if it is a finite number > 0.

    Example:
        >>> check_positive(0.5, "weight")
        0.5
    """
    if not 0 < value <= LARGEST:
        raise InputError(f"{name} must be a positive finite number", given=value)
    return float(value)


def check_nonnegative(value: float, name: str) -> float:
    """``value`` if it is a finite number >= 0."""
    if not 0 <= value <= LARGEST:
        raise InputError(f"{name} must be a finite number that is not negative", given=value)
    return float(value)


def check_count(value: int | None, name: str) -> None:
    """Raise InputError unless at least one is asked for; None leaves it open."""
    if value is not None and value < 1:
        raise InputError(f"{name} must be at least 1", given=value)


def check_fraction(value: float, name: str) -> float:
    """``value`` if it lies in (0, 1).

    Example:
        >>> check_fraction(0.5, "shrink")
        0.5
    """
    if not 0 < value < 1:
        raise InputError(f"{name} must lie in (0, 1)", given=value)
    return float(value)


def check_choice(value: str, choices: Iterable[str], name: str) -> str:
    """``value`` if it is one of ``choices``; otherwise an error that names the nearest."""
    choices = list(choices)
    if value not in choices:
        raise InputError(f"unknown {name}", given=repr(value), advice=nearest(str(value), choices))
    return value


def check_kind(value: object, kind: type[K], name: str, advice: str) -> K:
    """``value`` if it is an object of the class ``kind``.

    Example:
        >>> check_kind(0.5, float, "weight", "give a number")
        0.5
    """
    if not isinstance(value, kind):
        given = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        word = "nn.Module" if kind is torch.nn.Module else kind.__name__
        what = f"{name} must be {'an' if word[0] in 'AEIOn' else 'a'} {word}"
        raise InputError(what, given=given, advice=advice)
    return value


def check_constant(value: object, name: str, advice: str = DETACH) -> None:
    """Raise InputError for a tensor that requires a gradient, which a copy would not hand on."""
    if isinstance(value, Tensor) and value.requires_grad:
        what = f"{name} is copied, and no gradient would reach what it was computed from"
        raise InputError(what, given="a tensor that requires a gradient", advice=advice)


def check_finite(x: Tensor, name: str) -> Tensor:
    """``x`` if it has neither NaN nor infinity."""
    bad = int((~torch.isfinite(x)).sum())
    if bad:
        raise InputError(f"{name} must be finite", given=f"{bad} NaN or infinite values")
    return x


def check_images(x: object, name: str) -> Tensor:
    """``x`` if it is a finite floating-point batch of images (b, c, h, w)."""
    if not isinstance(x, Tensor):
        advice = "torch.as_tensor(x), or torch.stack of images of one size"
        raise InputError(f"{name} must be a tensor", given=type(x).__name__, advice=advice)
    if x.ndim != 4 or 0 in x.shape:
        advice = "add dimensions with x[None, None] for one grey image"
        raise InputError(
            f"{name} must have shape (b, c, h, w)", given=tuple(x.shape), advice=advice
        )
    if x.dtype not in (torch.float32, torch.float64):
        advice = "convert with .float() or .double() and scale to grey values in [0, 1]"
        raise InputError(f"{name} must be float32 or float64", given=x.dtype, advice=advice)
    return check_finite(x, name)


def check_matching(x: Tensor, name: str, like: Tensor, like_name: str) -> Tensor:
    """``x`` if it has the dtype and device of ``like``."""
    if x.dtype != like.dtype or x.device != like.device:
        raise InputError(
            f"{name} is {x.dtype} on {x.device}",
            given=f"{like_name} in {like.dtype} on {like.device}",
            advice=f"convert one of them with .to({like.dtype})",
        )
    return x


def numbers(value: float | Tensor, name: str) -> Tensor:
    """A number, or a tensor of real ones, in the default type: finite, and at least one.

    It is copied; a tensor that requires a gradient, which would be lost, is refused.

    Example:
        >>> numbers(0.5, "weight")
        tensor(0.5000)
    """
    check_constant(value, name)
    try:
        tensor = torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} must be numbers", given=shortened(repr(value))) from error
    if tensor.is_complex():
        advice = "give its real part or its abs()"
        raise InputError(f"{name} must be real", given=f"a tensor, {tensor.dtype}", advice=advice)
    if tensor.numel() == 0:
        raise InputError(f"{name} must not be empty", given=f"a tensor {tuple(tensor.shape)}")
    return check_finite(tensor.to(torch.get_default_dtype(), copy=True), name)

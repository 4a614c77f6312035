"""What directional terms are given, checked: exponents, angles, anisotropies, and maps of them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from bilevel.ground.checks import numbers
from bilevel.ground.errors import InputError
from bilevel.model.operators.operator import Shape

__all__ = [
    "LARGEST_ANISOTROPY",
    "LEAST_EXPONENT",
    "check_exponent",
    "check_maps",
    "check_sizes",
    "direction",
]

LEAST_EXPONENT, LARGEST_EXPONENT = 0.3, 2.0
LARGEST_ANISOTROPY = 50.0
"""The ratio of the eigenvalues of a metric."""


def check_exponent(value: float | Tensor) -> Tensor:
    """Exponents in [0.3, 2], of the default type.

    Raises:
        InputError: one out of range, NaN, or that requires a gradient.

    Example:
        >>> check_exponent(0.7)
        tensor(0.7000)
    """
    return _between(value, "exponent", LEAST_EXPONENT, LARGEST_EXPONENT)


def direction(angle: float | Tensor, anisotropy: float | Tensor) -> tuple[Tensor, Tensor]:
    """c and s of a :class:`~bilevel.model.metrics.Metric`, () or (h, w) each.

    Args:
        angle: of the larger eigenvalue, from the first axis [degree].
        anisotropy: ratio of the eigenvalues, in [1, 50] [1].

    Raises:
        InputError: an anisotropy out of range, angles that are not finite, maps of two sizes.

    Example:
        >>> direction(90.0, 9.0)[0].exp()
        tensor(0.3333)
    """
    turn = _between(angle, "angle", -360.0, 360.0) * (math.pi / 90)
    half = 0.5 * _between(anisotropy, "anisotropy", 1.0, LARGEST_ANISOTROPY).log()
    check_maps({"angle": turn, "anisotropy": half})
    return half * turn.cos(), half * turn.sin()


def check_maps(maps: Mapping[str, Tensor]) -> None:
    """Raise InputError unless each is a number () or a map (h, w), and all maps of one size."""
    for name, value in maps.items():
        if value.ndim not in (0, 2):
            what = f"{_word(name)} must be a number or a map of shape (h, w)"
            raise InputError(what, given=tuple(value.shape))
    sizes = {_word(name): tuple(value.shape) for name, value in maps.items() if value.ndim}
    if len(set(sizes.values())) > 1:
        raise InputError("maps must have one size", given=sizes)


def check_sizes(maps: Mapping[str, Tensor], image_shape: Shape) -> None:
    """Raise InputError unless the maps have the size of the image."""
    for name, value in maps.items():
        if value.ndim and tuple(value.shape) != image_shape[1:]:
            raise InputError(
                f"the map of {_word(name)} has shape {tuple(value.shape)}",
                given=f"images of {image_shape[1:]}",
                advice="learn a map on images of one size and use it on that size",
            )


def _word(name: str) -> str:
    return {"cosine": "direction", "sine": "direction"}.get(name, name.removeprefix("log_"))


def _between(value: float | Tensor, name: str, low: float, high: float) -> Tensor:
    tensor = numbers(value, name)
    least, most = float(tensor.min()), float(tensor.max())
    if least < low * (1 - 1e-6 * (low > 0)) or most > high * (1 + 1e-6):
        given = f"{least:g}" if least == most else f"values from {least:g} to {most:g}"
        raise InputError(f"{name} must lie in [{low:g}, {high:g}]", given=given)
    return tensor.clamp(low, high)

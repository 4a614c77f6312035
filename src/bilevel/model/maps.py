"""Maps of a parameter that generalise: values at few knots, interpolated to any image's size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

import torch
from torch import Tensor

from bilevel.ground.checks import check_choice, numbers
from bilevel.ground.errors import InputError

__all__ = ["Between", "Grid"]

Between = Literal["bilinear", "spline", "patch"]
DOUBLE = torch.float64
KINDS = ("bilinear", "spline", "patch")
LEAST = {"bilinear": 1, "spline": 4, "patch": 1}
"""Knots that an axis needs."""


@dataclass(frozen=True)
class Grid:
    """A map m = P c of any size (h, w) from values c at ``knots`` (gh, gw).

    P = P_rows ⊗ P_columns is a partition of unity: its entries are >= 0 and every row sums to 1,
    so that a map lies between the least and the largest of its values. ``between`` knots the map
    is "bilinear", the first and last knot on the first and last pixel; a cubic B-"spline", with
    all its derivatives up to the second continuous; or constant on each "patch".

    Args:
        knots: rows and columns of values.
        between: what lies between them.

    Raises:
        InputError: not two positive numbers, fewer than 4 knots an axis for splines.

    Example:
        >>> Grid((1, 2)).spread(torch.tensor([[0.0, 1.0]]), (1, 3))
        tensor([[0.0000, 0.5000, 1.0000]])
    """

    knots: tuple[int, int]
    between: Between = "bilinear"

    def __post_init__(self) -> None:
        """Check the numbers of knots."""
        check_choice(self.between, KINDS, "kind of grid")
        least = LEAST[self.between]
        whole = all(type(n) is int for n in self.knots)
        if len(self.knots) != 2 or not whole or min(self.knots) < least:
            what = f"a {self.between} grid needs two numbers of knots, each at least {least}"
            raise InputError(what, given=tuple(self.knots), advice="give rows and columns")

    @staticmethod
    def of(knots: Sequence[int] | None, between: Between) -> Grid | None:
        """A grid where knots are given.

        Raises:
            InputError: something between knots that there are none of.
        """
        if knots is None and between != "bilinear":
            what = "what lies between the knots of a grid needs a grid"
            raise InputError(what, given=f"between = {between}", advice="give grid, or no between")
        return None if knots is None else Grid(cast(tuple[int, int], tuple(knots)), between)

    def filled(self, value: float | Tensor, name: str) -> Tensor:
        """``value`` at every knot, unless it has one for each.

        Raises:
            InputError: values of another shape.
        """
        tensor = numbers(value, name)
        if tensor.ndim and tuple(tensor.shape) != self.knots:
            what = f"{name} must be a number or have one value for each knot {self.knots}"
            raise InputError(what, given=tuple(tensor.shape))
        return tensor.expand(self.knots).clone()

    def spread(self, values: Tensor, size: Sequence[int]) -> Tensor:
        """P c: (..., gh, gw) -> (..., h, w)."""
        down, across = self._matrices(size, values.dtype, values.device)
        return down @ values @ across.T

    def norm(self, size: Sequence[int]) -> float:
        """‖P‖, a proved bound to rounding."""
        axes = (cast(Tensor, torch.linalg.matrix_norm(m, 2)) for m in self._matrices(size, DOUBLE))
        return math.prod(map(float, axes)) * (1 + 1e-12)

    def check(self, size: Sequence[int]) -> None:
        """Raise InputError if an image (h, w) has fewer pixels along an axis than knots."""
        if any(n > length for n, length in zip(self.knots, size, strict=True)):
            what = f"a grid of {self.knots[0]}x{self.knots[1]} knots must not exceed the image"
            given = f"an image of {size[0]}x{size[1]}"
            raise InputError(what, given=given, advice="take a coarser grid, or larger images")

    def _matrices(
        self, size: Sequence[int], dtype: torch.dtype, device: torch.device | None = None
    ) -> tuple[Tensor, Tensor]:
        down, across = (
            _matrix(self.between, n, length, dtype, device)
            for n, length in zip(self.knots, size, strict=True)
        )
        return down, across


@lru_cache(maxsize=64)
def _matrix(
    between: Between, knots: int, length: int, dtype: torch.dtype, device: torch.device | None
) -> Tensor:
    """What each knot (columns) contributes to each pixel (rows)."""
    with torch.inference_mode(False):
        place = torch.arange(length, dtype=torch.float64)[:, None]
        knot = torch.arange(knots, dtype=torch.float64)[None]
        if between == "patch":
            share = ((place * knots / length).floor() == knot).double()
        elif between == "bilinear":
            share = (1 - (place * (knots - 1) / max(length - 1, 1) - knot).abs()).clamp_min(0.0)
        else:
            share = _cubic(place * (knots - 3) / max(length - 1, 1) - knot + 1)
        return (share / share.sum(1, keepdim=True)).to(dtype=dtype, device=device)


def _cubic(u: Tensor) -> Tensor:
    """The cubic B-spline of unit knots, centred at 0."""
    far = (2 - u.abs()).clamp_min(0.0) ** 3
    near = (1 - u.abs()).clamp_min(0.0) ** 3
    return (far - 4 * near) / 6

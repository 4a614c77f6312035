"""A batch of linear systems as a solver takes them: checked, with one tolerance a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from bilevel.ground.checks import check_finite, check_matching
from bilevel.ground.errors import InputError
from bilevel.ground.rows import expand
from bilevel.linear.map import LinearMap

__all__ = ["System", "norm"]


@dataclass(frozen=True)
class System:
    """A x = b for each row, to be solved until ``‖b - A x‖ <= tolerance``.

    ``start`` (b, ...) is where to begin, or None for zero; ``tolerance`` is (b,) float64.
    """

    operator: LinearMap
    b: Tensor
    tolerance: Tensor
    start: Tensor | None

    @staticmethod
    def of(
        operator: LinearMap,
        b: Tensor,
        rtol: float | Tensor,
        atol: float | Tensor,
        x0: Tensor | None,
    ) -> System:
        """The system with tolerance ``max(rtol ‖b‖, atol)``; a row with b = 0 starts at zero.

        Raises:
            InputError: shapes, dtypes or devices do not fit, x0 is not finite, or a tolerance
                is negative or NaN.
        """
        if b.ndim < 2 or b.dtype not in (torch.float32, torch.float64):
            given = f"{tuple(b.shape)} {b.dtype}"
            advice = "the first dimension counts the systems: use b[None] for a single one"
            raise InputError("b must be float32 or float64 (b, ...)", given=given, advice=advice)
        size = norm(b)
        relative, absolute = _per_row(rtol, "rtol", size), _per_row(atol, "atol", size)
        tolerance = torch.maximum(relative * size, absolute)
        return System(operator, b, tolerance, _start(x0, b, size))


def norm(a: Tensor) -> Tensor:
    """Euclidean norm of each row in float64, so that no float32 value over- or underflows."""
    return cast(Tensor, torch.linalg.vector_norm(a.flatten(1), dim=1, dtype=torch.float64))


def _per_row(value: float | Tensor, name: str, like: Tensor) -> Tensor:
    tolerance = torch.as_tensor(value, dtype=like.dtype, device=like.device).detach()
    if tolerance.shape not in (torch.Size([]), like.shape):
        what = f"{name} must be a number or one value for each of the {len(like)} rows"
        raise InputError(what, given=f"shape {tuple(tolerance.shape)}")
    if not bool((tolerance >= 0).all()):
        raise InputError(f"{name} must not be negative or NaN", given=float(tolerance.min()))
    return tolerance.expand_as(like)


def _start(x0: Tensor | None, b: Tensor, size: Tensor) -> Tensor | None:
    if x0 is None:
        return None
    if x0.shape != b.shape:
        what = f"x0 must have the shape {tuple(b.shape)} of b"
        raise InputError(what, given=tuple(x0.shape))
    check_finite(check_matching(x0, "x0", b, "b"), "x0")
    return torch.where(expand(size == 0, b), 0, x0)

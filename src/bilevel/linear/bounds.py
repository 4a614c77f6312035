"""How large a linear map is: a proved bound from above, and an estimate from below."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bilevel.ground.checks import check_count
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.ground.rows import norm
from bilevel.linear.map import LinearMap

__all__ = ["power_estimate", "schur_bound"]

_ROUNDING = 1e-12


def schur_bound(
    absolute: Callable[[Tensor], Tensor],
    absolute_adjoint: Callable[[Tensor], Tensor],
    image_shape: tuple[int, ...],
    data_shape: tuple[int, ...],
) -> float:
    """A proved upper bound of ‖A‖² from |A| and |A|ᵀ, the maps with the entries' absolute values.

    The spectral radius of AᵀA is at most that of the matrix |A|ᵀ|A|, hence at most its largest
    row sum; the same holds for AAᵀ. The smaller of the two is returned, never above the product
    of the largest row sum and the largest column sum of |A| (Schur's test), and enlarged by
    1e-12 for rounding. ``absolute`` maps (1, *image_shape) to (1, *data_shape) in float64 by
    sums of non-negative terms (not by an FFT).

    Raises:
        InputError: a result is negative or not finite, so that the maps are not |A| and |A|ᵀ.

    Example:
        >>> matrix = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
        >>> bound = schur_bound(lambda x: x @ matrix.T, lambda y: y @ matrix, (2,), (1,))
        >>> round(bound, 9)
        25.0
    """
    image = torch.ones(1, *image_shape, dtype=torch.float64)
    data = torch.ones(1, *data_shape, dtype=torch.float64)
    with torch.no_grad():
        columns = _row_sums(absolute_adjoint(_row_sums(absolute(image))))
        rows = _row_sums(absolute(_row_sums(absolute_adjoint(data))))
    return min(float(columns.max()), float(rows.max())) * (1 + _ROUNDING)


def _row_sums(sums: Tensor) -> Tensor:
    if not bool((torch.isfinite(sums) & (sums >= 0)).all()):
        what = "a map of absolute values must give finite values that are not negative on ones"
        raise InputError(what, given=f"{float(sums.min())} to {float(sums.max())}")
    return sums


def power_estimate(
    gram: LinearMap, shape: tuple[int, ...], *, steps: int = 50, seed: int = 0
) -> float:
    """An ESTIMATE from below of the largest eigenvalue of a symmetric map >= 0. Not a bound.

    The Rayleigh quotient after ``steps`` power steps from a random start: it never exceeds the
    eigenvalue beyond rounding, and may lie well below it. ``gram`` acts on (1, *shape), float64.

    Raises:
        InputError: ``gram`` gives NaN or infinity, or ``steps`` is below one.

    Example:
        >>> scales = torch.tensor([[1.0, 4.0]], dtype=torch.float64)
        >>> round(power_estimate(LinearMap.shared(lambda v: scales * v), (2,)), 9)
        4.0
    """
    check_count(steps, "steps")
    random = generator(seed, "power_estimate")
    v = torch.randn(1, *shape, dtype=torch.float64, generator=random)
    quotient = 0.0
    with torch.no_grad():
        for _ in range(steps):
            v = v / norm(v)
            image = gram(v)
            quotient, v = float((v * image).sum()), image
            if quotient == 0:
                break
    if not math.isfinite(quotient):
        raise InputError("gram must give finite values", given=quotient)
    return quotient

"""Functions of NumPy arrays as operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model.operators import Linear, Shape

__all__ = ["from_arrays"]

Array = NDArray[Any]
ArrayMap = Callable[[Array], Array]


def from_arrays(
    apply: ArrayMap, transpose: ArrayMap, image_shape: Shape, norm: float | None = None
) -> Linear:
    """An operator from two functions of a single NumPy image each, (h, w) or (c, h, w).

    Args:
        apply: an image -> its data, of any shape, real or complex.
        transpose: data -> an image of the shape that ``apply`` takes.
        image_shape: (c, h, w); with one channel the functions see (h, w).
        norm: as for :class:`~bilevel.operators.Linear`.

    Raises:
        InputError: as for :class:`~bilevel.operators.Linear`.

    Example:
        >>> operator = from_arrays(np.fliplr, np.fliplr, (1, 2, 2), norm=1.0)
        >>> operator(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
        tensor([[[[2., 1.],
                  [4., 3.]]]])
    """
    shape = image_shape if image_shape[0] > 1 else image_shape[1:]

    def forward(x: Tensor) -> Tensor:
        return _stacked([apply(_array(row).reshape(shape)) for row in x], x)

    def adjoint(y: Tensor) -> Tensor:
        return _stacked([transpose(_array(row)) for row in y], y).reshape(-1, *image_shape)

    return Linear(forward, adjoint, image_shape, norm)


def _array(row: Tensor) -> Array:
    return row.detach().cpu().resolve_conj().contiguous().numpy()


def _stacked(results: list[Array], like: Tensor) -> Tensor:
    """As one tensor on the device of the input; results of other precision stay as they are."""
    found = [np.asarray(result) for result in results]
    if len({part.shape for part in found}) != 1 or found[0].dtype.kind not in "fc":
        given = ", ".join(sorted({f"{part.dtype} {part.shape}" for part in found}))
        raise InputError("results must be floating-point arrays of one shape", given=given)
    return torch.from_numpy(np.stack(found)).to(like.device)

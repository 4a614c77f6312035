"""Operators of SciPy, and of PyLops, which derives from it."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import scipy.sparse.linalg  # pyright: ignore[reportMissingTypeStubs]
import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model.operators import Linear, Shape

__all__ = ["from_scipy"]


def from_scipy(operator: object, image_shape: Shape, norm: float | None = None) -> Linear:
    """A ``scipy.sparse.linalg.LinearOperator``, PyLops operators among them.

    Data are (b, 1, 1, m), or pairs of real and imaginary part (b, 2, 1, m) of a complex operator,
    whose images are real here.

    Args:
        operator: of shape (m, n), with ``matmat`` and ``rmatmat`` (or ``matvec`` and ``rmatvec``).
        image_shape: (c, h, w) with c h w = n, in row-major order.
        norm: as for :class:`~bilevel.operators.Linear`.

    Raises:
        InputError: something else, another number of columns, or an ``rmatvec`` that is not the
            adjoint.

    Example:
        >>> from scipy.sparse.linalg import aslinearoperator
        >>> operator = from_scipy(aslinearoperator(np.array([[1.0, 1.0], [0.0, 2.0]])), (1, 1, 2))
        >>> operator(torch.ones(1, 1, 1, 2))
        tensor([[[[2., 2.]]]])
    """
    if not isinstance(operator, scipy.sparse.linalg.LinearOperator):
        advice = "sparse and dense matrices are bl.operators.Matrix(matrix, image_shape)"
        raise InputError(
            "a SciPy LinearOperator is needed", given=type(operator).__name__, advice=advice
        )
    found = cast(Any, operator)
    m, n = found.shape
    if int(np.prod(image_shape)) != n:
        what = f"image_shape (c, h, w) must have as many entries as the operator columns, {n}"
        raise InputError(what, given=image_shape)

    def forward(x: Tensor) -> Tensor:
        return _as_given(found.matmat(_columns(x)), x).reshape(-1, 1, 1, m)

    def adjoint(y: Tensor) -> Tensor:
        return _as_given(found.rmatmat(_columns(y)), y).reshape(-1, *image_shape)

    return Linear(forward, adjoint, image_shape, norm)


def _columns(x: Tensor) -> Any:
    return x.detach().cpu().resolve_conj().reshape(len(x), -1).numpy().T


def _as_given(columns: Any, like: Tensor) -> Tensor:
    """(b, ...) in the precision of what was given: SciPy computes in that of the operator."""
    found = torch.from_numpy(np.ascontiguousarray(np.asarray(columns).T)).to(like.device)
    kind = like.dtype.to_complex() if found.is_complex() else like.dtype.to_real()
    return found.to(kind)

"""Operators of SciPy."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import scipy.sparse.linalg  # pyright: ignore[reportMissingTypeStubs]
import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model.operators import Linear, Shape

__all__ = ["from_columns", "from_scipy"]


def from_scipy(operator: object, image_shape: Shape, norm: float | None = None) -> Linear:
    """A ``scipy.sparse.linalg.LinearOperator``.

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
        advice = "matrices are bl.operators.Matrix(matrix, image_shape), PyLops has from_pylops"
        raise InputError(
            "a SciPy LinearOperator is needed", given=type(operator).__name__, advice=advice
        )
    found = cast(Any, operator)
    return from_columns(found, image_shape, (1, 1, found.shape[0]), norm)


def from_columns(
    operator: Any, image_shape: Shape, data_shape: tuple[int, ...], norm: float | None
) -> Linear:
    """Whatever has ``shape`` (m, n), ``matmat`` and ``rmatmat``; its data are laid out as said.

    Raises:
        InputError: another number of columns, or an ``rmatmat`` that is not the adjoint.
    """
    _, n = operator.shape
    if int(np.prod(image_shape)) != n:
        what = f"image_shape (c, h, w) must have as many entries as the operator columns, {n}"
        raise InputError(what, given=image_shape)

    def forward(x: Tensor) -> Tensor:
        return _as_given(operator.matmat(_columns(x)), x).reshape(-1, *data_shape)

    def adjoint(y: Tensor) -> Tensor:
        return _as_given(operator.rmatmat(_columns(y)), y).reshape(-1, *image_shape)

    return Linear(forward, adjoint, image_shape, norm)


def _columns(x: Tensor) -> Any:
    """The rows of a batch as the columns of a NumPy matrix, (m, b)."""
    return x.detach().cpu().resolve_conj().reshape(len(x), -1).numpy().T


def _as_given(columns: Any, like: Tensor) -> Tensor:
    """(b, ...) in the precision of what was given: SciPy computes in that of the operator."""
    found = torch.from_numpy(np.ascontiguousarray(np.asarray(columns).T)).to(like.device)
    kind = like.dtype.to_complex() if found.is_complex() else like.dtype.to_real()
    return found.to(kind)

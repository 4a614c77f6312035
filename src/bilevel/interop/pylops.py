"""Operators of PyLops."""

from __future__ import annotations

from typing import Any, cast

from bilevel.ground.errors import InputError
from bilevel.ground.extras import load
from bilevel.interop.scipy import from_columns
from bilevel.model.operators import Linear, Shape

__all__ = ["from_pylops"]


def from_pylops(
    operator: object, image_shape: Shape | None = None, norm: float | None = None
) -> Linear:
    """A ``pylops.LinearOperator``.

    Data are laid out as the operator's ``dimsd``, (h', w') or (c', h', w'), otherwise (b, 1, 1, m);
    complex ones as pairs of channels, images being real here. It must compute in float64
    (``dtype="float64"`` or ``"complex128"``), since certificates are taken in double.

    Args:
        operator: of shape (m, n).
        image_shape: (c, h, w) with c h w = n; from the operator's ``dims``, (h, w) or (c, h, w),
            if None.
        norm: as for :class:`~bilevel.operators.Linear`.

    Raises:
        InputError: PyLops is missing, something else than its operators, images of unknown shape,
            or an ``rmatvec`` that is not the adjoint.
    """
    pylops = load("pylops", "an operator of PyLops", "pylops")
    if not isinstance(operator, pylops.LinearOperator):
        advice = "from_scipy takes those of SciPy"
        given = type(operator).__name__
        raise InputError("a PyLops LinearOperator is needed", given=given, advice=advice)
    found = cast(Any, operator)
    own = _shape(found.dims)
    if image_shape is None and own is None:
        what = "the shape of images is needed: image_shape = (c, h, w)"
        raise InputError(what, given=f"an operator on {tuple(found.dims)}")
    data_shape = _shape(found.dimsd) or (1, 1, found.shape[0])
    return from_columns(found, image_shape or cast(Shape, own), data_shape, norm)


def _shape(dims: Any) -> Shape | None:
    """(c, h, w) of what has two or three sides."""
    match tuple(int(side) for side in dims):
        case (h, w):
            return (1, h, w)
        case (c, h, w):
            return (c, h, w)
        case _:
            return None

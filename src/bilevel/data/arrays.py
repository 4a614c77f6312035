"""Arrays in NPY files: pictures, colour pictures, data of coils, and stacks of them."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np

from bilevel.data.storage import Channels, Layout, Pages, Raw, Storage, full_scale, in_grey_values
from bilevel.ground.errors import InputError

__all__ = ["arranged", "read_array", "write_array"]

_NONE: Channels = "none"
_FIRST: Channels = "first"
_LAST: Channels = "last"
_GIVE = "give the layout (--layout, or layout in [data])"


def read_array(content: bytes, layout: Layout | None) -> Pages:
    """The pages of an array (h, w), (h, w, 3), (1, h, w), (h, w, 1) or (n, h, w).

    Raises:
        InputError: numbers that are no grey values, or a shape that could mean several things and
            no ``layout`` that says which.
    """
    values = np.load(io.BytesIO(content), allow_pickle=False)
    unit = full_scale(values.dtype)
    return arranged(values, Storage(".npy", values.dtype, unit), layout)


def arranged(values: Raw, storage: Storage, layout: Layout | None) -> Pages:
    """An array cut into pages as ``layout`` says; None where its shape leaves no doubt."""
    if values.dtype.kind == "c":
        return _complex(values, storage, layout)
    shape, count = values.shape, len(values) if values.ndim else 0
    if values.size == 0 or values.ndim not in (2, 3, 4) or (values.ndim == 4 and shape[3] != 3):
        raise InputError(
            "an array must have shape (h, w), (h, w, 3), (n, h, w) or (n, h, w, 3)",
            given=f"dimensions {shape}",
        )
    if layout == "coils":
        raise InputError("data of coils are complex", given=f"{values.dtype} {shape}")
    notes: tuple[str, ...] = ()
    stack, channels = values.ndim == 4, _LAST if values.ndim == 4 else _NONE
    if values.ndim == 3:
        stack, channels = _meaning(shape, layout)
        if stack and layout is None:
            notes = (f"{count} slices (n, h, w), each reconstructed on its own",)
    elif layout == "colour" and values.ndim == 2:
        raise InputError("a grey picture cannot be taken as colour", given=f"dimensions {shape}")
    grey = in_grey_values(values)
    pages = tuple(grey) if stack else (grey,)
    if channels == "first":
        pages = tuple(np.moveaxis(page, 0, 2) for page in pages)
    pages = tuple(page[..., 0] if page.shape[2:] == (1,) else page for page in pages)
    notes = storage.notes + notes
    return Pages(pages, replace(storage, channels=channels, stack=stack, notes=notes))


def _complex(values: Raw, storage: Storage, layout: Layout | None) -> Pages:
    """(h, w), or (n, h, w) as slices or coils, or (n, N, h, w) as slices of coils."""
    shape = values.shape
    if values.size == 0 or values.ndim not in (2, 3, 4):
        what = "complex arrays must have shape (h, w), (n, h, w) or, with coils, (n, coils, h, w)"
        raise InputError(what, given=f"dimensions {shape}")
    if layout == "colour":
        raise InputError("complex numbers are no colours", given=f"{values.dtype} {shape}")
    if (values.ndim == 3 and layout is None and len(values) > 1) or (
        values.ndim == 4 and layout != "coils"
    ):
        what = f"complex numbers of dimensions {shape} may be slices or the data of several coils"
        advice = f"{_GIVE}: stack, slices (n, h, w), or coils, (coils, h, w) or (n, coils, h, w)"
        raise InputError(what, advice=advice)
    stack = values.ndim == 4 or (values.ndim == 3 and layout != "coils")
    pages = tuple(in_grey_values(values)) if stack else (in_grey_values(values),)
    return Pages(pages, replace(storage, stack=stack))


def _meaning(shape: tuple[int, ...], layout: Layout | None) -> tuple[bool, Channels]:
    """Whether three dimensions are a stack, and where channels stand otherwise."""
    first, last = shape[0], shape[2]
    if layout == "stack":
        return True, _NONE
    if layout == "colour":
        if 3 not in (first, last):
            raise InputError("colour needs 3 channels", given=f"dimensions {shape}")
        return False, _LAST if last == 3 else _FIRST
    if 1 in (first, last):
        return False, _LAST if last == 1 else _FIRST
    if last == 3 and first != 3:
        return False, _LAST
    if first == 3 or last in (2, 3, 4):
        what = f"dimensions {shape} may be a stack of slices or the channels of one picture"
        colour = ", or colour" if 3 in (first, last) else ""
        raise InputError(what, advice=f"{_GIVE}: stack, slices along the first axis{colour}")
    return True, _NONE


def write_array(values: Raw, storage: Storage) -> bytes:
    """Results (n, h, w) or (n, h, w, 3), in the layout of what they were computed from."""
    colour = values.ndim == 4
    if storage.channels == "first":
        values = np.moveaxis(values, 3, 1) if colour else values[:, None]
    elif storage.channels == "last" and not colour:
        values = values[..., None]
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values if storage.stack else values[0]))
    return buffer.getvalue()

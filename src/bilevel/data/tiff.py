"""TIFF files: all pages, all bits, and floats written in the units of what was read."""

from __future__ import annotations

import io
from typing import Any, cast

import numpy as np
import tifffile

from bilevel.data.arrays import arranged
from bilevel.data.pictures import frames, upright
from bilevel.data.storage import (
    Layout,
    Pages,
    Raw,
    Storage,
    full_scale,
    in_grey_values,
    opaque,
)  # fmt: skip
from bilevel.ground.errors import InputError

__all__ = ["read_tiff", "write_tiff"]

_MIN_IS_BLACK, _RGB = 1, 2
_ORIENTATION = 274


def read_tiff(content: bytes, layout: Layout | None) -> Pages:
    """Every page of a TIFF: grey, colour or a palette, integers or floats.

    Raises:
        InputError: pixels that are no grey values or colours, or pages that differ in type.
    """
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        pages = [_page(page) for page in cast(Any, file.pages)]
        if all(_plain(page) for page in pages):
            return _plain_pages(file, pages, layout)
        kinds = {(int(page.photometric), str(page.dtype)) for page in pages}
        if len(kinds) > 1:
            raise InputError("the pages must be of one kind", given=f"{len(kinds)} kinds")
    return _arranged(*frames(content, len(pages)), layout)


def _page(page: Any) -> Any:
    return page.aspage()


def _plain(page: Any) -> bool:
    """Whether the library needs no decoder of its own for these pixels."""
    known = tifffile.TIFF
    return (
        page.photometric in (_MIN_IS_BLACK, _RGB)
        and _has(known.DECOMPRESSORS, page.compression)
        and _has(known.UNPREDICTORS, page.predictor)
    )


def _has(codecs: Any, key: int) -> bool:
    """A codec that is registered may still lack its package."""
    try:
        return codecs[key] is not None
    except KeyError:
        return False


def _plain_pages(file: tifffile.TiffFile, pages: list[Any], layout: Layout | None) -> Pages:
    notes: list[str] = []
    found: list[Raw] = []
    many = False
    turned = {int(page.tags.valueof(_ORIENTATION, default=1)) for page in pages}
    for series in file.series:
        values, axes = series.asarray(), series.axes
        if "S" in axes:
            values = np.moveaxis(values, axes.index("S"), -1)
            values = _colours(values, notes)
        axes = axes.replace("S", "")
        spatial = values.shape[len(axes) - 2 :]
        many = many or len(axes) > 2
        found += list(values.reshape(-1, *spatial))
    if len(turned) > 1:
        raise InputError("the pages must have one orientation", given=f"{len(turned)}")
    turn = turned.pop()
    if turn != 1:
        notes.append("turned upright, as its orientation says")
        found = [upright(values, turn) for values in found]
    if len({values.dtype for values in found}) > 1:
        raise InputError("the pages must hold numbers of one type", given="several")
    return _arranged(found, tuple(notes), layout, stack=many, imagej=bool(file.is_imagej))


def _colours(values: Raw, notes: list[str]) -> Raw:
    """Samples (..., s) to colours (..., 3) or grey values (...,); alpha must hide nothing."""
    samples = values.shape[-1]
    if samples not in (1, 2, 3, 4):
        raise InputError("a pixel must be grey or a colour", given=f"{samples} samples")
    if samples in (2, 4):
        values = opaque(values[..., :-1], values[..., -1])
        notes.append("alpha left out: no pixel is transparent")
    return values[..., 0] if values.shape[-1] == 1 else values


def _arranged(
    found: list[Raw],
    notes: tuple[str, ...],
    layout: Layout | None,
    *,
    stack: bool = False,
    imagej: bool = False,
) -> Pages:
    dtype, unit = found[0].dtype, full_scale(found[0].dtype)
    storage = Storage(".tif", dtype, unit, notes=notes, imagej=imagej)
    if layout in ("colour", "coils"):
        return arranged(np.stack(found) if len(found) > 1 else found[0], storage, layout)
    stack = stack or len(found) > 1
    if stack:
        notes += (f"{len(found)} pages, each reconstructed on its own",)
    channels = "last" if found[0].ndim == 3 else "none"
    values = tuple(in_grey_values(page) for page in found)
    return Pages(values, Storage(".tif", dtype, unit, channels, stack, notes, imagej))


def write_tiff(pages: list[Raw], storage: Storage) -> bytes:
    """Results, one page each, (h, w) or (h, w, 3) floats."""
    buffer = io.BytesIO()
    colour = pages[0].ndim == 3
    one = len({page.shape for page in pages}) == 1
    if storage.imagej and one and not colour and pages[0].dtype == np.float32:
        tifffile.imwrite(buffer, np.stack(pages), imagej=True, metadata={"axes": "ZYX"})
        return buffer.getvalue()
    photometric = "rgb" if colour else "minisblack"
    with tifffile.TiffWriter(buffer) as file:
        for page in pages:
            file.write(page, photometric=photometric, metadata=None)
    return buffer.getvalue()

"""PNG and JPEG files, and TIFF pages that need Pillow's decoders, with all their bits."""

from __future__ import annotations

import io
import re
import sys
from typing import Any, cast

import numpy as np
from PIL import Image, ImageFile

from bilevel.data.storage import Pages, Raw, Storage, full_scale, in_grey_values, opaque
from bilevel.ground.errors import InputError

__all__ = ["frames", "read_picture", "upright"]

_FORMATS = ("PNG", "JPEG", "TIFF")
_KEPT = re.compile(r"1|L|RGB|I(;16.?)?|F")
_WITH_ALPHA = {"LA": "LA", "RGBA": "RGBA", "PA": "RGBA"}
_DEEP_COLOUR = re.compile(r"(RGBA?);16([BLN])")
_ORIENTATION = 274


def read_picture(content: bytes) -> Pages:
    """The one picture of a PNG or JPEG.

    Raises:
        InputError: several frames, transparency, or inks in place of colours.
    """
    if _several(content):
        advice = "save the one that is meant, or all of them as pages of a TIFF"
        raise InputError("the file holds several frames (an animation)", advice=advice)
    (values,), notes = frames(content, 1)
    unit, channels = full_scale(values.dtype), "last" if values.ndim == 3 else "none"
    storage = Storage(".png", values.dtype, unit, channels, notes=notes)
    return Pages((in_grey_values(values),), storage)


def frames(content: bytes, count: int) -> tuple[list[Raw], tuple[str, ...]]:
    """So many frames, (h, w) or (h, w, 3) in the numbers of the file, and notes about them."""
    notes: list[str] = []
    found = [_frame(content, k, notes) for k in range(count)]
    return found, tuple(dict.fromkeys(notes))


def _frame(content: bytes, k: int, notes: list[str]) -> Raw:
    codec, raw, orientation = _about(content, k)
    if deep := _DEEP_COLOUR.fullmatch(raw):
        values = _deep_colour(content, k, *deep.groups())
    elif ";16" in raw and not raw.startswith("I;16"):
        raise InputError("16-bit pixels of this kind are not supported", given=raw)
    else:
        # libtiff hands on big-endian floats in this machine's order, which Pillow overlooks.
        swapped = codec == "libtiff" and raw == "F;32BF"
        values = _values(_decoded(content, k, "F;32NF" if swapped else None), notes)
    if values.ndim == 3 and values.shape[2] in (2, 4):
        values = opaque(values[..., :-1], values[..., -1])
        values = values[..., 0] if values.shape[2] == 1 else values
        notes.append("alpha left out: no pixel is transparent")
    if orientation != 1:
        values = upright(values, orientation)
        notes.append("turned upright, as its orientation says")
    return values


def _values(image: Image.Image, notes: list[str]) -> Raw:
    """The pixels of a decoded frame, with alpha if there is any."""
    if "transparency" in image.info:
        return np.asarray(image.convert("RGBA" if image.mode in ("P", "RGB") else "LA"))
    if image.mode == "P":
        colours = np.asarray(image.convert("RGB"))
        grey = bool((colours == colours[..., :1]).all())
        notes.append(f"its palette became {'grey values' if grey else 'colours'}")
        return colours[..., 0] if grey else colours
    if image.mode in _WITH_ALPHA:
        return np.asarray(image.convert(_WITH_ALPHA[image.mode]))
    if not _KEPT.fullmatch(image.mode):
        advice = "convert it to RGB or grey with a colour profile"
        what = "pixels must be grey or RGB"
        raise InputError(what, given=f"mode {image.mode}", advice=advice)
    return np.asarray(image)


def _opened(content: bytes) -> ImageFile.ImageFile:
    return Image.open(io.BytesIO(content), formats=_FORMATS)


def _several(content: bytes) -> bool:
    with _opened(content) as image:
        try:
            image.seek(1)
        except EOFError:
            return False
    return True


def _about(content: bytes, k: int) -> tuple[str, str, int]:
    """Codec, raw mode in Pillow's words (RGB;16B: 16-bit colour, high byte first), orientation."""
    with _opened(content) as image:
        image.seek(k)
        codec, _, _, args = image.tile[0]
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    return codec, str(args[0] if isinstance(args, tuple) else args), orientation


def _decoded(content: bytes, k: int, raw_mode: str | None = None) -> Image.Image:
    """The frame as it lies in the file, its pixels read as ``raw_mode`` if that is given."""
    with _opened(content) as image:
        image.seek(k)
        if raw_mode is not None:
            image.tile = [
                tile._replace(
                    args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode
                )
                for tile in image.tile
            ]
        image.load()
        return image.copy()


def _deep_colour(content: bytes, k: int, mode: str, order: str) -> Raw:
    """Pillow keeps the high byte of 16-bit colour; reading in both byte orders gives both bytes."""
    first, second = (
        np.asarray(_decoded(content, k, f"{mode};16{letter}"), dtype=np.uint16) for letter in "BL"
    )
    big_endian = order == "B" or (order == "N" and sys.byteorder == "big")
    high, low = (first, second) if big_endian else (second, first)
    return cast(Raw, 256 * high + low)


def upright(values: Raw, orientation: int) -> Raw:
    """The picture (h, w, ...) as the EXIF orientation 1 to 8 means it; unknown ones change nothing.

    Example:
        >>> upright(np.array([[1, 2]]), 3)
        array([[2, 1]])
    """
    turned: dict[int, Any] = {
        2: lambda: values[:, ::-1],
        3: lambda: values[::-1, ::-1],
        4: lambda: values[::-1],
        5: lambda: values.swapaxes(0, 1),
        6: lambda: np.rot90(values, -1),
        7: lambda: values[::-1, ::-1].swapaxes(0, 1),
        8: lambda: np.rot90(values),
    }
    return turned[orientation]() if orientation in turned else values

"""From an image file to an array of grey values, with all the bits that the file has."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bilevel.ground.errors import InputError

__all__ = ["decode"]

Array = NDArray[np.float64]
_FULL_SCALE = {"b1": 1, "u1": 255, "u2": 65535, "f2": 1, "f4": 1, "f8": 1}
_WITHOUT_ALPHA = {"LA": "L", "P": "RGBA", "PA": "RGBA"}
_KEPT = re.compile(r"1|L|RGB|I(;16.?)?|F")
_DEEP_COLOUR = re.compile(r"(RGBA?);16([BLN])")


def decode(path: Path) -> Array:
    """Grey values (h, w) or (h, w, c) with c = 1 or 3; integers are scaled to [0, 1], floats kept.

    Alpha is dropped, palettes become colour, and the EXIF orientation is applied.

    Raises:
        InputError: pixels of a kind whose range is unknown. A broken file raises what its decoder
            raises.
    """
    if path.suffix.lower() == ".npy":
        return _scaled(_channels_last(np.load(path, allow_pickle=False)))
    content = path.read_bytes()
    codec, raw = _storage(content)
    if deep := _DEEP_COLOUR.fullmatch(raw):
        return _deep_colour(content, *deep.groups())
    if ";16" in raw and not raw.startswith("I;16"):
        raise InputError("16-bit pixels of this kind are not supported", given=raw)
    # libtiff hands on big-endian floats in the order of this machine, which Pillow overlooks.
    swapped = codec == "libtiff" and raw == "F;32BF"
    image = _open(content, "F;32NF" if swapped else None)
    if not _KEPT.fullmatch(image.mode):
        image = image.convert(_WITHOUT_ALPHA.get(image.mode, "RGB"))
    return _scaled(np.asarray(image.convert("RGB") if image.mode == "RGBA" else image))


def _scaled(values: NDArray[np.generic]) -> Array:
    kind = f"{values.dtype.kind}{values.dtype.itemsize}"
    if kind not in _FULL_SCALE:
        raise InputError(
            "the range of the pixels is unknown",
            given=values.dtype,
            advice="store 8-bit or 16-bit unsigned integers or floats",
        )
    return values.astype(np.float64) / _FULL_SCALE[kind]


def _channels_last(values: NDArray[np.generic]) -> NDArray[np.generic]:
    if values.ndim == 3 and values.shape[2] not in (1, 3):
        values = np.moveaxis(values, 0, 2)
    channels = values.shape[2:] if values.ndim >= 2 else None
    if values.size == 0 or channels not in ((), (1,), (3,)):
        raise InputError(
            "an array must have shape (h, w), (h, w, c) or (c, h, w) with c = 1 or 3",
            given=f"dimensions {values.shape}",
        )
    return values


def _storage(content: bytes) -> tuple[str, str]:
    """Codec and raw mode in Pillow's words: RGB;16B is 16-bit colour, high byte first."""
    with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "TIFF")) as image:
        codec, _, _, args = image.tile[0]
    return codec, str(args[0] if isinstance(args, tuple) else args)


def _open(content: bytes, raw_mode: str | None = None) -> Image.Image:
    """The upright picture, its pixels read as ``raw_mode`` instead of what the file says."""
    with Image.open(io.BytesIO(content)) as image:
        if raw_mode is not None:
            image.tile = [
                tile._replace(
                    args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode
                )
                for tile in image.tile
            ]
        return ImageOps.exif_transpose(image)


def _deep_colour(content: bytes, mode: str, order: str) -> Array:
    """Pillow keeps the high byte of 16-bit colour; reading in both byte orders gives both bytes."""
    first, second = (
        np.asarray(_open(content, f"{mode};16{letter}"), dtype=np.float64)[..., :3]
        for letter in "BL"
    )
    big_endian = order == "B" or (order == "N" and sys.byteorder == "big")
    high, low = (first, second) if big_endian else (second, first)
    return (256 * high + low) / 65535

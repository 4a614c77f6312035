"""Images to files: complete or not at all."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bilevel.data.arrays import write_array
from bilevel.data.medical import fills_volume, write_nifti
from bilevel.data.storage import Storage
from bilevel.data.tiff import write_tiff
from bilevel.ground.checks import check_finite
from bilevel.ground.errors import BilevelWarning, InputError

__all__ = ["Format", "results_path", "save_image", "save_results"]

Format = Literal["png", "tiff", "npy"]


Pixels = NDArray[np.floating]
Numbers = NDArray[np.inexact]
Levels = NDArray[np.unsignedinteger]
_FORMATS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".npy": "NPY"}
_KEPT = (*_FORMATS, ".nii", ".nii.gz")
"""Formats of files whose results can have the same."""


def save_image(path: str | Path, x: Tensor, *, bits: int = 8) -> None:
    """Write one image (h, w), (c, h, w) or (1, c, h, w) with c = 1 or 3 as PNG, TIFF or NPY.

    PNG and TIFF hold grey values clipped to [0, 1] in 8 or 16 bits, with a warning of how many were
    outside; NPY holds the floats as they are. The file appears complete or not at all.

    Raises:
        InputError: no such format or shape, values that are not finite, or no place to write to.
    """
    path = Path(path)
    if bits not in (8, 16):
        raise InputError("bits must be 8 or 16", given=bits)
    pixels = _pixels(x)
    _write(path, _encode(path, pixels, bits))
    if path.suffix.lower() != ".npy" and (what := _clipped(path, pixels, bits)):
        warnings.warn(f"{what}; .npy keeps them", BilevelWarning, stacklevel=2)


def results_path(stem: Path, storage: Storage, form: Format | None = None) -> Path:
    """Where :func:`save_results` writes: ``stem`` with the suffix of the format."""
    kept = storage.suffix if storage.suffix.lower() in _KEPT else ".npy"
    suffix = kept if form is None else {"png": ".png", "tiff": ".tif", "npy": ".npy"}[form]
    return stem.with_name(stem.name + suffix)


def save_results(
    stem: Path, pages: Sequence[Tensor], storage: Storage, form: Format | None = None
) -> tuple[Path, str | None]:
    """Write results of a file, one image a page, in its units and layout; the path and a word.

    NPY, TIFF and NIfTI hold floats in the units of the file (of an 8-bit file: 0 to 255), in
    float64 where the file needs it; images of two channels are complex. NPZ, HDF5, MATLAB and DICOM
    become NPY, and the word says so. PNG holds 16 bits of grey values from 0 to 1; the word says
    how many values were clipped, None if there is nothing to say.

    Raises:
        InputError: pages that are no images of one format, or no place to write to.
    """
    path = results_path(stem, storage, form)
    found = [_numbers(page) for page in pages]
    if path.suffix.lower() == ".png":
        return path, _save_png(path, pages, complex=any(map(np.iscomplexobj, found)))
    values = [(p.astype(_wide(p)) * storage.unit).astype(storage.written(p)) for p in found]
    word = None
    if path.suffix in (".nii", ".gz"):
        if fills_volume(values, storage):
            _write(path, write_nifti(values, storage))
            return path, None
        path, word = stem.with_name(f"{stem.name}.npy"), "results that do not fill the volume"
    elif form is None and storage.suffix.lower() not in _KEPT:
        word = f"results of {storage.suffix} files"
    if path.suffix == ".npy":
        if len({v.shape for v in values}) > 1:
            advice = "use --format tiff"
            raise InputError(f"cannot write pages of several sizes to {path}", advice=advice)
        _write(path, write_array(np.stack(values), storage))
    else:
        _write(path, write_tiff(values, storage))
    return path, word and f"{path.name}: {word} are written as arrays, in the units of the file"


def _save_png(path: Path, pages: Sequence[Tensor], *, complex: bool) -> str | None:
    """Write the one page that a PNG can hold, and say what was clipped."""
    advice = "use --format tiff or --format npy"
    if complex:
        raise InputError(f"cannot write complex numbers to {path}", advice=advice)
    if len(pages) != 1:
        raise InputError(f"cannot write {len(pages)} pages to {path}", advice=advice)
    pixels = _pixels(pages[0])
    _write(path, _encode(path, pixels, 16))
    what = _clipped(path, pixels, 16)
    return what and f"{what}; --format tiff or npy keeps them"


def _clipped(path: Path, pixels: Pixels, bits: int) -> str | None:
    """What values outside 0 to 1 lose, beyond what rounding to levels does; None if nothing."""
    half = 0.5 / (2**bits - 1)
    outside = int(np.count_nonzero((pixels < -half) | (pixels > 1 + half)))
    what = f"{path.name}: {outside} of {pixels.size} values lie outside 0 to 1 and are clipped"
    return what if outside else None


def _encode(path: Path, pixels: Pixels, bits: int) -> bytes:
    buffer = io.BytesIO()
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise InputError(f"cannot write {path}", advice=f"images end in {', '.join(_FORMATS)}")
    if suffix == ".npy":
        np.save(buffer, pixels)
        return buffer.getvalue()
    levels = _quantised(pixels, bits)
    if bits == 16 and suffix == ".png":
        return _deep_png(levels)
    if bits == 16 and levels.ndim == 3:
        raise InputError(f"cannot write 16-bit colour to {path}", advice="use .png or .npy")
    Image.fromarray(levels).save(buffer, _FORMATS[suffix])
    return buffer.getvalue()


def _pixels(x: Tensor) -> Pixels:
    x = check_finite(x.detach(), "the image to be saved").cpu()
    if x.ndim == 4 and x.shape[0] == 1:
        x = x[0]
    if x.ndim == 3 and x.shape[0] == 1:
        x = x[0]
    if x.numel() == 0 or not (x.ndim == 2 or (x.ndim == 3 and x.shape[0] == 3)):
        raise InputError("one image (c, h, w) with c = 1 or 3 is needed", given=tuple(x.shape))
    if not x.is_floating_point():
        raise InputError("an image holds floating-point grey values", given=x.dtype)
    return (x if x.ndim == 2 else x.movedim(0, 2)).numpy()


def _numbers(x: Tensor) -> Numbers:
    """As ``_pixels``, and complex (h, w) for two channels."""
    x = x.detach()
    planes = x[0] if x.ndim == 4 and x.shape[0] == 1 else x
    if planes.ndim != 3 or planes.shape[0] != 2:
        return _pixels(x)
    return torch.complex(*check_finite(planes, "the image to be saved").cpu()).numpy()


def _wide(values: Numbers) -> type[np.inexact]:
    return np.complex128 if np.iscomplexobj(values) else np.float64


def _quantised(pixels: Pixels, bits: int) -> Levels:
    levels = pixels.astype(np.float64)
    np.clip(levels, 0, 1, out=levels)
    levels *= 2**bits - 1
    return np.rint(levels, out=levels).astype(np.uint8 if bits == 8 else np.uint16)


def _deep_png(levels: Levels) -> bytes:
    """16 bits a grey value or colour; rows less those above, PNG specification 11.2 and 9.2.

    Pillow cannot write such colours, and takes twice the time for grey values.
    """
    height, width = levels.shape[:2]
    rows = levels.astype(">u2").reshape(height, -1).view(np.uint8)
    filtered = np.full((height, rows.shape[1] + 1), _UP, np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if levels.ndim == 3 else 0, 0, 0, 0)
    packing = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)  # noise has no long matches
    packed = packing.compress(filtered.tobytes()) + packing.flush()
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


_UP = 2  # the filter type of a row


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _write(path: Path, content: bytes) -> None:
    """Write all of it or nothing.

    Raises:
        InputError: no place to write to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror})") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()

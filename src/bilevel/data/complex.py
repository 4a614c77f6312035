"""Complex images in NPY files: pairs of channels here, complex arrays there."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bilevel.data.images import ImageFile
from bilevel.data.storage import Storage
from bilevel.data.writing import write_file
from bilevel.ground.checks import check_finite
from bilevel.ground.errors import InputError

__all__ = ["load_complex", "save_complex"]

_SUFFIX = ".npy"


def load_complex(path: str | Path) -> ImageFile:
    """Every page of a complex array (h, w) or (n, h, w), as real and imaginary part (1, 2, h, w).

    Numbers are kept as they are.

    Raises:
        InputError: no such file, one that is no complete, finite array of complex numbers, or of
            other dimensions; it names the path.
    """
    path = Path(path)
    if path.suffix.lower() != _SUFFIX:
        advice = "save complex images with numpy.save"
        raise InputError(f"complex images end in {_SUFFIX}", given=path.name, advice=advice)
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"cannot read {path}: there is no such file") from error
    except (OSError, ValueError, EOFError) as error:
        advice = "it is damaged, empty or no array"
        raise InputError(f"cannot read {path}", advice=advice) from error
    if values.dtype.kind != "c" or values.dtype.itemsize > 16:
        advice = "save complex64 or complex128, or set complex = false"
        raise InputError(f"{path} is not complex", given=values.dtype, advice=advice)
    if values.ndim not in (2, 3) or not values.size:
        what = f"{path} must have shape (h, w), or (n, h, w) for a stack"
        raise InputError(what, given=f"dimensions {values.shape}")
    stack = torch.from_numpy(values.astype(np.complex128).reshape(-1, *values.shape[-2:]))
    pages = torch.view_as_real(stack).movedim(-1, 1)
    check_finite(pages, str(path))
    storage = Storage(_SUFFIX, values.dtype, stack=values.ndim == 3)
    return ImageFile(path, tuple(page[None].contiguous() for page in pages), storage)


def save_complex(stem: Path, pages: Sequence[Tensor], storage: Storage) -> Path:
    """Write results of a file, one image (2, h, w) a page, as a complex array; the path.

    Single or double precision as the file had, (n, h, w) if it was a stack.

    Raises:
        InputError: pages of several sizes, or no place to write to.
    """
    path = stem.with_name(f"{stem.name}{_SUFFIX}")
    if len({page.shape for page in pages}) != 1 or pages[0].ndim != 3 or len(pages[0]) != 2:
        given = [tuple(page.shape) for page in pages][:3]
        raise InputError("complex images are pairs (2, h, w) of one size", given=given)
    parts = torch.stack([check_finite(page.detach(), str(path)) for page in pages]).cpu().double()
    values = torch.complex(parts[:, 0], parts[:, 1]).numpy().astype(storage.dtype)
    buffer = io.BytesIO()
    np.save(buffer, values if storage.stack else values[0])
    write_file(path, buffer.getvalue())
    return path

"""Images from files: grey values in [0, 1], whatever the format and the bit depth."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from bilevel.data.decoding import decode
from bilevel.ground.checks import check_finite
from bilevel.ground.errors import InputError

__all__ = ["SUFFIXES", "list_images", "load_image", "load_images", "to_grey"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy")
_GREY_WEIGHTS = (0.298936, 0.587043, 0.114021)


def to_grey(x: Tensor) -> Tensor:
    """Luminance of colour images: (b, 3, h, w) -> (b, 1, h, w); grey images are returned as is.

    The weights are those of ITU-R BT.601, as MATLAB's ``rgb2gray`` uses them.

    Example:
        >>> float(to_grey(torch.ones(1, 3, 1, 1)))
        1.0
    """
    if x.shape[1] == 1:
        return x
    weights = torch.tensor(_GREY_WEIGHTS, dtype=torch.float64, device=x.device)
    return torch.einsum("c,bchw->bhw", weights, x.double())[:, None].to(x.dtype)


def load_image(
    path: str | Path, *, grey: bool | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Read a PNG, JPEG, TIFF or NPY file as (1, c, h, w) [grey value].

    Integers (1, 8 or 16 bits) are scaled to [0, 1], floats are kept as they are. Alpha is dropped,
    palettes become colour, and the EXIF orientation is applied.

    Args:
        path: the file; its suffix says the format.
        grey: True for one channel, False for three, None for what the file has.
        dtype: float32 or float64.

    Raises:
        InputError: no such file, or one that is no complete, finite image; it names the path.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"cannot read {path}", advice=f"images end in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise InputError(f"cannot read {path}: there is no such file")
    try:
        pixels = decode(path)
    except InputError as error:
        raise InputError(f"cannot read {path}: {error}") from None
    except Exception as error:  # decoders fail in many ways on broken files
        advice = "it is damaged, empty or no image of that format"
        raise InputError(f"cannot read {path} ({_reason(error)})", advice=advice) from error
    x = torch.from_numpy(pixels)
    x = x[None, None] if x.ndim == 2 else x.movedim(2, 0)[None]
    if grey is True:
        x = to_grey(x)
    elif grey is False:
        x = x.expand(1, 3, -1, -1)
    return check_finite(x.to(dtype), str(path)).contiguous()


def _reason(error: Exception) -> str:
    return str(error).split("\n")[0] or type(error).__name__


def list_images(folder: str | Path) -> list[Path]:
    """The image files of a folder, sorted by name; hidden files and subfolders are left out.

    Raises:
        InputError: no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    found = [p for p in sorted(folder.iterdir()) if _is_image(p)]
    if not found:
        raise InputError(
            f"there are no images in {folder}", advice=f"images end in {', '.join(SUFFIXES)}"
        )
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def load_images(
    source: str | Path | Iterable[str | Path], *, grey: bool | None = None
) -> list[tuple[str, Tensor]]:
    """The images of a folder, or of a list of files, each with its id (the file's name).

    Raises:
        InputError: as :func:`load_image` and :func:`list_images`, or two files of one name.
    """
    paths = list_images(source) if isinstance(source, (str, Path)) else [Path(p) for p in source]
    images: dict[str, Tensor] = {}
    for path in paths:
        if path.name in images:
            raise InputError("every image needs a name of its own", given=f"{path.name} twice")
        images[path.name] = load_image(path, grey=grey)
    return list(images.items())

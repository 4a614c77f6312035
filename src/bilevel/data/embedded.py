"""Eight pictures that ship with the package, so that examples and tests need no download."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import torch
from torch import Tensor

from bilevel.data.crops import centre_crop
from bilevel.data.images import load_image
from bilevel.ground.checks import check_choice

__all__ = ["embedded_image", "embedded_images", "embedded_names"]

_FOLDER = files("bilevel.data") / "embedded"


def embedded_names() -> tuple[str, ...]:
    """The names of the pictures, sorted.

    Example:
        >>> embedded_names()[:4]
        ('astronaut', 'brick', 'camera', 'cell')
    """
    return tuple(sorted(Path(f.name).stem for f in _FOLDER.iterdir() if f.name.endswith(".png")))


def embedded_image(name: str, *, grey: bool = True) -> Tensor:
    """One picture (1, c, h, w) [grey value] with c = 1, or 3 if not ``grey``.

    Raises:
        InputError: no such picture.
    """
    check_choice(name, embedded_names(), "embedded picture")
    with as_file(_FOLDER / f"{name}.png") as path:
        return load_image(path, grey=grey)


def embedded_images(size: int | None = None, *, grey: bool = True) -> Tensor:
    """The centres of all pictures (8, c, size, size), in the order of their names.

    ``size`` defaults to the largest square that fits into every picture.

    Raises:
        InputError: a size larger than the smallest picture.
    """
    pictures = [embedded_image(name, grey=grey) for name in embedded_names()]
    side = min(min(x.shape[2:]) for x in pictures) if size is None else size
    return torch.cat([centre_crop(x, side) for x in pictures])

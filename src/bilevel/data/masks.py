"""Which pixels hold data: pictures that are white where they do, one for all files or one each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bilevel.data.images import ImageFile, load_file
from bilevel.data.places import Place, normalised, places
from bilevel.ground.errors import InputError

__all__ = ["Masks", "load_mask"]


def load_mask(path: str | Path) -> tuple[Tensor, ...]:
    """The pages of a black and white picture, or of an array of 0 and 1, each (h, w) bool.

    Raises:
        InputError: no such file, other grey values, or a page that is black everywhere.
    """
    pages: list[Tensor] = []
    for page in load_file(path, grey=True).pages:
        x = page[0, 0]
        if page.shape[1] != 1 or not bool(((x == 0) | (x == 1)).all()):
            advice = "make it white (seen) and black (not seen)"
            name = Place.of(path).name
            raise InputError(f"{name} is not black and white alone", advice=advice)
        if not bool(x.any()):
            raise InputError(f"{Place.of(path).name} is black everywhere: no pixel holds data")
        pages.append(x == 1)
    return tuple(pages)


@dataclass(frozen=True)
class Masks:
    """One picture of the pixels that hold data for all files, or a folder with one for each.

    Those of a folder are matched by name without suffix.

    Args:
        source: a picture, a folder or a pattern.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import bilevel as bl
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("y", "seen"):
        ...         bl.data.save_image(f"{folder}/{name}.png", torch.eye(3))
        ...     file = Masks(f"{folder}/seen.png").on(bl.data.load_file(f"{folder}/y.png"))
        >>> int(file.seen[0].sum())
        3
    """

    source: str | Path

    def on(self, file: ImageFile) -> ImageFile:
        """The file with nothing but the pixels that hold data.

        Raises:
            InputError: no mask for it, or one of another size.
        """
        path = self._path(file)
        masks = load_mask(path)
        if len(masks) not in (1, len(file.pages)):
            what = f"{file.name} has {len(file.pages)} pages, and one mask or one each is needed"
            raise InputError(what, given=f"{len(masks)} in {Place.of(path).name}")
        each = masks * len(file.pages) if len(masks) == 1 else masks
        seen: list[Tensor] = []
        pages: list[Tensor] = []
        for page, before, mask in zip(file.pages, file.seen, each, strict=True):
            if mask.shape != page.shape[2:]:
                (h, w), (own, wide) = mask.shape, page.shape[2:]
                what = f"the mask {Place.of(path).name} is of {h}x{w} pixels"
                raise InputError(what, given=f"{file.name} of {own}x{wide}")
            known = mask if before is None else mask & before
            if not bool(known.any()):
                raise InputError(f"{file.name}: no pixel holds data")
            seen.append(known)
            pages.append(torch.where(known, page, 0.0))
        return replace(file, pages=tuple(pages), seen=tuple(seen))

    def _path(self, file: ImageFile) -> Path:
        found = places(self.source)
        if len(found) == 1 and not Path(self.source).is_dir():
            return found[0]
        for path in found:
            if normalised(Place.of(path).stem) == normalised(file.stem):
                return path
        what = f"there is no mask for {file.name} in {self.source}"
        raise InputError(what, advice=f"name it {file.stem}.png, or give one mask for all")

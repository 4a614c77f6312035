"""The images of many files, each read when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bilevel.data.images import ImageFile, load_file
from bilevel.data.masks import Masks
from bilevel.data.places import places
from bilevel.data.storage import Layout
from bilevel.ground.checks import check_finite
from bilevel.ground.errors import InputError

__all__ = ["Files", "load_images"]


def load_images(
    source: str | Path | Iterable[str | Path],
    *,
    grey: bool | None = None,
    layout: Layout | None = None,
) -> list[tuple[str, Tensor]]:
    """The images of a folder, a file, a pattern or a list of files, in float32, each with its id.

    That is the file's name, with #1, #2, ... for the pages of a stack.

    Raises:
        InputError: as :func:`load_image` and :func:`places`, or two files of one name.
    """
    return list(Files(source, grey=grey, layout=layout))


class Files:
    """What :func:`load_images` gives, each image read whenever it is asked for.

    Every file is read once at the beginning, so that a damaged one is found before any work
    starts. ``Simulated(Files("photographs"), operator, noise, size=96, count=100_000)`` learns from
    crops of more photographs than memory holds.

    Args:
        source: a folder, a file, a pattern such as ``scans/*.npy``, or a list of files.
        grey: as for :func:`load_file`.
        layout: the same.
        missing: the same; :meth:`seen` then tells which pixels hold data.
        masks: a picture of the pixels that hold data, or a folder with one for each file.
        dtype: of the images.
        through: what every file goes through once it is read, e.g. a camera's numbers to light.

    Raises:
        InputError: as :func:`load_images`.
    """

    def __init__(
        self,
        source: str | Path | Iterable[str | Path],
        *,
        grey: bool | None = None,
        layout: Layout | None = None,
        missing: bool = False,
        masks: str | Path | None = None,
        dtype: torch.dtype = torch.float32,
        through: Callable[[ImageFile], ImageFile] | None = None,
    ) -> None:
        single = isinstance(source, (str, Path))
        self._grey, self._missing, self._dtype = grey, missing, dtype
        self._masks = None if masks is None else Masks(masks)
        self._layout: Layout | None = layout
        self._through = through
        self._pages: dict[str, tuple[Path, int]] = {}
        self._last: ImageFile | None = None
        self.complex = False
        """Whether any file holds complex numbers."""
        self.notes: dict[str, tuple[str, ...]] = {}
        """What was done to the values of files that is not plain, by their names."""
        for path in places(source) if single else [Path(p) for p in source]:
            file = self._read(path)
            self.complex |= file.storage.complex
            if notes := _about(file):
                self.notes[file.name] = notes
            for k, name in enumerate(file.ids):
                if name in self._pages:
                    raise InputError("every image needs a name of its own", given=f"{name} twice")
                self._pages[name] = path, k
        self._names = tuple(self._pages)

    def __len__(self) -> int:
        """The number of pages."""
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[str, Tensor]:
        """The id and the image (1, c, h, w) [grey value]."""
        name = self._names[index]
        path, page = self._pages[name]
        return name, check_finite(self._read(path).pages[page].to(self._dtype), str(path))

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """One after the other."""
        return (self[k] for k in range(len(self)))

    def seen(self, index: int) -> Tensor | None:
        """The pixels (h, w) of an image that hold data; None if all do."""
        path, page = self._pages[self._names[index]]
        return self._read(path).seen[page]

    @property
    def by_file(self) -> Mapping[Path, Sequence[int]]:
        """The numbers of the images in each file."""
        found: dict[Path, list[int]] = {}
        for k, name in enumerate(self._names):
            found.setdefault(self._pages[name][0], []).append(k)
        return found

    def _read(self, path: Path) -> ImageFile:
        if self._last is None or self._last.path != path:
            file = load_file(path, grey=self._grey, layout=self._layout, missing=self._missing)
            file = file if self._masks is None else self._masks.on(file)
            self._last = file if self._through is None else self._through(file)
        return self._last


def _about(file: ImageFile) -> tuple[str, ...]:
    unit = file.storage.unit
    scaled = () if unit == 1 else (f"whole numbers count as grey values of {unit:g}",)
    return *file.storage.notes, *scaled

"""Images from files: grey values, whatever the format and the bit depth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bilevel.data.arrays import read_array
from bilevel.data.pictures import read_picture
from bilevel.data.storage import Layout, Pages, Storage
from bilevel.data.tiff import read_tiff
from bilevel.ground.checks import check_finite
from bilevel.ground.errors import InputError

__all__ = [
    "SUFFIXES",
    "Files",
    "ImageFile",
    "list_images",
    "load_file",
    "load_image",
    "load_images",
    "to_grey",
]

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


@dataclass(frozen=True, eq=False)
class ImageFile:
    """The pages of a file, each (1, c, h, w) [grey value] in float64, and how it held them."""

    path: Path
    pages: tuple[Tensor, ...]
    storage: Storage

    @property
    def dtype(self) -> torch.dtype:
        """To compute in: float64 where float32 would lose digits of the file."""
        return torch.float64 if self.storage.precise else torch.float32

    @property
    def ids(self) -> tuple[str, ...]:
        """The name of the file, with #1, #2, ... for the pages of a stack."""
        name = self.path.name
        if not self.storage.stack:
            return (name,)
        return tuple(f"{name}#{k}" for k in range(1, len(self.pages) + 1))


def load_file(
    path: str | Path, *, grey: bool | None = None, layout: Layout | None = None
) -> ImageFile:
    """Every page of a PNG, JPEG, TIFF or NPY file.

    Whole numbers of 8 or 16 unsigned bits are divided by 255 or 65535; all other numbers are kept
    in their own units. Pictures are turned upright, palettes become colour or grey.

    Args:
        path: the file; its suffix says the format.
        grey: True for one channel, False for three, None for what the file has.
        layout: what three dimensions of an array are where that is in doubt: "stack", slices
            (n, h, w), or "colour", channels (3, h, w) or (h, w, 3).

    Raises:
        InputError: no such file, or one that is no complete, finite image; it names the path.
            Transparency, inks (CMYK), animations and complex numbers are refused.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"cannot read {path}", advice=f"images end in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise InputError(f"cannot read {path}: there is no such file")
    try:
        found = _decoded(path, layout)
    except InputError as error:
        raise InputError(f"cannot read {path}: {error}") from None
    except Exception as error:  # decoders fail in many ways on broken files
        advice = "it is damaged, empty or no image of that format"
        raise InputError(f"cannot read {path} ({_reason(error)})", advice=advice) from error
    pages: list[Tensor] = []
    for values in found.values:
        x = torch.from_numpy(values.copy())
        x = x[None, None] if x.ndim == 2 else x.movedim(2, 0)[None]
        if grey is True:
            x = to_grey(x)
        elif grey is False:
            x = x.expand(1, 3, -1, -1)
        pages.append(check_finite(x, str(path)).contiguous())
    return ImageFile(path, tuple(pages), found.storage)


def _decoded(path: Path, layout: Layout | None) -> Pages:
    content, suffix = path.read_bytes(), path.suffix.lower()
    if suffix == ".npy":
        return read_array(content, layout)
    if suffix in (".tif", ".tiff"):
        found = read_tiff(content, layout)
        return replace(found, storage=replace(found.storage, suffix=path.suffix))
    return read_picture(content)


def load_image(
    path: str | Path,
    *,
    grey: bool | None = None,
    dtype: torch.dtype = torch.float32,
    layout: Layout | None = None,
) -> Tensor:
    """Read the one image of a PNG, JPEG, TIFF or NPY file as (1, c, h, w) [grey value].

    Whole numbers of 8 or 16 unsigned bits are scaled to [0, 1], all others are kept as they are.

    Args:
        path: the file; its suffix says the format.
        grey: True for one channel, False for three, None for what the file has.
        dtype: float32 or float64.
        layout: as for :func:`load_file`.

    Raises:
        InputError: as :func:`load_file`, or a file of several pages.
    """
    file = load_file(path, grey=grey, layout=layout)
    if len(file.pages) > 1:
        advice = "save its pages as files of their own, or read them all with load_images"
        raise InputError(f"{path} holds {len(file.pages)} pages, not one image", advice=advice)
    return check_finite(next(iter(file.pages)).to(dtype), str(path))


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
    source: str | Path | Iterable[str | Path],
    *,
    grey: bool | None = None,
    layout: Layout | None = None,
) -> list[tuple[str, Tensor]]:
    """The images of a folder, or of a list of files, in float32, each with its id.

    That is the file's name, with #1, #2, ... for the pages of a stack.

    Raises:
        InputError: as :func:`load_image` and :func:`list_images`, or two files of one name.
    """
    return list(Files(source, grey=grey, layout=layout))


class Files:
    """What :func:`load_images` gives, each image read whenever it is asked for.

    Every file is read once at the beginning, so that a damaged one is found before any work
    starts. ``Simulated(Files("photographs"), operator, noise, size=96, count=100_000)`` learns from
    crops of more photographs than memory holds.

    Raises:
        InputError: as :func:`load_images`.
    """

    def __init__(
        self,
        source: str | Path | Iterable[str | Path],
        *,
        grey: bool | None = None,
        layout: Layout | None = None,
    ) -> None:
        single = isinstance(source, (str, Path))
        self._grey = grey
        self._layout: Layout | None = layout
        self._pages: dict[str, tuple[Path, int]] = {}
        self._last: ImageFile | None = None
        for path in list_images(source) if single else [Path(p) for p in source]:
            for k, name in enumerate(self._read(path).ids):
                if name in self._pages:
                    raise InputError("every image needs a name of its own", given=f"{name} twice")
                self._pages[name] = path, k
        self._names = tuple(self._pages)

    def __len__(self) -> int:
        """The number of pages."""
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[str, Tensor]:
        """The id and the image (1, c, h, w) in float32 [grey value]."""
        name = self._names[index]
        path, page = self._pages[name]
        return name, check_finite(self._read(path).pages[page].float(), str(path))

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """One after the other."""
        return (self[k] for k in range(len(self)))

    def _read(self, path: Path) -> ImageFile:
        if self._last is None or self._last.path != path:
            self._last = load_file(path, grey=self._grey, layout=self._layout)
        return self._last

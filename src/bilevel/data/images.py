"""Images from files: grey values, whatever the format and the bit depth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bilevel.data.arrays import read_array
from bilevel.data.containers import read_container
from bilevel.data.medical import read_dicom, read_nifti
from bilevel.data.pictures import read_picture
from bilevel.data.places import SUFFIXES, Place
from bilevel.data.storage import Layout, Pages, Raw, Storage
from bilevel.data.tiff import read_tiff
from bilevel.ground.checks import check_finite
from bilevel.ground.errors import InputError

__all__ = [
    "SUFFIXES",
    "ImageFile",
    "load_file",
    "load_image",
    "to_grey",
]

_GREY_WEIGHTS = (0.298936, 0.587043, 0.114021)
_CONTAINERS = (".npz", ".h5", ".hdf5", ".mat")


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
    """The pages of a file, each (1, c, h, w) [grey value] in float64, and how it held them.

    Complex numbers have pairs of channels: real parts, then imaginary parts. ``seen`` says of every
    page which pixels (h, w) hold data; None where all do. Others are 0.
    """

    path: Path
    pages: tuple[Tensor, ...]
    storage: Storage
    seen: tuple[Tensor | None, ...]

    @property
    def dtype(self) -> torch.dtype:
        """To compute in: float64 where float32 would lose digits of the file."""
        return torch.float64 if self.storage.precise else torch.float32

    @property
    def name(self) -> str:
        """Of the file, with that of an array in it if one was named."""
        return Place.of(self.path).name

    @property
    def stem(self) -> str:
        """The name without suffix, for what is made of it."""
        return Place.of(self.path).stem

    @property
    def ids(self) -> tuple[str, ...]:
        """The name of the file, with #1, #2, ... for the pages of a stack."""
        if not self.storage.stack:
            return (self.name,)
        return tuple(f"{self.name}#{k}" for k in range(1, len(self.pages) + 1))


def load_file(
    path: str | Path,
    *,
    grey: bool | None = None,
    layout: Layout | None = None,
    missing: bool = False,
) -> ImageFile:
    """Every page of a PNG, JPEG, TIFF, NPY, NPZ, HDF5, MATLAB, DICOM or NIfTI file.

    Whole numbers of 8 or 16 unsigned bits are divided by 255 or 65535; all other numbers are kept
    in their own units, those of DICOM and NIfTI in the units that they declare. Pictures are turned
    upright, palettes become colour or grey.

    Args:
        path: the file; its suffix says the format. ``FILE:NAME`` is the array NAME of an NPZ, HDF5
            or MATLAB file that holds several.
        grey: True for one channel, False for three, None for what the file has; complex numbers
            have two.
        layout: what three dimensions of an array are where that is in doubt: "stack", slices
            (n, h, w); "colour", channels (3, h, w) or (h, w, 3); of complex numbers "coils", data
            (N, h, w), or (n, N, h, w) of n slices.
        missing: take NaN for pixels without data, rather than for a mistake.

    Raises:
        InputError: no such file, or one that is no complete, finite image; it names the path.
            Transparency, inks (CMYK) and animations are refused, and a package may be missing:
            DICOM and NIfTI need ``pip install 'bilevel[medical]'``.
    """
    path, place = Path(path), Place.of(path)
    if place.suffix not in SUFFIXES:
        raise InputError(f"cannot read {path}", advice=f"images end in {', '.join(SUFFIXES)}")
    if not place.path.is_file():
        raise InputError(f"cannot read {path}: there is no such file")
    try:
        found = _decoded(place, layout)
    except InputError as error:
        raise InputError(f"cannot read {path}: {error}") from None
    except Exception as error:  # decoders fail in many ways on broken files
        advice = "it is damaged, empty or no image of that format"
        raise InputError(f"cannot read {path} ({_reason(error)})", advice=advice) from error
    pages: list[Tensor] = []
    seen: list[Tensor | None] = []
    coloured = False
    for values in found.values:
        x = _in_channels(values)
        known = ~x.isnan().any(1)[0]
        if missing and not bool(known.all()):
            if not bool(known.any()):
                raise InputError(f"cannot read {path}: no pixel holds data (all are NaN)")
            x = torch.where(known, x, 0.0)
            seen.append(known)
        else:
            seen.append(None)
        if grey is True and not found.storage.complex:
            coloured, x = coloured or x.shape[1] == 3, to_grey(x)
        elif grey is False and not found.storage.complex:
            x = x.expand(1, 3, -1, -1)
        pages.append(check_finite(x, str(path)).contiguous())
    storage = found.storage
    if coloured:
        storage = replace(storage, notes=(*storage.notes, "colour is taken as grey"))
    return ImageFile(path, tuple(pages), storage, tuple(seen))


def _in_channels(values: Raw) -> Tensor:
    """A page as (1, c, h, w)."""
    x = torch.from_numpy(values.copy())
    if x.is_complex():
        x = x[None] if x.ndim == 2 else x
        return torch.cat([x.real, x.imag])[None]
    return x[None, None] if x.ndim == 2 else x.movedim(2, 0)[None]


def _decoded(place: Place, layout: Layout | None) -> Pages:
    suffix = place.suffix
    if suffix in _CONTAINERS:
        return read_container(place, layout)
    if suffix == ".dcm":
        return read_dicom(place)
    if suffix in (".nii", ".nii.gz"):
        return read_nifti(place)
    content = place.path.read_bytes()
    if suffix == ".npy":
        return read_array(content, layout)
    if suffix in (".tif", ".tiff"):
        found = read_tiff(content, layout)
        return replace(found, storage=replace(found.storage, suffix=place.path.suffix))
    return read_picture(content)


def load_image(
    path: str | Path,
    *,
    grey: bool | None = None,
    dtype: torch.dtype = torch.float32,
    layout: Layout | None = None,
) -> Tensor:
    """Read the one image of a file as (1, c, h, w) [grey value].

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
    text = str(error).split("\n")[0].partition(" <_io")[0]  # and no address of a buffer
    return text or type(error).__name__

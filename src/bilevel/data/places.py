"""Where an image lies: a file, or an array with a name inside of one."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from bilevel.ground.errors import InputError

__all__ = ["SUFFIXES", "Place", "list_images", "normalised", "places"]

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy", ".npz", ".h5", ".hdf5", ".mat"),
    *(".dcm", ".nii", ".nii.gz"),
)
_NAMED = re.compile(r"(.*\.(?:npz|h5|hdf5|mat)):(.+)", re.IGNORECASE | re.DOTALL)
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Place:
    """A file, and the name of the array in it where it may hold several (NPZ, HDF5, MATLAB).

    Example:
        >>> place = Place.of("runs/scan.h5:slice/kspace")
        >>> place.path.name, place.key, place.name, place.stem
        ('scan.h5', 'slice/kspace', 'scan.h5:slice/kspace', 'scan-slice-kspace')
    """

    path: Path
    key: str | None = None

    @staticmethod
    def of(path: str | Path) -> Place:
        """What ``FILE`` or ``FILE:NAME`` stands for."""
        found = _NAMED.fullmatch(str(path))
        if found is None or Path(path).is_file():
            return Place(Path(path))
        return Place(Path(found[1]), found[2])

    @property
    def suffix(self) -> str:
        """Of the file, in small letters."""
        suffix = self.path.suffix.lower()
        packed = suffix == ".gz" and self.path.stem.lower().endswith(".nii")
        return ".nii.gz" if packed else suffix

    @property
    def name(self) -> str:
        """Of the file, and of the array if that has one."""
        return self.path.name if self.key is None else f"{self.path.name}:{self.key}"

    @property
    def stem(self) -> str:
        """The name without suffix, which results can have, too."""
        stem = self.path.name[: len(self.path.name) - len(self.suffix)]
        key = None if self.key is None else re.sub(r"[^\w.]+", "-", self.key).strip("-")
        return stem if key is None else f"{stem}-{key}"


def normalised(name: str) -> str:
    """By which names are compared: an accent may be a letter's or a sign of its own."""
    return unicodedata.normalize("NFC", name)


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


def places(source: str | Path) -> list[Path]:
    """The image files that a folder, a file or a pattern (``scans/*.npy``) stands for, sorted.

    Raises:
        InputError: no such folder or file, or nothing that fits the pattern.
    """
    source = Path(source)
    place = Place.of(source)
    if source.is_dir():
        return list_images(source)
    if place.path.is_file():
        return [source]
    if not _MAGIC.search(str(source)):
        raise InputError(f"there is no folder or file {source}")
    found = [path for path in map(Path, sorted(glob(str(source)))) if _is_image(path)]
    if not found:
        raise InputError(f"no image fits {source}", advice=f"images end in {', '.join(SUFFIXES)}")
    return found


def _is_image(path: Path) -> bool:
    known = Place(path).suffix in SUFFIXES
    return known and not path.name.startswith(".") and path.is_file()

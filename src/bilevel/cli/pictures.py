"""Pictures named on the command line: files, folders and patterns, each with a name of its own."""

from __future__ import annotations

import glob
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bilevel.cli.console import say
from bilevel.data import Place, list_images
from bilevel.data.images import SUFFIXES
from bilevel.ground.errors import InputError
from bilevel.report.words import plural

__all__ = ["Picture", "find_pictures"]


@dataclass(frozen=True)
class Picture:
    """A file, and what its results are called below their folder, without a suffix."""

    path: Path
    name: str

    @property
    def id(self) -> str:
        """What it is called in tables: with its suffix."""
        place = Place.of(self.path)
        return f"{self.name}{place.suffix if place.key is None else ''}"

    def ids(self, own: Sequence[str]) -> tuple[str, ...]:
        """The names of its pages, from those that the file knows."""
        return tuple(self.id + one.removeprefix(Place.of(self.path).name) for one in own)


def find_pictures(
    given: Sequence[Path], out: Path, *, owners: Mapping[str, Path], made: Collection[Path]
) -> list[Picture]:
    """All files that are meant, once each: folders hold pictures, patterns match some.

    A result is called like its file; where two folders hold files of one name, those that come
    later bear the name of their folder too. Results are no pictures to begin with: files in
    ``made``, and what a pattern finds in ``out``, are left out.

    Args:
        given: as on the command line.
        out: where results go.
        owners: the files that names belong to since an earlier run.
        made: files that an earlier run wrote.

    Raises:
        InputError: a folder or a pattern without pictures, nothing that is left, or two files of
            one folder and name.
    """
    found: dict[Path, Path] = {}
    left_out = 0
    for path in given:
        for one in _meant(path, out):
            at = one.resolve()
            if at in made:
                left_out += 1
            else:
                found.setdefault(at, one)
    if left_out:
        say(f"leaving out {plural(left_out, 'result')} of an earlier run")
    if not found:
        what = "there are only results of an earlier run among the pictures"
        raise InputError(what, advice="name the data")
    return _named(found, owners)


def _meant(path: Path, out: Path) -> list[Path]:
    """The files that an argument stands for."""
    if path.is_dir():
        return list_images(path)
    text = str(path)
    if Place.of(path).path.exists() or not glob.has_magic(text):
        return [path]
    matching = [Path(one) for one in sorted(glob.glob(text, recursive=True))]
    images = [one for one in matching if Place(one).suffix in SUFFIXES and one.is_file()]
    if not images:
        advice = f"images end in {', '.join(SUFFIXES)}"
        raise InputError(f"no picture matches '{text}'", advice=advice)
    place = out.resolve()
    return [one for one in images if place not in one.resolve().parents] or images


def _named(files: Mapping[Path, Path], owners: Mapping[str, Path]) -> list[Picture]:
    """With the names that they had before, then the shortest that are free, in that order."""
    known = {path: name for name, path in owners.items() if path in files}
    taken: dict[str, Path] = {name: path for name, path in owners.items() if path.exists()}
    pictures: list[Picture] = []
    for at, path in files.items():
        name = known.get(at) or _free(at, taken, files)
        taken[name] = at
        pictures.append(Picture(path, name))
    return pictures


def _free(at: Path, taken: Mapping[str, Path], files: Mapping[Path, Path]) -> str:
    """The name of the file, behind as many of its folders as tell it from others."""
    folders = at.parent.parts[1:]
    for depth in range(len(folders) + 1):
        name = "/".join((*folders[len(folders) - depth :], Place.of(at).stem))
        other = taken.get(name)
        if other is None:
            return name
        if other.parent == at.parent and other in files:
            given = f"{files[other]} and {files[at]}"
            advice = "rename one of them"
            raise InputError("every image needs a name of its own", given=given, advice=advice)
    raise InputError(f"there is no name left for the results of '{at}'")

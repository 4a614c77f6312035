"""Which measurement belongs to which image: by the names of files, or by number in stacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bilevel.data.files import Files
from bilevel.data.places import Place, normalised
from bilevel.ground.errors import InputError, nearest

__all__ = ["matched"]


def matched(measured: Files, target: Files) -> list[tuple[int, int]]:
    """The numbers of the images that belong together, in the order of ``measured``.

    Files of one stem do; a single file on either side belongs to the other, whatever the names.
    Within files the images are matched by number.

    Raises:
        InputError: a file without a partner, which is named, or files of different counts.
    """
    pairs = _files(list(measured.by_file), list(target.by_file))
    found: list[tuple[int, int]] = []
    for one, other in pairs:
        here, there = measured.by_file[one], target.by_file[other]
        if len(here) != len(there):
            given = f"{_count(here)} in {_name(one)} and {_count(there)} in {_name(other)}"
            what = "a measurement and its target must hold as many images"
            raise InputError(what, given=given)
        found += zip(here, there, strict=True)
    return found


def _files(measured: Sequence[Path], target: Sequence[Path]) -> list[tuple[Path, Path]]:
    if len(measured) == len(target) == 1:
        return [(measured[0], target[0])]
    here, there = _by_stem(measured, "measurements"), _by_stem(target, "targets")
    advice = "files are matched by their names without suffix; name them alike, or give two stacks"
    for stem, path in here.items():
        if stem not in there:
            close = nearest(stem, there)
            hint = f"{close} {advice}" if close.startswith("did") else advice
            raise InputError(f"the measurement {_name(path)} has no target", advice=hint)
    for stem, path in there.items():
        if stem not in here:
            raise InputError(f"the target {_name(path)} has no measurement", advice=advice)
    return [(path, there[stem]) for stem, path in here.items()]


def _by_stem(paths: Sequence[Path], what: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        stem = normalised(Place.of(path).stem)
        if stem in found:
            given = f"{_name(found[stem])} and {_name(path)}"
            raise InputError(f"{what} need names of their own", given=given)
        found[stem] = path
    return found


def _name(path: Path) -> str:
    return Place.of(path).name


def _count(images: Sequence[int]) -> str:
    return f"{len(images)} image{'' if len(images) == 1 else 's'}"

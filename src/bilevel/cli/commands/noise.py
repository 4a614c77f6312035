"""``bilevel noise``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bilevel.cli.commands.select import GreyOption, LayoutOption
from bilevel.ground.errors import InputError

if TYPE_CHECKING:
    from bilevel.data import ImageFile
    from bilevel.risk.pictures import PictureNoise

__all__ = ["noise"]

Found = dict[str, "tuple[PictureNoise, float]"]


def noise(
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PICTURE...", help="PNG, JPEG, TIFF or NPY files.")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print numbers as JSON in place of the table.")
    ] = False,
    grey: GreyOption = False,
    layout: LayoutOption = None,
) -> None:
    """Tell how strong the noise of pictures is, whether it is white and grows with the signal.

    Levels are in the numbers of the file. What the pictures do not show is not said.
    """
    import json

    from bilevel.cli.console import results
    from bilevel.cli.images import Reading
    from bilevel.risk.pictures import picture_noise

    found: Found = {}
    reading = Reading(True if grey else None, layout)
    for file in map(reading.file, pictures):
        if file.storage.complex:
            what = f"{file.name} is complex, and levels are those of pictures"
            raise InputError(what, advice="save real and imaginary part as pictures of their own")
        if repeated := found.keys() & set(file.ids):
            raise InputError("every picture needs a name of its own", given=min(repeated))
        for name, page in zip(file.ids, file.pages, strict=True):
            found[name] = picture_noise(page), _unit(file)
    console = results()
    if as_json:
        text = json.dumps({name: _numbers(*one) for name, one in found.items()}, indent=1)
        console.print(text, markup=False, soft_wrap=True)
        return
    _print(found)


def _unit(file: ImageFile) -> float:
    """The number in the file that stands for grey value 1."""
    return file.storage.unit


def _numbers(one: PictureNoise, unit: float) -> dict[str, Any]:
    """In the numbers of the file; null: not known, or not shown by the picture."""
    growth = one.growth
    return {
        "level": one.level * unit,
        "flat": None if one.flat is None else one.flat * unit,
        "correlation": one.correlation,
        "white": one.white,
        "grows": None
        if growth is None
        else {
            "gain": growth.gain * unit,
            "gain_error": growth.gain_error * unit,
            "dark": growth.dark * unit,
        },
    }


def _print(found: Found) -> None:
    from rich.markup import escape
    from rich.table import Table

    from bilevel.cli.console import results

    table = Table("picture", "noise level", "white", "grows with the signal")
    for name, (one, unit) in found.items():
        table.add_row(escape(name), f"{one.level * unit:.3g}", _white(one, unit), _grows(one, unit))
    console = results()
    console.print(table)
    console.print(
        "levels are standard deviations of white noise in the numbers of the file", markup=False
    )
    if any(one.growth is not None for one, _ in found.values()):
        words = (
            "where it grows: variance = gain (mean - dark); of a camera dark = offset - "
            "read_noise²/gain, for --camera offset=...,gain=...,read_noise=..."
        )
        console.print(words, markup=False)


def _white(one: PictureNoise, unit: float) -> str:
    if one.correlation is None or one.flat is None:
        return "too small to tell"
    if one.white:
        return f"yes (neighbours {one.correlation:+.2f})"
    return (
        f"no: neighbours {one.correlation:+.2f}, {one.flat * unit:.3g} in flat places "
        "(or texture everywhere)"
    )


def _grows(one: PictureNoise, unit: float) -> str:
    if one.growth is None:
        return "not shown"
    gain, error, dark = (
        value * unit for value in (one.growth.gain, one.growth.gain_error, one.growth.dark)
    )
    return f"gain {gain:.3g} ± {error:.1g}, dark {dark:.4g}"

"""Options of long work: how much it says and where, on how many threads and which device."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bilevel.cli.console import speaking
from bilevel.ground.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = [
    "DeviceOption",
    "JsonOption",
    "LogOption",
    "QuietOption",
    "ThreadsOption",
    "device_named",
    "out_option",
    "running",
]


def out_option(about: str, default: str | bool = False) -> Any:
    """``--out``: what the folder is for, and which one is taken where none is given."""
    return typer.Option("--out", metavar="DIR", help=about, show_default=default)


QuietOption = Annotated[
    bool, typer.Option("--quiet", help="Say nothing but errors and what was not answered.")
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", help="A line of JSON an image on standard output, and nothing else there."
    ),
]
LogOption = Annotated[
    Path | None,
    typer.Option(
        "--log",
        metavar="FILE",
        help="Append all that is said, with the time, to this file too.",
        show_default=False,
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        max=1024,
        help="Threads of the processor; one a core unless given.",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="Where to compute, e.g. cuda or cuda:1; the processor unless given.",
        show_default=False,
    ),
]


@contextmanager
def running(*, quiet: bool, json: bool, log: Path | None, threads: int | None) -> Generator[None]:
    """Speak and compute as the options say, inside.

    Raises:
        InputError: the log cannot be written to.
    """
    import torch

    before = torch.get_num_threads()
    with speaking(quiet=quiet, tables=not (quiet or json), log=log):
        try:
            torch.set_num_threads(before if threads is None else threads)
            yield
        finally:
            torch.set_num_threads(before)


def device_named(name: str | None) -> torch.device:
    """The device, tried once.

    Raises:
        InputError: there is none of that name here.

    Example:
        >>> device_named(None)
        device(type='cpu')
    """
    import torch

    try:
        device = torch.device("cpu" if name is None else name)
        torch.zeros(1, device=device).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        what = f"--device {name} cannot be used here ({reason})"
        raise InputError(what, advice="leave it out to compute on the processor") from error
    return device

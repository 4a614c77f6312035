"""``bilevel list``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from bilevel.cli.commands.learn import ImportOption

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["list_catalogue"]


def list_catalogue(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[KIND]", help="One kind alone, with what its parameters mean."),
    ] = None,
    parts: ImportOption = None,
) -> None:
    """List the names that configurations choose from, with parameters and defaults."""
    del parts
    from bilevel.cli.catalogue import CATALOGUE
    from bilevel.cli.console import results
    from bilevel.ground.checks import check_choice

    kinds = list(CATALOGUE) if kind is None else [check_choice(kind, CATALOGUE, "kind")]
    console = results()
    for one in kinds:
        for line in _lines(one, explained=kind is not None):
            console.print(line, soft_wrap=True)


def _lines(kind: str, *, explained: bool) -> Iterator[Text]:
    from rich.text import Text

    from bilevel.cli.catalogue import CATALOGUE, about, parameters
    from bilevel.cli.reference import default_of, meaning_of

    yield Text(kind, style="bold")
    width = max(map(len, CATALOGUE[kind]))
    for name, entry in CATALOGUE[kind].items():
        yield Text.assemble("  ", (name.ljust(width), "cyan"), f"  {about(entry)}")
        settings = {key: default_of(field) for key, field in parameters(entry).items()}
        if explained:
            for key, default in settings.items():
                meaning = meaning_of(parameters(entry)[key])
                yield Text.assemble(
                    " " * (width + 4), (f"{key} = {default}", "green"), f"  {meaning}"
                )
        elif settings:
            shown = "  ".join(f"{key} = {default}" for key, default in settings.items())
            yield Text(" " * (width + 4) + shown, style="green")
    yield Text()

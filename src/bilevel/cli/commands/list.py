"""``bilevel list``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, get_args, get_origin

import typer

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from rich.text import Text

__all__ = ["list_catalogue"]


def list_catalogue(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[KIND]", help="One kind alone, with what its parameters mean."),
    ] = None,
) -> None:
    """List the names that configurations choose from, with parameters and defaults."""
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

    yield Text(kind, style="bold")
    width = max(map(len, CATALOGUE[kind]))
    for name, entry in CATALOGUE[kind].items():
        yield Text.assemble("  ", (name.ljust(width), "cyan"), f"  {about(entry)}")
        settings = {key: _default(field) for key, field in parameters(entry).items()}
        if explained:
            for key, default in settings.items():
                meaning = _meaning(parameters(entry)[key])
                yield Text.assemble(
                    " " * (width + 4), (f"{key} = {default}", "green"), f"  {meaning}"
                )
        elif settings:
            shown = "  ".join(f"{key} = {default}" for key, default in settings.items())
            yield Text(" " * (width + 4) + shown, style="green")
    yield Text()


def _meaning(field: FieldInfo) -> str:
    """What a parameter means, and its values if there are a few only."""
    values = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return ", ".join(filter(None, [field.description, " or ".join(map(json.dumps, values))]))


def _default(field: FieldInfo) -> str:
    """A default as it stands in a configuration."""
    from bilevel.cli.catalogue import name_of
    from bilevel.cli.settings.base import Settings

    if field.is_required():
        return "(required)"
    if isinstance(field.default, Settings):
        return f'{{ name = "{name_of(field.default)}" }}'
    return "(none)" if field.default is None else json.dumps(field.default)

"""``bilevel compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bilevel.cli.commands.learn import DataOption, ImportOption
from bilevel.cli.commands.select import (
    FormatOption,
    GreyOption,
    LayoutOption,
    MaskOption,
    MissingOption,
    NoiseOption,
    OperatorOption,
    PositiveOption,
    RegulariserOption,
    SigmaOption,
    SpanOption,
    tables,
)
from bilevel.cli.running import out_option

__all__ = ["compare"]


def compare(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG.toml|IMAGE",
            help="Sharp images to degrade, as for learning; or one picture of data.",
        ),
    ],
    out: Annotated[Path, out_option("Folder for report.html and choices.json.")],
    rules: Annotated[
        str,
        typer.Option("--rules", metavar="A,B,...", help="Names from `bilevel list rules`, or all."),
    ] = "all",
    data: DataOption = None,
    operator: OperatorOption = None,
    noise: NoiseOption = None,
    sigma: SigmaOption = None,
    regulariser: RegulariserOption = None,
    positive: PositiveOption = False,
    span: SpanOption = None,
    grey: GreyOption = False,
    parts: ImportOption = None,
    layout: LayoutOption = None,
    form: FormatOption = None,
    missing: MissingOption = False,
    mask: MaskOption = None,
) -> None:
    """Compare rules that choose a weight without ground truth.

    With a configuration its images are degraded, the weight is also learned from the training
    images, and the best weight there is shows what could be had. With a picture of data every
    rule that applies is run, and NAME-RULE written. Ctrl-C reports what is done. Exit code 3
    if there is an image for which no rule finds a weight to trust.
    """
    del parts
    from bilevel.cli.batch import Files
    from bilevel.cli.choosing import named_rules
    from bilevel.cli.comparing import from_configuration
    from bilevel.cli.config import read, read_selection
    from bilevel.cli.options import range_of
    from bilevel.cli.selecting import from_files
    from bilevel.ground.errors import InputError

    wanted = named_rules(rules)
    options = tables(operator, noise, sigma, regulariser, positive=positive)
    between = None if span is None else range_of(span, "--span")
    if source.suffix.lower() != ".toml":
        selection = read_selection(None, {**options, "span": between})
        if data is not None:
            raise InputError("--data is for configurations", given=str(source))
        own = True if grey else None
        files = Files([source], out, own, layout, form, missing=missing, mask=mask)
        from_files(selection, wanted, files, title="Comparing rules")
        return
    if options or grey or layout is not None or missing or mask is not None:
        advice = f"write that into {source}"
        raise InputError("options of the model are for pictures", advice=advice)
    if form is not None:
        raise InputError("--format is for pictures of data: no picture is written here")
    from_configuration(read(source), wanted, out, data, between)

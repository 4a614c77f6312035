"""``bilevel demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bilevel.cli.running import out_option

__all__ = ["demo"]

CONFIGURATION = Path(__file__).with_name("demo.toml")
SECONDS = 45


def demo(
    out: Annotated[Path, out_option("Folder for the fit and its report.")] = Path("bilevel-demo"),
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="N", help="How long learning may take.")
    ] = SECONDS,
) -> None:
    """Learn weight and smoothing of a TV deblurring on pictures that ship with the package."""
    from bilevel.cli.config import parse
    from bilevel.cli.learning import learn_and_report
    from bilevel.ground.checks import check_positive

    check_positive(seconds, "--seconds")
    text = CONFIGURATION.read_text(encoding="utf-8")
    text = text.replace(f"seconds = {SECONDS}", f"seconds = {seconds:g}")
    learn_and_report(parse(text, CONFIGURATION), out, None)

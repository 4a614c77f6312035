"""The command line: what the commands are, and how each of them ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from bilevel.cli.commands.check import check
from bilevel.cli.commands.compare import compare
from bilevel.cli.commands.demo import demo
from bilevel.cli.commands.directions import directions
from bilevel.cli.commands.evaluate import evaluate
from bilevel.cli.commands.learn import learn
from bilevel.cli.commands.list import list_catalogue
from bilevel.cli.commands.noise import noise
from bilevel.cli.commands.race import race
from bilevel.cli.commands.reconstruct import reconstruct
from bilevel.cli.commands.reproduce import reproduce
from bilevel.cli.commands.select import select
from bilevel.cli.console import error
from bilevel.ground.errors import BilevelError
from bilevel.ground.memory import keep_freed_memory

__all__ = ["app", "main"]

app = typer.Typer(
    name="bilevel",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
BAD_INPUT = 2
EXIT_CODES = (
    "Exit codes: 0 answered; 1 `check` found a wrong derivative; 2 bad input, nothing was done; "
    "3 not answered: what was done is written, and one line each on standard error says what was "
    "not found (no trusted weight, an accuracy that was missed, a picture that could not be read, "
    "learning that diverged, got worse or sits on a plateau, images further from the truth than "
    "the data); 130 after Ctrl-C."
)
"""What scripts may rely on."""


@app.callback(
    invoke_without_command=True,
    epilog="First steps: [bold]bilevel demo[/bold], then "
    "[bold]bilevel learn examples/denoising.toml --out runs/tv[/bold]\n\n" + EXIT_CODES,
)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Learn the parameters of image reconstructions, with certified accuracy."""
    if version:
        from bilevel import __version__

        typer.echo(f"bilevel {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _example(command: str) -> str:
    return f"Example: [bold]bilevel {command}[/bold]"


app.command(epilog=_example("demo --seconds 20 --out runs/demo"))(demo)
app.command(epilog=_example("learn examples/denoising.toml --out runs/tv"))(learn)
app.command(
    epilog=_example("reconstruct runs/tv photographs --out restored")
    + "\n\n"
    + _example("reconstruct runs/tv sharp.png --simulate --out restored")
)(reconstruct)
app.command(
    epilog=_example("select noisy.png --sigma 0.1 --out restored")
    + "\n\n"
    + _example(
        "select *.png --operator gaussian-blur:boundary=reflecting --sigma 5/255 --out restored"
    )
    + "\n\n"
    + _example(
        "select stack.tif --operator gaussian-blur:size=9,sigma=1.3 "
        "--camera offset=100,gain=1,read_noise=2 --out restored"
    )
)(select)
app.command(
    epilog=_example("compare examples/denoising.toml --out runs/rules")
    + "\n\n"
    + _example("compare noisy.png --sigma 0.1 --rules sure,discrepancy --out runs/rules")
)(compare)
app.command(epilog=_example("noise stack.tif"))(noise)
app.command(
    epilog=_example("directions restored.png --out maps")
    + "\n\n"
    + _example("select noisy.png --sigma 0.1 --config maps/directions.toml --out restored")
)(directions)
app.command(
    epilog=_example("evaluate runs/tv --images pictures")
    + "\n\n"
    + _example("evaluate runs/tv runs/experts fixed.toml --images pictures --out compared")
)(evaluate)
app.command(
    epilog=_example("race examples/denoising.toml --algorithms maid,l-bfgs --out runs/race")
)(race)
app.command(
    epilog=_example("reproduce ehrhardt-roberts-2021 --quick")
    + "\n\n"
    + _example("reproduce chen-ranftl-pock-2014 --data data --minutes 55 --out runs/experts")
)(reproduce)
app.command(epilog=_example("check examples/denoising.toml"))(check)
app.command("list", epilog=_example("list operators"))(list_catalogue)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; see EXIT_CODES for what it returns."""
    keep_freed_memory()
    try:
        return app(args=arguments, standalone_mode=False) or 0
    except typer.TyperException as problem:
        error(f"{problem.format_message().rstrip('.')}; `bilevel --help` tells more")
    except BilevelError as problem:
        error(str(problem))
    except OSError as problem:
        error(
            str(problem)
            if problem.filename is None
            else f"{problem.strerror}: '{problem.filename}'"
        )
    except Exception as problem:
        from bilevel.cli.importing import blamed

        words = blamed(problem)
        if words is None:
            raise
        error(words)
    return BAD_INPUT

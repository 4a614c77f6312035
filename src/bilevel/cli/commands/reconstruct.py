"""``bilevel reconstruct``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bilevel.cli.commands.evaluate import AccuracyOption
from bilevel.cli.commands.learn import ImportOption
from bilevel.cli.commands.select import FormatOption, ImagesArgument, LayoutOption
from bilevel.cli.running import DeviceOption, JsonOption, LogOption, QuietOption, ThreadsOption

__all__ = ["reconstruct"]


def reconstruct(
    fit: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|CONFIG.toml",
            help="A folder that `bilevel learn` wrote; or a configuration, with the weights in it.",
        ),
    ],
    images: ImagesArgument,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the reconstructions.")
    ],
    simulate: Annotated[
        bool,
        typer.Option(
            "--simulate",
            help="The images are sharp: degrade them first, as in learning. "
            "Without it they are the data.",
        ),
    ] = False,
    accuracy: AccuracyOption = None,
    parts: ImportOption = None,
    layout: LayoutOption = None,
    form: FormatOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
    log: LogOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
) -> None:
    """Reconstruct images with learned parameters, or with those of a configuration.

    Writes NAME.png, NAME.tif or NAME.npy as the data are, each when it is ready; with --simulate
    also NAME-before. results.jsonl beside them tells of each what was proved and spent; what is
    done is not done again. Ctrl-C loses the present image alone. Exit code 3 if one failed or
    missed the accuracy, or with --simulate is further from the truth than the data.
    """
    del parts
    from bilevel.cli.batch import Files
    from bilevel.cli.reconstructing import from_files
    from bilevel.cli.reconstruction import Reconstructor
    from bilevel.cli.running import device_named, running

    with running(quiet=quiet, json=json, log=log, threads=threads):
        reconstructor = Reconstructor.load(fit, accuracy, device_named(device))
        files = Files(images, out, layout=layout, form=form, lines=json)
        from_files(reconstructor, files, simulate=simulate)

"""``bilevel reconstruct``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bilevel.cli.commands.evaluate import AccuracyOption
from bilevel.cli.commands.learn import ImportOption
from bilevel.cli.commands.select import (
    CameraOption,
    FormatOption,
    ImagesArgument,
    LayoutOption,
    MaskOption,
    MissingOption,
)
from bilevel.cli.running import (
    DeviceOption,
    JsonOption,
    LogOption,
    QuietOption,
    ThreadsOption,
    out_option,
)
from bilevel.ground.errors import InputError

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
    out: Annotated[Path, out_option("Folder for the reconstructions.")],
    simulate: Annotated[
        bool,
        typer.Option(
            "--simulate",
            help="The images are sharp: degrade them first, as in learning. "
            "Without it they are the data.",
        ),
    ] = False,
    accuracy: AccuracyOption = None,
    camera: CameraOption = None,
    parts: ImportOption = None,
    layout: LayoutOption = None,
    form: FormatOption = None,
    missing: MissingOption = False,
    mask: MaskOption = None,
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
    from bilevel.cli.camera import camera_of
    from bilevel.cli.reconstructing import from_files
    from bilevel.cli.reconstruction import Reconstructor
    from bilevel.cli.running import device_named, running

    if simulate and (missing or mask is not None):
        raise InputError("sharp images have data everywhere", advice="leave out --mask, --missing")
    with running(quiet=quiet, json=json, log=log, threads=threads):
        reconstructor = Reconstructor.load(fit, accuracy, device_named(device))
        own = reconstructor.configuration.data
        files = Files(
            images,
            out,
            own.grey,
            layout or own.layout,
            form,
            missing=missing or (own.missing is not None and not simulate),
            mask=mask or (None if simulate else own.mask),
            camera=camera_of(camera, reconstructor.configuration, simulate=simulate),
            lines=json,
        )
        from_files(reconstructor, files, simulate=simulate)

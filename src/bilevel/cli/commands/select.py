"""``bilevel select``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bilevel.cli.commands.learn import ImportOption
from bilevel.cli.running import (
    DeviceOption,
    JsonOption,
    LogOption,
    QuietOption,
    ThreadsOption,
    out_option,
)

__all__ = [
    "CameraOption",
    "FormatOption",
    "GreyOption",
    "ImagesArgument",
    "LayoutOption",
    "MaskOption",
    "MissingOption",
    "NoiseOption",
    "OperatorOption",
    "PositiveOption",
    "RegulariserOption",
    "SigmaOption",
    "SpanOption",
    "select",
    "tables",
]

OperatorOption = Annotated[
    str | None,
    typer.Option(
        "--operator",
        metavar="NAME[:KEY=VALUE,...]",
        help="How images became data, e.g. gaussian-blur:size=9,sigma=1.6; identity (denoising) "
        "unless given. See `bilevel list operators`.",
        show_default=False,
    ),
]
NoiseOption = Annotated[
    str | None,
    typer.Option(
        "--noise",
        metavar="NAME[:KEY=VALUE,...]",
        help="gaussian unless given (of estimated level without --sigma), or e.g. "
        "poisson:peak=100,background=0.01 (0.01 unless given).",
        show_default=False,
    ),
]
SigmaOption = Annotated[
    str | None,
    typer.Option(
        "--sigma",
        metavar="LEVEL",
        help="Standard deviation of Gaussian noise in the units of the data, e.g. 0.1; 25/255 for "
        "pictures and 5/65535 for 16-bit files, which are taken as grey values from 0 to 1.",
        show_default=False,
    ),
]
RegulariserOption = Annotated[
    str | None,
    typer.Option(
        "--regulariser",
        metavar="NAME[:KEY=VALUE,...]",
        help="total-variation unless given, smoothed at 1 % of the contrast.",
        show_default=False,
    ),
]
PositiveOption = Annotated[
    bool,
    typer.Option(
        "--positive",
        help="Images have no grey value below 0; other bounds stand in [box] of --config.",
    ),
]
SpanOption = Annotated[
    str | None,
    typer.Option(
        "--span",
        metavar="LOW,HIGH",
        help="Range of weights to search, e.g. 1e-4,10; found from the data unless given.",
        show_default=False,
    ),
]
CameraOption = Annotated[
    str | None,
    typer.Option(
        "--camera",
        metavar="KEY=VALUE,...",
        help="The data are numbers of a camera, e.g. offset=100,gain=1,read_noise=2,"
        "saturation=4095: the offset is taken off, the noise is that of photons and of reading, "
        "results are not negative, saturated pixels not used.",
        show_default=False,
    ),
]
ImagesArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="IMAGE...",
        help="The data: PNG, JPEG, TIFF, NPY, DICOM, NIfTI, or FILE:NAME of NPZ, HDF5, MAT; "
        "folders of files, or patterns.",
    ),
]
GreyOption = Annotated[bool, typer.Option("--grey", help="Take colour pictures as grey.")]


LayoutOption = Annotated[
    Literal["stack", "colour", "coils"] | None,
    typer.Option(
        "--layout",
        help="What arrays of three dimensions are, where their shape does not say: slices "
        "(n, h, w), each reconstructed on its own, the channels of one picture, or complex data of "
        "several coils.",
        show_default=False,
    ),
]
FormatOption = Annotated[
    Literal["png", "tiff", "npy"] | None,
    typer.Option(
        "--format",
        help="Of the results. Unless given, arrays become arrays and TIFF becomes TIFF, floats in "
        "the units of the data; PNG and JPEG become PNG, 16 bits deep, grey values 0 to 1.",
        show_default=False,
    ),
]
MissingOption = Annotated[
    bool, typer.Option("--missing", help="NaN stands for pixels without data, which do not count.")
]
MaskOption = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        metavar="PICTURE|DIR",
        help="White where pixels hold data, black where they are dead or saturated; or a folder "
        "with one for each file.",
        show_default=False,
    ),
]


def select(
    images: ImagesArgument,
    out: Annotated[
        Path,
        out_option("Folder for results, report and numbers."),
    ],
    operator: OperatorOption = None,
    noise: NoiseOption = None,
    sigma: SigmaOption = None,
    camera: CameraOption = None,
    regulariser: RegulariserOption = None,
    positive: PositiveOption = False,
    rule: Annotated[
        str | None,
        typer.Option(
            "--rule",
            metavar="NAME[:KEY=VALUE,...]",
            help="What chooses the weight, e.g. discrepancy:corrected=true; unless given, sure in "
            "denoising and predicted-risk otherwise. See `bilevel list rules`.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="CONFIG.toml",
            help="Take precision, operator, camera, noise, fidelity, regulariser, ridge, box, rule "
            "and span from it; options replace tables.",
            show_default=False,
        ),
    ] = None,
    span: SpanOption = None,
    grey: GreyOption = False,
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
    """Choose the weight of the regulariser for data without ground truth, and reconstruct them.

    Writes NAME.png, NAME.tif or NAME.npy as the data are, each when it is ready, a line of
    results.jsonl for each, and in the end report.html with the curve that the rule followed, and
    choices.json. What is done is not done again; Ctrl-C loses the present image alone. Exit code 3
    if there is one that failed or is without a weight to trust.
    """
    del parts
    from bilevel.cli.batch import Files
    from bilevel.cli.config import layout_in, read_selection, tables_for_learning
    from bilevel.cli.console import say
    from bilevel.cli.options import keys_of, range_of, table_of
    from bilevel.cli.running import device_named, running
    from bilevel.cli.selecting import from_files

    options = tables(operator, noise, sigma, regulariser, positive=positive)
    if camera is not None:
        options["camera"] = keys_of(camera, "--camera")
    if span is not None:
        options["span"] = range_of(span, "--span")
    if rule is not None:
        options["rule"] = table_of(rule, "--rule")
    selection = read_selection(config, options)
    if layout is None and config is not None:
        layout = layout_in(config)
    name, settings = selection.named_rule
    with running(quiet=quiet, json=json, log=log, threads=threads):
        files = Files(
            images,
            out,
            True if grey else None,
            layout,
            form,
            missing=missing,
            mask=mask,
            camera=selection.camera,
            lines=json,
        )
        chosen = device_named(device)
        from_files(selection, {name: settings}, files, title="Choosing the weight", device=chosen)
        if config is not None and (unused := tables_for_learning(config)):
            unheeded = ", ".join(f"[{table}]" for table in unused)
            say(f"only for learning, and not used here: {unheeded} of {config}")


def tables(
    operator: str | None,
    noise: str | None,
    sigma: str | None,
    regulariser: str | None,
    *,
    positive: bool = False,
) -> dict[str, object]:
    """The tables of a configuration that these options stand for; None for one to be removed.

    Raises:
        InputError: an option that is no table, a level of noise that has none.
    """
    from bilevel.cli.options import table_of
    from bilevel.ground.errors import InputError

    given = {"operator": operator, "regulariser": regulariser}
    found: dict[str, object] = {
        key: table_of(text, f"--{key}") for key, text in given.items() if text is not None
    }
    if positive:
        found["box"] = {"lower": 0.0}
    if noise is None and sigma is None:
        return found
    table = table_of(noise or "gaussian", "--noise")
    if sigma is not None and table["name"] != "gaussian":
        raise InputError("--sigma is the level of gaussian noise", given=f"--noise {noise}")
    table = table if sigma is None else {**table, "sigma": sigma}
    found["noise"] = None if table == {"name": "gaussian"} else table  # None: of unknown level
    return found

"""From pictures of data to chosen weights, reconstructions and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bilevel import data
from bilevel.cli.choice_report import write_report
from bilevel.cli.choosing import Job, Task, prepare
from bilevel.cli.config import Selection, plain
from bilevel.cli.console import check_writable
from bilevel.cli.images import check_names
from bilevel.cli.settings.kinds import RuleSettings
from bilevel.cli.settings.operators import FourierMask
from bilevel.ground.errors import InputError
from bilevel.report import Compared

__all__ = ["from_files"]


def from_files(
    selection: Selection,
    rules: Mapping[str, RuleSettings],
    images: Sequence[Path],
    out: Path,
    *,
    grey: bool,
    title: str,
) -> None:
    """Choose a weight for each picture of data; write reconstructions, report and numbers.

    Raises:
        BilevelError: files that cannot be read or written, or no rule that applies.
        typer.Exit: with code 130 after Ctrl-C; what is done until then is written.
    """
    check_names(images, check_writable(out))
    if isinstance(selection.operator, FourierMask):
        advice = "compare with sharp images in a configuration"
        raise InputError("Fourier data cannot be read from pictures", advice=advice)
    tasks: list[Task] = []
    noise = None if selection.noise is None else selection.noise.build()
    for name, image in data.load_images(images, grey=True if grey else None):
        y = image.to(selection.dtype)
        tasks.append(prepare(selection, rules, Job((name,), y, noise)))
    compared: list[Compared] = []
    for task in tasks:
        one = task.run()
        if one.comparison.choices:
            compared.append(one)
            _save(one, out, suffixes=len(rules) > 1)
        if one.comparison.interrupted:
            break
    interrupted = len(compared) < len(tasks) or compared[-1].comparison.interrupted
    about = plain(selection)
    estimated = {t.job.ids[0]: vars(t.estimated) for t in tasks if t.estimated is not None}
    if estimated:
        about["estimated_noise"] = estimated
    write_report(compared, out, about, title=title, interrupted=interrupted)


def _save(compared: Compared, out: Path, *, suffixes: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for rule, choice in compared.comparison.choices.items():
        for name, x in zip(compared.ids, choice.x, strict=True):
            stem = f"{Path(name).stem}-{rule}" if suffixes else Path(name).stem
            data.save_image(out / f"{stem}.png", x, bits=16)

"""From data, or sharp images that data are made of, to chosen weights and their report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer
from torch import Tensor

from bilevel import data
from bilevel.cli.catalogue import CATALOGUE
from bilevel.cli.config import Selection, made, plain
from bilevel.cli.console import check_writable, results, say
from bilevel.cli.images import check_names
from bilevel.cli.learning import INTERRUPTED, REPORT
from bilevel.cli.progress import WeightProgress
from bilevel.cli.settings.operators import FourierMask
from bilevel.cli.settings.rules import RuleSettings
from bilevel.ground.errors import InputError, nearest
from bilevel.model import Variational
from bilevel.report import (
    Compared,
    chosen,
    compare_page,
    compare_table,
    compare_verdict,
    summaries,
    write_page,
)
from bilevel.report.choices import failures
from bilevel.select import Rule, compare

__all__ = ["ALL", "Job", "Task", "from_files", "named_rules", "prepare", "write_report"]

ALL = "all"


@dataclass(frozen=True)
class Job:
    """Data (k, c', h', w') of one size with names; the truth and a learned weight if known."""

    ids: tuple[str, ...]
    y: Tensor
    noise: data.Noise
    target: Tensor | None = None
    learned: float | None = None


@dataclass(frozen=True)
class Task:
    """A job with the energy and the rules that apply to it."""

    job: Job
    energy: Variational
    rules: Mapping[str, Rule]
    unfit: Mapping[str, str]

    def run(self) -> Compared:
        """What the rules choose."""
        ids = self.job.ids
        where = ids[0] if len(ids) == 1 else f"{len(ids)} images"
        found = compare(
            self.energy,
            self.job.y,
            self.rules,
            target=self.job.target,
            learned=self.job.learned,
            heard=lambda name: WeightProgress(f"{name} on {where}"),
        )
        return Compared(ids, replace(found, failures={**self.unfit, **found.failures}))


def named_rules(names: str) -> dict[str, RuleSettings]:
    """The rules of a list with commas, or all, with their defaults.

    Raises:
        InputError: an unknown name, one that is given twice, or none at all.
    """
    entries = CATALOGUE["rules"]
    asked = [name.strip() for name in names.split(",") if name.strip()]
    for name in asked if asked != [ALL] else []:
        if name not in entries:
            raise InputError(f"--rules: unknown rule '{name}'", advice=nearest(name, entries))
        if asked.count(name) > 1:
            raise InputError(f"--rules names '{name}' twice")
    if not asked:
        raise InputError("--rules names no rule", advice=f"e.g. --rules {ALL}")
    wanted = list(entries) if asked == [ALL] else asked
    return {name: made("rules", {"name": name}, RuleSettings) for name in wanted}


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
    for name, image in data.load_images(images, grey=True if grey else None):
        y = image.to(selection.dtype)
        tasks.append(prepare(selection, rules, Job((name,), y, selection.noise_of(y))))
    compared: list[Compared] = []
    for task in tasks:
        one = task.run()
        if one.comparison.choices:
            compared.append(one)
            _save(one, out, suffixes=len(rules) > 1)
        if one.comparison.interrupted:
            break
    interrupted = len(compared) < len(tasks) or compared[-1].comparison.interrupted
    write_report(compared, out, plain(selection), title=title, interrupted=interrupted)


def prepare(selection: Selection, rules: Mapping[str, RuleSettings], job: Job) -> Task:
    """What is to be done for one job; rules that do not apply are named with the reason.

    Raises:
        InputError: data that do not fit the model, or no rule that applies.
    """
    like = job.y if job.target is None else job.target
    shape = (like.shape[1], like.shape[2], like.shape[3])
    energy = selection.energy(selection.image_shape(shape) if job.target is None else shape)
    energy.check(job.y)
    built: dict[str, Rule] = {}
    unfit: dict[str, str] = {}
    for name, settings in rules.items():
        try:
            rule = settings.build(job.noise)
            rule.check(energy, job.y)
        except InputError as error:
            unfit[name] = str(error)
        else:
            built[name] = rule
    if not built:
        reasons = "; ".join(unfit.values())
        raise InputError(reasons if len(unfit) == 1 else f"no rule applies: {reasons}")
    return Task(job, energy, built, unfit)


def write_report(
    compared: Sequence[Compared],
    out: Path,
    configuration: Mapping[str, Any],
    *,
    title: str,
    interrupted: bool = False,
) -> None:
    """``report.html`` and ``choices.json``, and a table on standard output.

    Raises:
        InputError: the folder cannot be written to.
        typer.Exit: with code 130 if the work was interrupted.
    """
    if not compared:
        say("interrupted before there was anything to report")
        raise typer.Exit(INTERRUPTED)
    for name, why in failures(compared).items():
        say(f"leaving out {name}: {why}")
    page = compare_page(compared, configuration=configuration, title=title)
    text = json.dumps(_json(compared, configuration, interrupted), indent=1, allow_nan=False)
    path, numbers = write_page(out / REPORT, page), write_page(out / "choices.json", text)
    console = results()
    console.print(compare_table(summaries(compared).values()))
    for sentence in compare_verdict(compared):
        console.print(sentence, markup=False)
    console.print(f"numbers: {numbers}\nreport:  {path}", markup=False, soft_wrap=True)
    if interrupted:
        say(f"interrupted: the report in {out} tells of what was done until then")
        raise typer.Exit(INTERRUPTED)


def _save(compared: Compared, out: Path, *, suffixes: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for rule, choice in compared.comparison.choices.items():
        for name, x in zip(compared.ids, choice.x, strict=True):
            stem = f"{Path(name).stem}-{rule}" if suffixes else Path(name).stem
            data.save_image(out / f"{stem}.png", x, bits=16)


def _json(
    compared: Sequence[Compared], configuration: Mapping[str, Any], interrupted: bool
) -> dict[str, Any]:
    """Everything but images; null stands for what is not proved or not known."""
    images: dict[str, dict[str, Any]] = {}
    for group in compared:
        for row in chosen([group]):
            choice = group.comparison.choices[row.rule]
            weights, values = choice.curve.row(group.ids.index(row.image))
            images.setdefault(row.image, {})[row.rule] = {
                "weight": row.weight,
                "criterion": _finite(row.value),
                "outcome": row.outcome.name,
                "advice": row.advice,
                "certificate": _finite(row.certificate),
                "psnr": _finite(row.psnr),
                "ssim": _finite(row.ssim),
                "curve": {"weight": _list(weights), "criterion": _list(values)},
            }
    return {
        "images": images,
        "rules": {
            name: {"found": s.found, "psnr": _finite(s.psnr), "cost": vars(s.cost)}
            for name, s in summaries(compared).items()
        },
        "failures": dict(failures(compared)),
        "interrupted": interrupted,
        "configuration": configuration,
    }


def _list(values: Iterable[Tensor]) -> list[float | None]:
    return [_finite(float(value)) for value in values]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

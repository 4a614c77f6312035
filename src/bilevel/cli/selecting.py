"""From pictures of data to chosen weights, reconstructions and a report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from bilevel import data
from bilevel.cli.camera import Shot, taken
from bilevel.cli.choice_report import write_report
from bilevel.cli.choosing import Job, Task, prepare
from bilevel.cli.config import Selection, plain
from bilevel.cli.console import check_writable, say
from bilevel.cli.images import Reading, check_targets
from bilevel.cli.measured import existing, sampling, shape_of
from bilevel.cli.settings.kinds import RuleSettings
from bilevel.ground.checks import check_finite
from bilevel.ground.errors import InputError
from bilevel.report import Compared

__all__ = ["from_files"]

_UNITS = 10


def from_files(
    selection: Selection,
    rules: Mapping[str, RuleSettings],
    images: Sequence[Path],
    out: Path,
    *,
    reading: Reading,
    title: str,
    form: data.Format | None = None,
) -> None:
    """Choose a weight for each picture of data; write reconstructions, report and numbers.

    Every page of a stack is a picture of its own. Files of float64 are computed in float64 unless
    the selection says otherwise; results are in the units and the layout of the file.

    Raises:
        BilevelError: files that cannot be read or written, or no rule that applies.
        typer.Exit: with code 130 after Ctrl-C; what is done until then is written.
    """
    check_writable(out)
    files = reading.files(images)
    if any(file.storage.complex for file in files):
        selection = selection.for_complex()
    check_targets(files, out, form)
    shots = [taken(file, selection.camera) for file in files]
    tasks = [_tasks(selection, rules, shot) for shot in shots]
    files = [shot.file for shot in shots]
    for about in filter(None, (shot.about for shot in shots)):
        say(about)
    for task in (task for pages in tasks for task in pages):
        y, channels = task.job.y, selection.image_shape(shape_of(task.job.y))[0]
        for words in sampling(selection.operator, task.job.ids[0], y, channels):
            say(words)
    if remark := selection.operator.remark:
        say(remark)
    for task in (task for pages in tasks for task in pages):
        if isinstance(task.estimated, data.GaussianNoise):
            level = f"sigma = {float(cast(float, task.estimated.sigma)):.3g}"
            say(f"{task.job.ids[0]}: {level} estimated, for white noise; --sigma gives it")
    compared: list[Compared] = []
    for file, pages in zip(files, tasks, strict=True):
        done = _run(pages)
        compared += done
        if done:
            _save(file, done, out, form, suffixes=len(rules) > 1)
        if len(done) < len(pages) or done[-1].comparison.interrupted:
            break
    total = sum(len(pages) for pages in tasks)
    interrupted = len(compared) < total or compared[-1].comparison.interrupted
    about = plain(selection)
    estimated = {
        task.job.ids[0]: vars(task.estimated)
        for pages in tasks
        for task in pages
        if task.estimated is not None
    }
    if estimated:
        about["estimated_noise"] = estimated
    write_report(compared, out, about, title=title, interrupted=interrupted)


def _tasks(selection: Selection, rules: Mapping[str, RuleSettings], shot: Shot) -> list[Task]:
    """One task for every page; one for all pages of equal size of a camera, which share its noise.

    Pages of a camera that lack some of their pixels have an operator of their own.
    """
    file, own = shot.file, selection.seen_by(shot.camera)
    own = own if own.precision is not None else own.in_precision(file.dtype)
    found: list[Task] = []
    together: defaultdict[torch.Size, list[tuple[str, Tensor]]] = defaultdict(list)
    for name, page, known in zip(file.ids, file.pages, file.seen, strict=True):
        seen = existing(own.operator, page, [name], [known])
        unit = own.operator.unit((page.shape[1], page.shape[2], page.shape[3]))
        y = check_finite((page / unit).to(own.dtype), name)
        noise = None if own.noise is None else own.noise.in_unit(unit)
        _check_level(noise, y, name)
        if shot.camera is None:
            found.append(prepare(own, rules, Job((name,), y, noise, seen=seen)))
            continue
        y = _counted(y, cast(data.PoissonNoise, noise).background, name)
        if seen is None:
            together[y.shape].append((name, y))
        else:
            found.append(prepare(own, rules, Job((name,), y, noise, seen=seen, light=True)))
    for pages in together.values():
        names, values = zip(*pages, strict=True)
        noise = None if own.noise is None else own.noise.build()
        found.append(prepare(own, rules, Job(names, torch.cat(values), noise, light=True)))
    return found


def _counted(y: Tensor, background: float, name: str) -> Tensor:
    """Light whose read noise is taken for that of a background: no counts below none."""
    below = int((y < -background).sum())
    if below:
        say(
            f"{name}: {below} of {y.numel()} pixels lie so far below the offset that they count as "
            "no photon, the background of read noise included"
        )
    return y.clamp_min(-background)


def _check_level(noise: data.Noise | None, y: Tensor, name: str) -> None:
    """Noise of more than ten times the range of all the data was given in another unit."""
    reach = float(y.max() - y.min())
    if not isinstance(noise, data.GaussianNoise):
        return
    if isinstance(noise.sigma, tuple):
        what = "measured data have a level of their own, not one that is drawn"
        raise InputError(what, given=noise.sigma, advice="give it, or --sigma estimate")
    if noise.sigma > _UNITS * reach > 0:
        what = f"noise of that level cannot be in {name}, whose values span {reach:.3g}"
        advice = "give the level in the units of the data, e.g. --sigma 5/65535 for 16-bit files"
        raise InputError(what, given=f"{noise.sigma:g}", advice=advice)


def _run(tasks: Sequence[Task]) -> list[Compared]:
    """What came of the pages of a file, up to an interrupt."""
    done: list[Compared] = []
    for task in tasks:
        one = task.run()
        if one.comparison.choices:
            done.append(one)
        if one.comparison.interrupted:
            break
    return done


def _save(
    file: data.ImageFile,
    done: Sequence[Compared],
    out: Path,
    form: data.Format | None,
    *,
    suffixes: bool,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    rules = dict.fromkeys(rule for one in done for rule in one.comparison.choices)
    for rule in rules:
        pages = {
            name: x
            for one in done
            if rule in one.comparison.choices
            for name, x in zip(one.ids, one.comparison.choices[rule].x, strict=True)
        }
        stem = f"{file.stem}-{rule}" if suffixes else file.stem
        ordered = [pages[name] for name in file.ids if name in pages]
        path, word = data.save_results(out / stem, ordered, file.storage, form)
        if word is not None:
            say(word)
        if len(pages) < len(file.pages):
            lacking = ", ".join(name for name in file.ids if name not in pages)
            say(f"{path.name}: without {lacking}")

"""From pictures of data to chosen weights, reconstructions and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from bilevel import data
from bilevel.cli.batch import Batch, Done, Files, Made, unanswered
from bilevel.cli.camera import Shot
from bilevel.cli.choice_lines import compared_of, light, line_of
from bilevel.cli.choice_report import write_report
from bilevel.cli.choosing import Job, Task, prepare
from bilevel.cli.config import Selection, plain
from bilevel.cli.config.noise import check_level
from bilevel.cli.console import say
from bilevel.cli.measured import existing, sampling, shape_of
from bilevel.cli.pictures import Picture
from bilevel.cli.record import Line, files_of
from bilevel.cli.settings.rules import RuleSettings
from bilevel.data import ImageFile
from bilevel.ground.checks import check_finite
from bilevel.ground.errors import BilevelError, InputError
from bilevel.report import Compared
from bilevel.report.compare_page import SHOWN
from bilevel.select import Curve
from bilevel.solve import Certificate

__all__ = ["from_files"]


def from_files(
    selection: Selection,
    rules: Mapping[str, RuleSettings],
    files: Files,
    *,
    title: str,
    device: torch.device | None = None,
) -> None:
    """Choose a weight for each picture of data; write reconstructions, report and numbers.

    Every page of a stack is a picture of its own. Files of float64 are computed in float64 unless
    the selection says otherwise; results are in the units and the layout of the file. What was
    done before with the same settings is reported, and not done again.

    Raises:
        BilevelError: nothing can be read or written, or no rule applies.
        typer.Exit: with code 130 after Ctrl-C; what is done until then is written.
    """
    settings = files.settings(_about(selection, rules))
    batch = Batch.of(files, settings, "choosing", live=False)
    work = _Choosing(selection, rules, torch.device("cpu") if device is None else device)
    done: list[Done] = []
    interrupted = False
    try:
        for one in batch.run(work):
            done.append(one)
            if not one.fresh:
                work.recall(one, files)
            if work.interrupted:
                break
    except KeyboardInterrupt:
        interrupted = True
    interrupted = interrupted or work.interrupted
    about = plain(selection)
    estimated = {
        line["id"]: line["noise"] for one in done for line in one.lines if line.get("noise")
    }
    if estimated:
        about["estimated_noise"] = estimated
    failed = unanswered([one for one in done if one.failed])
    write_report(
        work.compared, files.out, about, title=title, interrupted=interrupted, failed=failed
    )


def _about(selection: Selection, rules: Mapping[str, RuleSettings]) -> dict[str, object]:
    """What results depend on, beside the file and how it is read."""
    table = plain(selection)
    return {
        "command": "select",
        "selection": table,
        "files": files_of(table),
        "rules": {name: plain(rule) for name, rule in rules.items()},
    }


@dataclass
class _Choosing:
    """The work on a file; ``compared`` has what was found, without images but for the first."""

    selection: Selection
    rules: Mapping[str, RuleSettings]
    device: torch.device
    compared: list[Compared] = field(default_factory=list[Compared])
    interrupted: bool = False

    def __call__(self, picture: Picture, shot: Shot) -> Made:
        """A weight for each page.

        Raises:
            KeyboardInterrupt: before there was anything to keep.
        """
        ids = picture.ids(shot.file.ids)
        tasks = self._tasks(shot, ids)
        if (remark := self.selection.operator.remark) and not self.compared:
            say(remark)
        for task in tasks:
            if isinstance(task.estimated, data.GaussianNoise):
                level = f"sigma = {float(cast(float, task.estimated.sigma)):.3g}"
                say(f"{task.job.ids[0]}: {level} estimated, for white noise; --sigma gives it")
        images: dict[str, list[Tensor]] = {}
        lines: list[Line] = []
        for task in tasks:
            one = _on_processor(task.run())
            self.interrupted = one.comparison.interrupted
            if one.comparison.choices:
                for rule, choice in one.comparison.choices.items():
                    suffix = f"-{rule}" if len(self.rules) > 1 else ""
                    images.setdefault(suffix, []).append(choice.x)
                lines.append(line_of(one, task.estimated))
                self._keep(one)
            if self.interrupted:
                break
        if not lines:
            raise KeyboardInterrupt
        for suffix, pages in images.items():
            if len(pages) < len(ids):
                say(f"{picture.name}{suffix}: {len(pages)} of {len(ids)} pages")
        return Made(images, lines, complete=not self.interrupted)

    def recall(self, done: Done, files: Files) -> None:
        """Keep what an earlier run found; the first with their images, if these can be read."""
        for k, line in enumerate(done.lines):
            one = compared_of(line)
            if len(self.compared) < SHOWN:
                with suppress(BilevelError):
                    one = self._whole(done, files, k)
            self.compared.append(one)

    def _whole(self, done: Done, files: Files, k: int) -> Compared:
        """What an earlier run found for page k, with the images that it wrote."""
        shot, line = files.read(done.picture.path), done.lines[k]
        file, own = shot.file, self._own(shot)
        y = file.pages[k].to(own.dtype)
        shown: dict[str, Tensor] = {}
        for rule in line["rules"]:
            suffix = f"-{rule}" if len(self.rules) > 1 else ""
            shown[rule] = _result(done, files.out, suffix, file, k).to(own.dtype)
        x = next(iter(shown.values()))
        if x.shape == y.shape:
            return compared_of(line, y, y, shown)
        energy = own.energy((x.shape[1], x.shape[2], x.shape[3]))
        return compared_of(line, y, energy.start(y).detach(), shown)

    def _keep(self, one: Compared) -> None:
        self.compared.append(one if len(self.compared) < SHOWN else light(one))

    def _own(self, shot: Shot) -> Selection:
        """For what the camera saw, in the precision of the file unless one is asked for."""
        own = self.selection.seen_by(shot.camera)
        return own if own.precision is not None else own.in_precision(shot.file.dtype)

    def _tasks(self, shot: Shot, ids: Sequence[str]) -> list[Task]:
        """One task for every page."""
        own, file, found = self._own(shot), shot.file, list[Task]()
        for name, page, known in zip(ids, file.pages, file.seen, strict=True):
            seen = existing(own.operator, page, [name], [known])
            shape = shape_of(page)
            for words in sampling(own.operator, name, page, own.image_shape(shape)[0]):
                say(words)
            unit = own.operator.unit(shape)
            y = check_finite((page / unit).to(own.dtype), name)
            noise = None if own.noise is None else own.noise.in_unit(unit)
            _check_level(noise, y, name, file.storage.unit)
            if shot.camera is not None:
                y = _counted(y, cast(data.PoissonNoise, noise).background, name)
            job = Job((name,), y.to(self.device), noise, seen=seen)
            found.append(prepare(own, self.rules, job))
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


def _check_level(noise: data.Noise | None, y: Tensor, name: str, unit: float) -> None:
    """Noise of more than ten times the range of all the data was given in another unit."""
    reach = float(y.max() - y.min())
    if not isinstance(noise, data.GaussianNoise):
        return
    if isinstance(noise.sigma, tuple):
        what = "measured data have a level of their own, not one that is drawn"
        raise InputError(what, given=noise.sigma, advice="give it, or --sigma estimate")
    where, advice = name, "give the level in the units of the data"
    if unit != 1:
        where += f" (whole numbers count as parts of {unit:g})"
        advice += f", one in numbers of the file as --sigma {noise.sigma:g}/{unit:g}"
    check_level(noise, reach, where, advice)


def _on_processor(one: Compared) -> Compared:
    """Wherever it was computed."""
    found = one.comparison
    if found.y.device.type == "cpu":
        return one
    choices = {
        name: replace(
            choice,
            weight=choice.weight.cpu(),
            x=choice.x.cpu(),
            certificate=Certificate(**{k: v.cpu() for k, v in vars(choice.certificate).items()}),
            curve=Curve(choice.curve.weight.cpu(), choice.curve.value.cpu()),
        )
        for name, choice in found.choices.items()
    }
    moved = replace(found, y=found.y.cpu(), before=found.before.cpu(), choices=choices)
    return Compared(one.ids, moved)


def _result(done: Done, out: Path, suffix: str, file: ImageFile, page: int) -> Tensor:
    """A page of a result that was written before, (1, c, h, w) [grey value].

    Raises:
        InputError: it is not there.
    """
    stem = f"{done.picture.name}{suffix}"
    for name in done.lines[0]["outputs"]:
        if name.rpartition(".")[0] == stem:
            layout = "stack" if file.storage.stack else "colour"
            written = data.load_file(out / name, layout=layout)
            unit = 1.0 if name.endswith(".png") else file.storage.unit
            return written.pages[page] / unit
    raise InputError(f"the record in {out} does not name the result of {done.picture.id}")

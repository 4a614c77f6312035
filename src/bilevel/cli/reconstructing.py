"""From pictures to reconstructions, one file after the other, and to a table of how they ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from bilevel.cli.batch import Batch, Done, Files, Made, Work, unanswered
from bilevel.cli.camera import Shot
from bilevel.cli.config import plain
from bilevel.cli.console import INTERRUPTED, finish, results, say
from bilevel.cli.images import by_size, fitting
from bilevel.cli.measured import data_batches, sampling
from bilevel.cli.pictures import Picture
from bilevel.cli.reconstruction import FREE, Answer, Reconstructor, simulated
from bilevel.cli.record import Line, files_of, finite, from_null
from bilevel.report import ENDINGS, Samples, Score, Scores, scores_table
from bilevel.report.words import count, number, plural, proved
from bilevel.solve import Claim, Status

__all__ = ["from_files"]

_SHOWN = 20
_UNUSED = (*FREE, "data", "algorithm", "hypergradient", "solver", "scales", "penalty")
"""Tables that results do not depend on, or not on all of them."""


def from_files(reconstructor: Reconstructor, files: Files, *, simulate: bool) -> None:
    """Reconstruct every picture, those that were done before excepted.

    Raises:
        BilevelError: nothing can be read or written, data that do not fit.
        typer.Exit: with code 130 after Ctrl-C, what is done until then stays; with 3 if a
            picture failed or missed its accuracy, or with ``simulate`` if reconstructions are
            further from the truth than the data.
    """
    settings = files.settings(_about(reconstructor, simulate=simulate))
    batch = Batch.of(files, settings, "reconstructing")
    work: Work = _Sharp(reconstructor) if simulate else _Data(reconstructor)
    done: list[Done] = []
    try:
        for one in batch.run(work):
            done.append(one)
    except KeyboardInterrupt:
        total = plural(len(batch.pictures), "picture")
        rest = "the same command goes on with the rest"
        say(f"interrupted: {batch.finished} of {total} are in {files.out}, and {rest}", owed=True)
        raise typer.Exit(INTERRUPTED) from None
    written = sum(len(one.lines[0]["outputs"]) for one in done if one.fresh)
    scores = Scores(tuple(_scores(done)))
    if scores.rows:
        results().print(scores_table(scores, most=_SHOWN))
    elif not simulate:
        results().print(_table(done))
    say(f"wrote {plural(written, 'file')} to {files.out}")
    worse = scores.worse if scores.rows else []
    finish([*unanswered(done), *worse])


def _about(reconstructor: Reconstructor, *, simulate: bool) -> dict[str, object]:
    """What results depend on, beside the file and how it is read."""
    tables: Mapping[str, Any] = plain(reconstructor.configuration)
    return {
        "command": "reconstruct",
        "configuration": {k: v for k, v in tables.items() if k not in _UNUSED},
        "seed": tables["data"]["seed"],
        "content": reconstructor.content,
        "files": files_of(tables),
        "accuracy": reconstructor.accuracy,
        "simulate": simulate,
    }


@dataclass(frozen=True)
class _Data:
    """The pages of a file are data."""

    reconstructor: Reconstructor

    def __call__(self, picture: Picture, shot: Shot) -> Made:
        """Pages of one size are solved together, as many as suit the memory."""
        images: dict[str, Tensor] = {}
        lines: dict[str, Line] = {}
        file, configuration = shot.file, self.reconstructor.configuration
        ids = picture.ids(file.ids)
        for part in data_batches(configuration, file, ids):
            y = part.images
            for words in sampling(configuration.operator, part.ids[0], y, self._channels):
                say(words)
            answer = self.reconstructor.answer(y.to(file.dtype), seen=part.seen, ids=part.ids)
            for k, name in enumerate(part.ids):
                images[name], lines[name] = answer.x[k], _line(name, answer, k)
        return Made({"": [images[name] for name in ids]}, [lines[name] for name in ids])

    @property
    def _channels(self) -> int:
        return self.reconstructor.configuration.data.channels


@dataclass(frozen=True)
class _Sharp:
    """The pages of a file are degraded first, as in learning."""

    reconstructor: Reconstructor

    def __call__(self, picture: Picture, shot: Shot) -> Made:
        """PSNR and SSIM are those for the peak of the file, unless the loss has one."""
        configuration = self.reconstructor.configuration
        file = shot.file
        ids = picture.ids(file.ids)
        pages = [fitting(configuration, page) for page in file.pages]
        parts: list[tuple[Samples, Answer]] = []
        for batch in by_size(zip(ids, pages, strict=True)):
            parts.append(self.reconstructor.scored(simulated(configuration, batch)))
        samples = [one for one, _ in parts]
        scores = iter(Scores.of(samples, self.reconstructor.peak(samples)).rows)
        images: dict[str, tuple[Tensor, Tensor]] = {}
        lines: dict[str, Line] = {}
        for one, answer in parts:
            for k, name in enumerate(one.ids):
                images[name] = one.after[k], one.before[k]
                score = {key: _plain(value) for key, value in asdict(next(scores)).items()}
                lines[name] = {**_line(name, answer, k), "score": score}
        written = {
            suffix: [images[name][which] for name in ids]
            for which, suffix in enumerate(("", "-before"))
        }
        return Made(written, [lines[name] for name in ids])


def _line(name: str, answer: Answer, k: int) -> Line:
    """What is known of image k."""
    ending = ENDINGS[Status(int(answer.status[k]))]
    return {
        "id": name,
        "status": ending.words,
        "answered": ending.answered,
        "missing": None if ending.answered else f"{name} missed the accuracy ({ending.words})",
        "certificate": {
            "rms": finite(float(answer.certificate[k])),
            "gap": finite(float(answer.gap[k])),
            "residual": finite(float(answer.residual[k])),
            "claim": Claim(int(answer.claim[k])).name.lower(),
        },
        "cost": {
            "steps": int(answer.steps[k]),
            "gradient_evaluations": int(answer.gradients[k]),
            "seconds": float(answer.seconds[k]),
        },
    }


def _plain(value: object) -> object:
    return finite(value) if isinstance(value, float) else value


_UNKNOWN = {"certificate": float("inf"), "psnr_before": float("inf"), "psnr_after": float("inf")}


def _scores(done: Sequence[Done]) -> Iterator[Score]:
    """Those of the lines that have one."""
    for one in done:
        for line in one.lines:
            if "score" in line:
                given: dict[str, Any] = {
                    key: from_null(value, _UNKNOWN.get(key, float("nan")))
                    for key, value in line["score"].items()
                }
                yield Score(**given)


def _table(done: Sequence[Done]) -> Table:
    """How the first pages ended, and how many there are."""
    table = Table("image", "certified rms", "solve")
    table.add_column("gradients", justify="right")
    table.add_column("seconds", justify="right")
    pages = [line for one in done for line in one.lines]
    for line in pages[:_SHOWN]:
        if "certificate" not in line:
            table.add_row(escape(line["id"]), "", line["status"])
            continue
        cost, rms = line["cost"], from_null(line["certificate"]["rms"])
        spent = count(cost["gradient_evaluations"]), number(cost["seconds"])
        table.add_row(escape(line["id"]), proved(rms), line["status"], *spent)
    if len(pages) > _SHOWN:
        table.add_row(f"… {count(len(pages) - _SHOWN)} more")
    return table

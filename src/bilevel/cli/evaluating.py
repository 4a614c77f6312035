"""Fits, fixed weights and rules on the same simulated data, beside the truth."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
import typer
from torch import Tensor

from bilevel.cli.config import Configuration, plain
from bilevel.cli.config.data import EMBEDDED
from bilevel.cli.console import INTERRUPTED, check_writable, finish, results, say
from bilevel.cli.images import Batch, by_size, check_complex, fitting
from bilevel.cli.measured import measured_batches
from bilevel.cli.methods import Way, ways_of
from bilevel.cli.progress import Counter
from bilevel.cli.reconstruction import Reconstructor, simulated
from bilevel.data import Files, Layout, Place, embedded_image, embedded_names
from bilevel.ground.contrast import peak_of
from bilevel.ground.errors import InputError
from bilevel.model import Cost
from bilevel.report import (
    Method,
    Methods,
    Samples,
    Score,
    Scores,
    Seen,
    evaluation_page,
    methods_csv,
    methods_latex,
    methods_page,
    methods_table,
    methods_verdict,
    scores_table,
    write_page,
)

__all__ = ["evaluate_fit", "evaluate_methods"]

NAME = "evaluation"
_SHOWN = 4


@dataclass(frozen=True)
class Given:
    """What is reconstructed: images after they were degraded, or data that were measured."""

    source: Path
    target: Path | None = None
    layout: Layout | None = None

    @staticmethod
    def of(
        images: Path | None, measured: Path | None, target: Path | None, layout: Layout | None
    ) -> Given:
        """As the command line says.

        Raises:
            InputError: both, neither, or data without a target.
        """
        if (images is None) == (measured is None):
            what = "either sharp images or measured data are evaluated"
            raise InputError(what, advice="give --images DIR, or --measured DIR and --target DIR")
        if (measured is None) != (target is None):
            what = "measured data and the images that they are of go together"
            raise InputError(what, advice="give --measured DIR and --target DIR")
        return Given(cast(Path, images or measured), target, layout)

    @property
    def embedded(self) -> bool:
        """Whether the pictures in the package are meant, and no folder of that name."""
        return str(self.source) == EMBEDDED and not self.source.exists()

    @property
    def name(self) -> str:
        """Of the file or the folder."""
        if self.embedded:
            return EMBEDDED
        place = Place.of(self.source)
        folder = self.source if self.source.is_dir() else self.source.parent
        return place.stem if place.path.is_file() else folder.resolve().name

    def batches(self, configuration: Configuration) -> list[Batch]:
        """One for each size, and for each choice of data that exist."""
        layout = self.layout or configuration.data.layout
        if self.target is not None:
            whole = measured_batches(configuration, self.source, self.target, layout)
        else:
            whole = by_size((n, fitting(configuration, x)) for n, x in self._images(configuration))
        return [part for one in whole for part in one.apart(each=configuration.operator.of_samples)]

    def _images(self, configuration: Configuration) -> Iterable[tuple[str, Tensor]]:
        settings = configuration.data
        if self.embedded:
            check_complex(settings, "the pictures in the package", complex=False)
            return [(n, embedded_image(n, grey=settings.grey)) for n in embedded_names()]
        files = Files(self.source, grey=settings.grey, layout=self.layout or settings.layout)
        check_complex(settings, str(self.source), complex=files.complex)
        return files


def evaluate_fit(reconstructor: Reconstructor, given: Given, folder: Path) -> None:
    """One fit: a page that also tells of the model, and a table.

    Raises:
        BilevelError: images that do not fit, a folder that cannot be written to.
        typer.Exit: with code 3 if something was not found.
    """
    check_writable(folder)
    configuration = reconstructor.configuration
    batches = given.batches(configuration)
    counter = Counter("reconstructing", sum(len(batch.ids) for batch in batches))
    samples = [
        reconstructor.samples(simulated(configuration, batch), counter, batch.seen)
        for batch in batches
    ]
    peak = reconstructor.peak(samples)
    scores = Scores.of(samples, peak)
    title = f"{configuration.output.title}: {given.name}"
    page = evaluation_page(reconstructor.fit, samples, title=title, peak=peak)
    console = results()
    page, table = write_page(folder / f"{NAME}.html", page), _csv(scores)
    table = write_page(folder / f"{NAME}.csv", table)
    console.print(scores_table(scores, most=len(scores)))
    console.print(f"table: {table}\npage:  {page}", markup=False, soft_wrap=True)
    finish(scores.shortfalls)


def evaluate_methods(
    sources: Sequence[Path], given: Given, folder: Path, accuracy: float | None
) -> None:
    """Several: one table of differences with their spread, as page, CSV and LaTeX.

    Raises:
        BilevelError: sources that cannot be used, images that do not fit one of them, a folder that
            cannot be written to.
        typer.Exit: with code 130 after Ctrl-C, 3 if something was not found.
    """
    check_writable(folder)
    ways, configuration = ways_of(sources, accuracy)
    batches = given.batches(configuration)
    remarks = [
        f"{way.name} was made for other data: {other}"
        for way in ways
        if (other := way.made_for(configuration)) is not None
    ]
    for remark in remarks:
        say(remark)
    shown = configuration.loss.shown_peak
    peak = peak_of(_ends(batches)) if shown is None else shown
    evaluation = _Evaluation(ways, peak, sum(len(batch.ids) for batch in batches))
    try:
        for batch in batches:
            evaluation(configuration, batch)
    except KeyboardInterrupt:
        say("interrupted: nothing is written", owed=True)
        raise typer.Exit(INTERRUPTED) from None
    methods = evaluation.methods
    page = methods_page(
        methods,
        evaluation.seen,
        configuration=plain(configuration),
        remarks=remarks,
        title=f"{len(ways)} methods: {given.name}",
    )
    written = [
        write_page(folder / f"{NAME}.{suffix}", text)
        for suffix, text in (
            ("csv", methods_csv(methods)),
            ("tex", methods_latex(methods)),
            ("html", page),
        )
    ]
    console = results()
    console.print(methods_table(methods))
    for sentence in methods_verdict(methods):
        console.print(sentence, markup=False)
    console.print("written: " + ", ".join(map(str, written)), markup=False, soft_wrap=True)
    finish([*evaluation.missing, *_missing(methods)])


@dataclass
class _Evaluation:
    """The scores of all methods, size by size; of the images a few are kept."""

    ways: Sequence[Way]
    peak: float
    images: int
    scores: dict[str, list[Score]] = field(default_factory=dict[str, list[Score]])
    costs: dict[str, Cost] = field(default_factory=dict[str, Cost])
    seen: list[Seen] = field(default_factory=list[Seen])
    missing: list[str] = field(default_factory=list[str])

    def __call__(self, configuration: Configuration, batch: Batch) -> None:
        """Data of one size, by every method."""
        pairs = simulated(configuration, batch)
        found: dict[str, Samples] = {}
        for way in self.ways:
            say(f"{way.name}: reconstructing {batch}")
            try:
                one = way(pairs, batch.seen)
            except InputError as error:
                raise InputError(f"{way.name}: {error}") from error
            found[way.name] = one.samples
            self.scores.setdefault(way.name, []).extend(Scores.of(one.samples, self.peak).rows)
            self.costs[way.name] = self.costs.get(way.name, Cost()) + one.cost
            self.missing += [f"{way.name}: {line}" for line in one.missing]
        first = found[self.ways[0].name]
        for k, name in enumerate(first.ids):
            if len(self.seen) < min(_SHOWN, self.images):
                after = {way: samples.after[k] for way, samples in found.items()}
                self.seen.append(Seen(name, first.target[k], first.before[k], after))

    @property
    def methods(self) -> Methods:
        """All of it."""
        return Methods(
            tuple(
                Method(way.name, Scores(tuple(self.scores[way.name])), self.costs[way.name])
                for way in self.ways
            )
        )


def _missing(methods: Methods) -> list[str]:
    """What reconstructions did not reach."""
    return [f"{m.name}: {line}" for m in methods.methods for line in m.scores.shortfalls]


def _ends(batches: Sequence[Batch]) -> Tensor:
    """The least and the greatest value of all images."""
    return torch.stack([end for batch in batches for end in batch.images.aminmax()])


def _csv(scores: Scores) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in (*scores.rows, scores.mean):
        numbers = [
            row.psnr_before, row.psnr_after, row.ssim_before, row.ssim_after, row.certificate
        ]  # fmt: skip
        writer.writerow(
            [row.id, *(f"{value:.6g}" for value in numbers), row.status, f"{row.peak:.6g}"]
        )
    return buffer.getvalue()


_COLUMNS = (
    "image",
    "psnr_before",
    "psnr_after",
    "ssim_before",
    "ssim_after",
    "certified_rms",
    "solve",
    "peak",
)

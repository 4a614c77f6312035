"""From a checked configuration to a saved fit and its report."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

from bilevel.cli.config import Configuration, Document, plain
from bilevel.cli.console import check_writable, finish, results, say
from bilevel.cli.images import Batch, LearningImages, learning_images
from bilevel.cli.progress import Counter, LearningProgress
from bilevel.cli.reconstruction import CONFIGURATION, Reconstructor, as_given, simulated
from bilevel.cli.resuming import resumable
from bilevel.data import Pairs
from bilevel.ground.contrast import contrast
from bilevel.ground.errors import InputError
from bilevel.ground.theta import learnable
from bilevel.learn import BilevelProblem, Fit, Status, learn
from bilevel.learn.scaling import resolved
from bilevel.model import Variational
from bilevel.report import (
    ENDINGS,
    Samples,
    Scores,
    fit_table,
    learning_page,
    parameters_table,
    scores_table,
    write_page,
)

__all__ = ["build_problem", "check_learnable", "learn_and_report"]

REPORT = "report.html"
INTERRUPTED = 130


def learn_and_report(
    document: Document, out: Path, data: str | None, *, resume: bool = False
) -> None:
    """Learn, save the fit in ``out``, and write the report beside it.

    With ``resume`` the fit in ``out`` goes on, within one more budget. Where nothing is to be
    learned, the fit is what the configuration gives.

    Raises:
        BilevelError: ``out`` cannot be written to or the images do not fit, and nothing is
            written; there is no fit to resume, or another one, or nothing to go on with.
        typer.Exit: with code 130 after Ctrl-C, the fit so far is saved; with 3 if learning, or a
            reconstruction for the report, did not find what was asked for.
    """
    check_writable(out)
    as_it_is = document.configuration.as_it_is
    if as_it_is and resume:
        raise InputError("--resume: there is nothing to learn", advice="leave it out")
    before = resumable(document.configuration, out) if resume else None
    images = learning_images(document, data)
    fit = _given(document, images, out) if as_it_is else _learned(document, images, out, before)
    if fit.status is Status.DIVERGED:
        finish([f"{fit.reason}; the last good parameters are saved in {out}"])
    try:
        _report(Reconstructor(fit, document.configuration), images, out)
    except KeyboardInterrupt:
        say(f"interrupted: the fit is saved in {out}, its report is not written")
        raise typer.Exit(INTERRUPTED) from None


def check_learnable(document: Document) -> None:
    """Something is to be learned.

    Raises:
        InputError: nothing is.
    """
    configuration = document.configuration
    with document.blaming("regulariser.learn"):
        if not learnable(configuration.energy((configuration.data.channels, *configuration.probe))):
            advice = 'name what is to be learned, e.g. learn = ["weight"]'
            raise InputError("there is nothing to learn", advice=advice)


def build_problem(configuration: Configuration, training: Batch) -> BilevelProblem:
    """The bilevel problem on the training images.

    Raises:
        InputError: images that the energy cannot take.
    """
    energy, pairs = _settled(configuration, training)
    solver, objective = configuration.solver, energy.at(pairs.y[:1])
    return BilevelProblem(
        energy,
        configuration.loss.build(),
        pairs,
        solver=solver.build(objective),
        hypergradient=configuration.hypergradient.build(objective),
        chunk=solver.chunk,
        max_steps=solver.max_steps,
    )


def _settled(configuration: Configuration, training: Batch) -> tuple[Variational, Pairs]:
    """The energy in the units of the training images, and these with their data."""
    energy, pairs = configuration.energy(training.shape), simulated(configuration, training)
    energy.settle(pairs.y, contrast(pairs.target))
    return energy, pairs


def _given(document: Document, images: LearningImages, out: Path) -> Fit:
    """The parameters of the configuration, saved as they are."""
    with document.blaming("data.size"):
        energy, _ = _settled(document.configuration, images.training)
    fit = as_given(document.configuration, energy, document.text)
    say("nothing is to be learned: the parameters are taken as they are given")
    _begin(document, out)
    fit.save(out)
    return fit


def _begin(document: Document, out: Path) -> None:
    """Another fit begins: its configuration, and not the report of the one before."""
    (out / REPORT).unlink(missing_ok=True)
    write_page(out / CONFIGURATION, document.text)


def _learned(
    document: Document, images: LearningImages, out: Path, before: Fit | None = None
) -> Fit:
    """The fit, saved; after every outer step the fit so far is, too."""
    configuration = document.configuration
    with document.blaming("data.size"):
        problem = build_problem(configuration, images.training)
    with document.blaming("scales"):
        resolved(configuration.scales, problem.theta)
        algorithm = configuration.learner(configuration.algorithm)
    numbers = sum(value.numel() for value in problem.theta.values())
    if remark := configuration.operator.remark:
        say(remark)
    say(f"learning {numbers} parameter{'' if numbers == 1 else 's'} from {images.training}")
    budget = configuration.budget.build()
    if before is not None:
        if before.snapshot is not None:
            before.snapshot.restore(algorithm, problem)  # raises before anything is written
        say(f"going on after {max(len(before.history) - 1, 0)} steps of the fit in {out}")
    elif (out / REPORT).exists():
        say(f"replacing the fit in {out}")
    _begin(document, out)
    say(f"algorithm: {algorithm.about(problem)}")
    last = before.history[-1] if before is not None and before.history else None
    with LearningProgress(budget, last) as progress:
        fit = learn(
            problem,
            algorithm,
            budget=budget,
            record=progress,
            checkpoint=out,
            resume=before,
            configuration=plain(configuration),
            source=document.text,
        )
    fit.save(out)
    if fit.status is Status.INTERRUPTED:
        say(f"interrupted after {max(len(fit.history) - 1, 0)} steps: the fit so far is in {out}")
        raise typer.Exit(INTERRUPTED)
    return fit


def _report(reconstructor: Reconstructor, images: LearningImages, out: Path) -> None:
    title = reconstructor.configuration.output.title
    total = sum(len(batch.ids) for batch in (images.training, *images.held_out))
    counter = Counter("reconstructing for the report", total)
    training = _samples(reconstructor, [images.training], counter)[0]
    held_out = _samples(reconstructor, images.held_out, counter)
    fit = reconstructor.fit
    peak = reconstructor.configuration.loss.shown_peak
    page = learning_page(fit, training=training, held_out=held_out or None, title=title, peak=peak)
    path = write_page(out / REPORT, page)
    console = results()
    console.print(parameters_table(fit))
    console.print(fit_table(fit))
    console.print("held out:" if held_out else "learned from:")
    console.print(scores_table(Scores.of(held_out or training, peak)))
    console.print(f"fit:    {out}\nreport: {path}", markup=False, soft_wrap=True)
    ended = [] if ENDINGS[fit.status].answered else [fit.reason]
    for short in Scores.of(held_out).shortfalls if held_out else ():
        say(f"held out: {short}")
    finish([*ended, *Scores.of(training).shortfalls])


def _samples(
    reconstructor: Reconstructor, batches: Iterable[Batch], counter: Counter
) -> tuple[Samples, ...]:
    configuration = reconstructor.configuration
    return tuple(
        reconstructor.samples(simulated(configuration, batch), counter) for batch in batches
    )

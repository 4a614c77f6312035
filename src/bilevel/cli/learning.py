"""From a checked configuration to a saved fit and its report."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import typer
from torch import Tensor

from bilevel.cli.binary import binarised, is_binary, sampling_of
from bilevel.cli.config import Configuration, Document, blaming, plain
from bilevel.cli.console import INTERRUPTED, check_writable, finish, results, say
from bilevel.cli.images import Batch, LearningImages, Measurements
from bilevel.cli.measured import learning_images, sampling
from bilevel.cli.pretraining import pretrained
from bilevel.cli.progress import Counter, LearningProgress
from bilevel.cli.reconstruction import CONFIGURATION, Reconstructor, as_given, simulated
from bilevel.cli.resuming import resumable
from bilevel.cli.settings.forward import of_operator
from bilevel.data import Pairs
from bilevel.ground.contrast import contrast
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta, learnable
from bilevel.learn import (
    Algorithm,
    BilevelProblem,
    Fit,
    Status,
    UnsupervisedProblem,
    exchanged,
    learn,
    load,
)
from bilevel.learn.checkpoint import PLAIN
from bilevel.learn.scaling import resolved
from bilevel.learn.separable import SeparableProblem
from bilevel.model import Variational
from bilevel.report import (
    ENDINGS,
    Reconstructed,
    Samples,
    Scores,
    blind_page,
    fit_table,
    learning_page,
    parameters_table,
    scores_table,
    write_page,
)
from bilevel.report.words import plural

__all__ = ["build_problem", "check_learnable", "learn_and_report"]

REPORT = "report.html"
SAMPLING = "fidelity.sampling"
RELAXED = "relaxed"
"""Where the fit is kept whose mask is not binary yet."""


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
    if document.configuration.as_it_is and resume:
        raise InputError("--resume: there is nothing to learn", advice="leave it out")
    before = resumable(document.configuration, out) if resume else None
    images = learning_images(document, data)
    fit = _fitted(document, images.training, out, before)
    if fit.status is Status.DIVERGED:
        finish([f"{fit.reason}; the last good parameters are saved in {out}"])
    try:
        if isinstance(images.training, Batch):
            _report(Reconstructor(fit, document.configuration), images.training, images, out)
        else:
            _report_alone(Reconstructor(fit, document.configuration), images.training, out)
    except KeyboardInterrupt:
        say(f"interrupted: the fit is saved in {out}, its report is not written")
        raise typer.Exit(INTERRUPTED) from None


def _fitted(
    document: Document, training: Batch | Measurements, out: Path, before: Fit | None
) -> Fit:
    """What is learned, or the parameters given where nothing is to be."""
    if document.configuration.as_it_is:
        return _given(document, training, out)
    return _learned(document, training, out, before)


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


def build_problem(configuration: Configuration, training: Batch | Measurements) -> SeparableProblem:
    """The bilevel problem on the training images, or with a criterion on data alone.

    Raises:
        InputError: images or data that the energy cannot take.
    """
    if configuration.criterion is not None or isinstance(training, Measurements):
        return _blind(configuration, training)
    energy, pairs = _settled(configuration, training)
    return _problem(configuration, energy, pairs)


def _settled(configuration: Configuration, training: Batch) -> tuple[Variational, Pairs]:
    """The energy in the units of the training images, and these with their data."""
    seen, settings = training.seen, configuration.operator
    common = seen.any(0) if seen is not None and training.differing else seen
    energy = configuration.energy(training.shape, common)
    pairs = simulated(configuration, training)
    if not settings.of_samples:
        operator = settings.shown_by(pairs.y, energy.fidelity.operator, pairs.ids)
        energy.fidelity.operator = operator
    with blaming("regulariser"):
        energy.settle(pairs.y, contrast(pairs.target))
    with of_operator():
        energy.fidelity, pairs = settings.accompanied(energy.fidelity, pairs, seen)
    return energy, pairs


def _problem(configuration: Configuration, energy: Variational, pairs: Pairs) -> BilevelProblem:
    with blaming("fidelity", "name"):
        energy.fidelity.check(pairs.y)
    solver, objective = configuration.solver, energy.at(pairs.y[:1])
    with blaming("loss", "name"):
        loss = configuration.loss.build()
        loss.try_on(energy.image(objective.start()), pairs.target)
    return BilevelProblem(
        energy,
        loss,
        pairs,
        solver=solver.build(objective),
        hypergradient=configuration.hypergradient.build(objective),
        chunk=solver.chunk,
        max_steps=solver.max_steps,
        penalty=configuration.priced,
    )


def _blind(configuration: Configuration, training: Batch | Measurements) -> UnsupervisedProblem:
    """On the data alone, even where targets are known.

    Raises:
        InputError: data that exist at places of their own.
    """
    if isinstance(training, Batch) and training.differing:
        what = "a criterion asks for data that exist at the same places in all samples"
        raise InputError(what, advice="learn from those of one mask, or leave out [criterion]")
    energy = configuration.energy(training.shape, training.seen)
    alone = isinstance(training, Measurements)
    y = training.y if alone else simulated(configuration, training).y
    energy.settle(y)
    solver, objective = configuration.solver, energy.at(y[:1])
    noise, criterion = (
        configuration.noise_in((y.shape[1], y.shape[2], y.shape[3])),
        configuration.criterion,
    )
    assert criterion is not None
    return UnsupervisedProblem(
        energy,
        y,
        criterion.build(noise),
        ids=training.ids,
        solver=solver.build(objective),
        hypergradient=configuration.hypergradient.build(objective),
        chunk=solver.chunk,
        max_steps=solver.max_steps,
        penalty=configuration.priced,
    )


def _given(document: Document, training: Batch | Measurements, out: Path) -> Fit:
    """The parameters of the configuration, saved as they are."""
    configuration = document.configuration
    with document.blaming("data.size"):
        if isinstance(training, Measurements):
            energy = configuration.energy(training.shape, training.seen)
            energy.settle(training.y)
        else:
            energy, _ = _settled(configuration, training)
    fit = as_given(configuration, energy, document.text)
    say("nothing is to be learned: the parameters are taken as they are given")
    _begin(document, out)
    fit.save(out)
    return fit


def _begin(document: Document, out: Path) -> None:
    """Another fit begins: its configuration, and not the report of the one before."""
    (out / REPORT).unlink(missing_ok=True)
    write_page(out / CONFIGURATION, document.text)


def _learned(
    document: Document, training: Batch | Measurements, out: Path, before: Fit | None = None
) -> Fit:
    """The fit, saved; the fit so far is, too, on the way."""
    configuration = document.configuration
    with document.blaming("data.size" if training.y is None else "data.measured"):
        problem = build_problem(configuration, training)
    binary = before is not None and is_binary(before)
    if before is not None and binary:
        kept = sampling_of(before)
        problem = _binarised(configuration, problem, load(out / RELAXED), kept)
    with document.blaming("scales"):
        resolved(configuration.scales, problem.theta)
        algorithm = configuration.learner(configuration.algorithm)
    numbers = sum(value.numel() for value in problem.theta.values())
    if remark := configuration.operator.remark:
        say(remark)
    if training.y is not None:
        channels, one = configuration.data.channels, training.y[:1]
        for words in sampling(configuration.operator, training.ids[0], one, channels):
            say(words)
    say(f"learning {numbers} parameter{'' if numbers == 1 else 's'} from {training}")
    if before is not None:
        if before.snapshot is not None:
            before.snapshot.restore(algorithm, problem)  # raises before anything is written
        say(f"going on after {max(len(before.history) - 1, 0)} steps of the fit in {out}")
    elif any((out / name).exists() for name in (REPORT, PLAIN)):
        say(f"replacing the fit in {out}; --resume would go on with it")
    _begin(document, out)
    start = None if before is not None else pretrained(document, problem, out)
    if start is not None and configuration.budget.steps == 0:
        fit = as_given(configuration, cast(Variational, start.energy), document.text)
        fit.save(out)
        return fit
    theta = None if start is None else start.theta
    fit = _run(document, problem, algorithm, out, before, theta)
    if not configuration.operator.binarises or binary or fit.status is Status.DIVERGED:
        return fit
    return _made_binary(document, problem, fit, out)


def _made_binary(document: Document, problem: SeparableProblem, relaxed: Fit, out: Path) -> Fit:
    """The largest weights taken, the rest learned anew; then exchanges, and the rest once more."""
    configuration = document.configuration
    relaxed.save(out / RELAXED, state=False)
    say(f"the fit is kept in {out / RELAXED}; its mask is made binary, the rest learned anew")
    binary = _binarised(configuration, problem, relaxed)
    fit = _run(document, binary, configuration.learner(configuration.algorithm), out)
    if fit.status is Status.DIVERGED:
        return fit
    say("exchanging what is taken for what is left out, where the loss falls by that")
    theta = {**fit.theta, SAMPLING: sampling_of(fit)}
    try:
        better = exchanged(problem, theta, SAMPLING, tol=problem.first_accuracy(theta))[SAMPLING]
    except KeyboardInterrupt:
        say(f"interrupted: the fit before the exchanges is in {out}")
        raise typer.Exit(INTERRUPTED) from None
    changed = int((better != theta[SAMPLING]).sum()) // 2
    say(f"{changed} of {int(better.sum())} beside those kept were exchanged")
    if not changed:
        return fit
    binary = _binarised(configuration, problem, relaxed, better)
    algorithm = configuration.learner(configuration.algorithm)
    return _run(document, binary, algorithm, out, theta0=fit.theta)


def _binarised(
    configuration: Configuration,
    problem: SeparableProblem,
    fit: Fit,
    sampling: Tensor | None = None,
) -> SeparableProblem:
    """The same with a binary mask, from the other parameters of ``fit`` on."""
    energy = binarised(fit, cast(Variational, problem.energy), sampling)
    return _problem(configuration, energy, cast(Pairs, problem.samples))


def _run(
    document: Document,
    problem: SeparableProblem,
    algorithm: Algorithm[Any],
    out: Path,
    before: Fit | None = None,
    theta0: Theta | None = None,
) -> Fit:
    """One fit, saved on the way and at its end."""
    configuration = document.configuration
    budget = configuration.budget.build()
    say(f"algorithm: {algorithm.about(problem)}")
    last = before.history[-1] if before is not None and before.history else None
    with LearningProgress(budget, last) as progress:
        fit = learn(
            problem,
            algorithm,
            theta0,
            budget=budget,
            record=progress,
            checkpoint=out,
            resume=before,
            configuration=plain(configuration),
            source=document.text,
        )
    fit.save(out)
    if fit.status is Status.INTERRUPTED:
        steps = plural(max(len(fit.history) - 1, 0), "step")
        say(f"interrupted after {steps}: the fit so far is in {out}")
        raise typer.Exit(INTERRUPTED)
    return fit


def _report_alone(reconstructor: Reconstructor, training: Measurements, out: Path) -> None:
    """On data without targets."""
    counter = Counter("reconstructing for the report", len(training.ids))
    answer = reconstructor.answer(training.y, counter, training.seen)
    before = reconstructor.begin(training.y, training.seen)
    found = Reconstructed(training.ids, before, answer.x, answer.certificate, answer.status)
    fit, title = reconstructor.fit, reconstructor.configuration.output.title
    path = write_page(out / REPORT, blind_page(fit, found, title=title))
    console = results()
    console.print(parameters_table(fit))
    console.print(fit_table(fit))
    console.print(f"fit:    {out}\nreport: {path}", markup=False, soft_wrap=True)
    ended = [] if ENDINGS[fit.status].answered else [fit.reason]
    late = [row for row in found.scores.rows if row.unfinished]
    finish([*ended, *(f"{row.id} missed the accuracy ({row.status})" for row in late)])


def _report(
    reconstructor: Reconstructor, learned_from: Batch, images: LearningImages, out: Path
) -> None:
    title = reconstructor.configuration.output.title
    total = sum(len(batch.ids) for batch in (learned_from, *images.held_out))
    counter = Counter("reconstructing for the report", total)
    training = _samples(reconstructor, [learned_from], counter)[0]
    held_out = _samples(reconstructor, images.held_out, counter)
    fit = reconstructor.fit
    peak = reconstructor.peak([training, *held_out])
    page = learning_page(fit, training=training, held_out=held_out or None, title=title, peak=peak)
    path = write_page(out / REPORT, page)
    console = results()
    console.print(parameters_table(fit))
    console.print(fit_table(fit))
    console.print("held out:" if held_out else "learned from:")
    console.print(scores_table(Scores.of(held_out or training, peak)))
    console.print(f"fit:    {out}\nreport: {path}", markup=False, soft_wrap=True)
    ended = [] if ENDINGS[fit.status].answered else [fit.reason]
    unseen = [Scores.of(held_out)] if held_out else []
    for short in (line for scores in unseen for line in scores.worse):
        say(f"held out: {short}", owed=True)
    late = [f"held out: {line}" for scores in unseen for line in scores.missed]
    finish([*ended, *Scores.of(training).shortfalls, *late])


def _samples(
    reconstructor: Reconstructor, batches: Iterable[Batch], counter: Counter
) -> tuple[Samples, ...]:
    configuration = reconstructor.configuration
    return tuple(
        Samples.joined(
            [
                reconstructor.samples(simulated(configuration, part), counter, part.seen)
                for part in batch.apart(each=configuration.operator.of_samples)
            ]
        )
        for batch in batches
    )

"""From a checked configuration to a saved fit and its report."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
import typer
from torch import Tensor

from bilevel.cli.config import Configuration, Document, plain
from bilevel.cli.console import check_writable, finish, results, say
from bilevel.cli.images import Batch, LearningImages, learning_images
from bilevel.cli.progress import Counter, LearningProgress
from bilevel.cli.reconstruction import CONFIGURATION, Reconstructor, simulated
from bilevel.cli.resuming import resumable
from bilevel.data import Pairs
from bilevel.ground.contrast import contrast
from bilevel.ground.theta import Theta
from bilevel.learn import Algorithm, BilevelProblem, Fit, Status, exchanged, learn, load
from bilevel.learn.scaling import resolved
from bilevel.model import Variational
from bilevel.model.fidelities import SampledL2
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

__all__ = ["build_problem", "learn_and_report"]

REPORT = "report.html"
INTERRUPTED = 130
SAMPLING = "fidelity.sampling"
RELAXED = "relaxed"
"""Where the fit is kept whose mask is not binary yet."""


def learn_and_report(
    document: Document, out: Path, data: str | None, *, resume: bool = False
) -> None:
    """Learn, save the fit in ``out``, and write the report beside it.

    With ``resume`` the fit in ``out`` goes on, within one more budget.

    Raises:
        BilevelError: ``out`` cannot be written to or the images do not fit, and nothing is
            written; there is no fit to resume, or another one.
        typer.Exit: with code 130 after Ctrl-C, the fit so far is saved; with 3 if learning, or a
            reconstruction for the report, did not find what was asked for.
    """
    check_writable(out)
    before = resumable(document.configuration, out) if resume else None
    images = learning_images(document, data)
    fit = _learned(document, images, out, before)
    if fit.status is Status.DIVERGED:
        finish([f"{fit.reason}; the last good parameters are saved in {out}"])
    try:
        _report(Reconstructor(fit, document.configuration), images, out)
    except KeyboardInterrupt:
        say(f"interrupted: the fit is saved in {out}, its report is not written")
        raise typer.Exit(INTERRUPTED) from None


def build_problem(configuration: Configuration, training: Batch) -> BilevelProblem:
    """The bilevel problem on the training images.

    Raises:
        InputError: images that the energy cannot take.
    """
    energy, pairs = configuration.energy(training.shape), simulated(configuration, training)
    energy.fidelity.operator = configuration.operator.shown_by(pairs.y, energy.fidelity.operator)
    energy.settle(pairs.y, contrast(pairs.target))
    return _problem(configuration, energy, pairs)


def _problem(configuration: Configuration, energy: Variational, pairs: Pairs) -> BilevelProblem:
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


def _learned(
    document: Document, images: LearningImages, out: Path, before: Fit | None = None
) -> Fit:
    """The fit, saved; after every outer step the fit so far is, too."""
    configuration = document.configuration
    with document.blaming("data.size"):
        problem = build_problem(configuration, images.training)
    binary = before is not None and _is_binary(before)
    if before is not None and binary:
        kept = _sampling(before)
        problem = _binarised(configuration, problem, load(out / RELAXED), kept)
    with document.blaming("scales"):
        resolved(configuration.scales, problem.theta)
        algorithm = configuration.learner(configuration.algorithm)
    numbers = sum(value.numel() for value in problem.theta.values())
    if remark := configuration.operator.remark:
        say(remark)
    say(f"learning {numbers} parameter{'' if numbers == 1 else 's'} from {images.training}")
    if before is not None:
        if before.snapshot is not None:
            before.snapshot.restore(algorithm, problem)  # raises before anything is written
        say(f"going on after {max(len(before.history) - 1, 0)} steps of the fit in {out}")
    elif (out / REPORT).exists():
        say(f"replacing the fit in {out}")
    (out / REPORT).unlink(missing_ok=True)
    write_page(out / CONFIGURATION, document.text)
    fit = _run(document, problem, algorithm, out, before)
    if not configuration.operator.binarises or binary or fit.status is Status.DIVERGED:
        return fit
    return _made_binary(document, problem, fit, out)


def _made_binary(document: Document, problem: BilevelProblem, relaxed: Fit, out: Path) -> Fit:
    """The largest weights taken, the rest learned anew; then exchanges, and the rest once more."""
    configuration = document.configuration
    relaxed.save(out / RELAXED, state=False)
    say(f"the fit is kept in {out / RELAXED}; its mask is made binary, the rest learned anew")
    binary = _binarised(configuration, problem, relaxed)
    fit = _run(document, binary, configuration.learner(configuration.algorithm), out)
    if fit.status is Status.DIVERGED:
        return fit
    say("exchanging what is taken for what is left out, where the loss falls by that")
    theta = {**fit.theta, SAMPLING: _sampling(fit)}
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


def _sampling(fit: Fit) -> Tensor:
    """The weights of its mask that are not kept."""
    energy = cast(Variational, fit.energy)
    return cast(SampledL2, energy.fidelity).sampling.detach()


def _is_binary(fit: Fit) -> bool:
    """Whether its mask was learned and is binary now."""
    fidelity = fit.energy.fidelity if isinstance(fit.energy, Variational) else None
    return isinstance(fidelity, SampledL2) and not fidelity.sampling.requires_grad


def _binarised(
    configuration: Configuration, problem: BilevelProblem, fit: Fit, sampling: Tensor | None = None
) -> BilevelProblem:
    """The same with a binary mask, that of ``fit`` if None, from its other parameters on."""
    learned = cast(Variational, fit.energy)
    own = cast(SampledL2, copy.deepcopy(learned.fidelity)).binarised()
    energy = Variational(own, cast(Variational, copy.deepcopy(problem.energy)).regulariser)
    with torch.no_grad():
        for name, value in learned.regulariser.named_parameters():
            energy.regulariser.get_parameter(name).copy_(value)
        if sampling is not None:
            own.sampling.copy_(sampling)
    return _problem(configuration, energy, cast(Pairs, problem.samples))


def _run(
    document: Document,
    problem: BilevelProblem,
    algorithm: Algorithm[Any],
    out: Path,
    before: Fit | None = None,
    theta0: Theta | None = None,
) -> Fit:
    """One fit, saved after every outer step."""
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

"""From a configuration to rules compared with what is learned and with the truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import typer

from bilevel.cli.choice_report import write_report
from bilevel.cli.choosing import Job, prepare
from bilevel.cli.config import Configuration, Document, Selection, plain
from bilevel.cli.console import INTERRUPTED, check_writable, say
from bilevel.cli.images import Batch
from bilevel.cli.measured import learning_images
from bilevel.cli.progress import LearningProgress
from bilevel.cli.reconstruction import simulated
from bilevel.cli.settings.rules import RuleSettings
from bilevel.data import drawn_levels
from bilevel.ground.contrast import contrast
from bilevel.ground.errors import InputError
from bilevel.learn import BilevelProblem, Status, learn
from bilevel.report import Compared
from bilevel.report.words import number

__all__ = ["from_configuration"]


def from_configuration(
    document: Document,
    rules: Mapping[str, RuleSettings],
    out: Path,
    folder: str | None,
    span: tuple[float, float] | None = None,
) -> None:
    """Compare on the images held out, or on the training images if there are none.

    Every rule searches the weights of ``span``.

    Raises:
        BilevelError: images that do not fit, a folder that cannot be written to.
        typer.Exit: with code 130 after Ctrl-C; what is done until then is written.
    """
    check_writable(out)
    configuration = document.configuration
    with document.blaming("regulariser.name"):
        selection = Selection.of(configuration).model_copy(update={"span": span})
    if configuration.criterion is not None:
        with document.blaming("criterion"):
            what = "rules are compared with the weight that is learned from the truth"
            raise InputError(what, advice="delete the table")
    if configuration.penalty is not None:
        with document.blaming("penalty"):
            what = "the weight is learned alone, by what it does to the images"
            raise InputError(what, advice="delete the table")
    if configuration.pretrain is not None:
        with document.blaming("pretrain"):
            what = "the weight is learned from the start that rules have"
            raise InputError(what, advice="delete the table")
    if configuration.scales:
        with document.blaming("scales"):
            what = "the weight is learned alone, in a unit of its own"
            raise InputError(what, advice="delete the table")
    images = learning_images(document, folder)
    training = images.training
    if not isinstance(training, Batch):
        with document.blaming("data.measured"):
            what = "rules are compared with what is learned from targets"
            advice = "name target, or give one picture of data in place of the configuration"
            raise InputError(what, advice=advice)
    if training.differing or configuration.operator.of_samples:
        with document.blaming("data.measured"):
            what = "rules are compared on data of one operator that exist at the same places"
            raise InputError(what, advice="take those of one mask and of one set of coils")
    with document.blaming("regulariser.name"):
        selection.energy(training.shape)
    learned = _learned(selection, configuration, training)
    compared: list[Compared] = []
    for batch in (part for whole in images.held_out or (training,) for part in whole.apart()):
        pairs = simulated(configuration, batch)
        _, c, h, w = pairs.y.shape
        noise = configuration.noise_in((c, h, w))
        seed = configuration.data.seed
        levels = None if noise is None else drawn_levels(noise, batch.ids, seed)
        job = Job(batch.ids, pairs.y, noise, pairs.target, learned, batch.seen, levels)
        compared.append(prepare(selection, rules, job).run())
        if compared[-1].comparison.interrupted:
            break
    interrupted = compared[-1].comparison.interrupted
    done = [one for one in compared if one.comparison.choices]
    write_report(done, out, plain(configuration), title="Comparing rules", interrupted=interrupted)


def _learned(selection: Selection, configuration: Configuration, training: Batch) -> float:
    """The weight learned from the training images by what learns without being told how."""
    grey = contrast(training.images)
    first = selection.first_weight(grey)
    energy = selection.energy(training.shape, 1 / first, contrast=grey, seen=training.seen)
    energy.settle(training.images, grey)
    pairs, solver = simulated(configuration, training), configuration.solver
    problem = BilevelProblem(
        energy,
        configuration.loss.build(),
        pairs,
        solver=solver.build(energy.at(pairs.y[:1])),
        chunk=solver.chunk,
        max_steps=solver.max_steps,
    )
    say(f"learning the weight from {training}")
    budget = configuration.budget.build()
    with LearningProgress(budget) as progress:
        algorithm = configuration.learner(configuration.algorithm)
        fit = learn(problem, algorithm, budget=budget, record=progress)
    if fit.status is Status.INTERRUPTED:
        say("interrupted before there was anything to report")
        raise typer.Exit(INTERRUPTED)
    weight = selection.weight_at(fit.theta["fidelity.log_weight"])
    say(f"learned: {number(weight)}")
    return weight

"""``bilevel check``."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from bilevel.cli.commands.learn import ConfigArgument, DataOption, ImportOption

if TYPE_CHECKING:
    from bilevel.cli.config import Configuration
    from bilevel.cli.images import Batch, LearningImages, Measurements
    from bilevel.learn.separable import SeparableProblem
    from bilevel.model import Objective

__all__ = ["check"]


def check(config: ConfigArgument, data: DataOption = None, parts: ImportOption = None) -> None:
    """Check a configuration without learning: sizes, constants, derivatives and speed.

    Nothing is written. Exit code 1 if the hypergradient disagrees with finite differences.
    """
    del parts
    from rich.markup import escape
    from rich.table import Table

    from bilevel.cli.config import read
    from bilevel.cli.console import results
    from bilevel.cli.learning import build_problem, check_learnable
    from bilevel.cli.measured import learning_images

    document = read(config)
    check_learnable(document)
    images = learning_images(document, data)
    with document.blaming("data.size"):
        problem = build_problem(document.configuration, images.training)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    passed, derivative = _derivative(document.configuration, images.training)
    found = {
        "images": _images(images),
        "parameters": _parameters(problem),
        "convexity": _constants(problem.level.example),
        "solver": _solver(problem),
        "speed": _speed(problem, document.configuration),
        "derivative": derivative,
    }
    for what, text in found.items():
        table.add_row(what, escape(text))
    console = results()
    console.print(table)
    if not passed:
        raise typer.Exit(1)
    console.print(f"{config} can be learned from", markup=False, soft_wrap=True)


def _images(images: LearningImages) -> str:
    held_out = ", ".join(map(str, images.held_out)) or "none"
    return f"{images.training} to learn from; held out: {held_out}"


def _parameters(problem: SeparableProblem) -> str:
    names = ", ".join(f"{n} {tuple(v.shape) or ''}".strip() for n, v in problem.theta.items())
    return f"{sum(v.numel() for v in problem.theta.values())}: {names}"


def _solver(problem: SeparableProblem) -> str:
    from bilevel.solve.solvers import automatic

    found = automatic(problem.level.example)
    used, fitting = type(problem.level.solver).__name__, type(found.solver).__name__
    return f"{used}; automatic would take {fitting} ({found.reason})"


def _constants(objective: Objective) -> str:
    from bilevel.model.kinds import is_smooth
    from bilevel.report.words import number

    bounds = objective.bounds
    mu, lipschitz = float(bounds.mu.min()), float(bounds.lipschitz.max())
    text = (
        f"mu = {number(mu)} ({bounds.mu_from.value}), "
        f"L = {number(lipschitz)} ({bounds.lipschitz_from.value})"
    )
    if not is_smooth(objective):
        text = f"{text} of the smooth terms"
    if not float(bounds.proved_mu().min()) > 0:
        advice = "add a table [ridge] with weight = 1e-3 to have them proved"
        return f"{text}: distances to exact minimisers are not proved; {advice}"
    return f"{text}, κ = {number(lipschitz / mu)}: distances to exact minimisers are proved"


def _speed(problem: SeparableProblem, configuration: Configuration) -> str:
    from bilevel.report.words import duration, number

    accuracy = problem.first_accuracy(problem.theta)
    start = time.perf_counter()
    problem.value_and_grad(problem.theta, tol=accuracy)
    seconds = time.perf_counter() - start
    text = (
        f"loss and gradient to an accuracy of {number(accuracy)} take {duration(seconds)}, "
        f"the first time; an outer step takes one or more of them"
    )
    if configuration.budget.seconds is None:
        return text
    count = int(configuration.budget.seconds / seconds)
    return f"{text}, and the budget has room for about {count}"


def _derivative(configuration: Configuration, training: Batch | Measurements) -> tuple[bool, str]:
    """A Taylor test in double precision on the middle of one image, or on one measurement."""
    from bilevel.cli.config import made
    from bilevel.cli.images import Batch, Measurements
    from bilevel.cli.learning import build_problem
    from bilevel.cli.settings.kinds import NoiseSettings
    from bilevel.data import centre_crop
    from bilevel.learn import check_hypergradient

    if isinstance(training, Measurements):
        precise = configuration.model_copy(update={"precision": "float64"})
        one = replace(training, ids=training.ids[:1], y=training.y[:1].double())
        test = check_hypergradient(build_problem(precise, one))
        return test.passed, f"{test} on one measurement"
    h, w = configuration.probe
    size = (min(h, training.shape[1]), min(w, training.shape[2]))
    probe = Batch(training.ids[:1], centre_crop(training.images[:1], size))
    noise = configuration.noise or made("noises", {"name": "none"}, NoiseSettings)
    own = {"precision": "float64", "noise": noise, "operator": configuration.operator.shared()}
    precise = configuration.model_copy(update=own)
    problem = build_problem(precise, probe)
    test = check_hypergradient(problem)
    return test.passed, f"{test} on the middle {size[0]}x{size[1]} of one image"

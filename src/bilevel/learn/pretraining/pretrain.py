"""Train a regulariser before, or instead of, solving the bilevel problem."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bilevel.ground.given import typed
from bilevel.ground.theta import Theta, check_names
from bilevel.learn.budget import Budget
from bilevel.learn.fit import Fit
from bilevel.learn.learn import learn
from bilevel.learn.pretraining.method import Method
from bilevel.learn.record import Record
from bilevel.learn.separable import BilevelProblem

__all__ = ["pretrain"]


@typed
def pretrain(
    problem: BilevelProblem,
    method: Method,
    theta0: Theta | None = None,
    *,
    budget: Budget,
    seed: int = 0,
    record: Callable[[Record], None] | None = None,
    checkpoint: str | Path | None = None,
    resume: Fit | None = None,
) -> Fit:
    """Train the energy of ``problem`` by ``method``; ``learn`` goes on with ``fit.theta``.

    As with :func:`~bilevel.learn.learn.learn` Ctrl-C and the budget end with the last θ. Adam's
    rate falls with the share of the budget that is used up, and memory is that of a batch. The
    history tells of the method's own loss at the batches, of which nothing is proved.

    Args:
        problem: with targets; its samples are those that are trained on.
        method: one of ``bl.pretraining``.
        theta0: where it starts; the energy's own values where it has none.
        budget: limits of this call; a step is one batch.
        seed: of crops, noise and whatever else the method draws.
        record: called with every new line of the history.
        checkpoint: folder for the fit so far.
        resume: a fit to go on with, by the same method, seed and problem, and from the same start.

    Raises:
        InputError: a problem without targets, an energy without a smooth regulariser, names or
            options that do not fit; nothing is trained then.

    Example:
        >>> import bilevel as bl
        >>> images, noise = bl.data.embedded_images(size=16), bl.data.GaussianNoise(0.1)
        >>> pairs = bl.data.simulate(images, bl.operators.Identity(), noise)
        >>> network = bl.networks.InputConvexNetwork(channels=4, size=3)
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), network)
        >>> problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        >>> method = bl.pretraining.ScoreMatching(batch_size=8)
        >>> fit = bl.pretrain(problem, method, budget=bl.Budget(steps=5))
        >>> len(fit.history)
        6
        >>> fitting = bl.pretraining.ScalarFit(["log_weight"], images=4)
        >>> fit = bl.pretrain(problem, fitting, fit.theta, budget=bl.Budget(steps=1))
        >>> fit.theta.keys() == problem.theta.keys()
        True
    """
    start = {**problem.theta, **(theta0 or {})}
    check_names(problem.energy, start)
    view = method.problem(problem, start, seed)
    fit = learn(
        view,
        method.solver(),
        budget=budget,
        record=record,
        checkpoint=checkpoint,
        resume=resume,
    )
    if fit.theta.keys() == problem.theta.keys():
        return fit
    whole = replace(fit, theta={**start, **fit.theta}, energy=copy.deepcopy(fit.energy))
    for name, parameter in whole.energy.named_parameters():
        parameter.requires_grad_(name in problem.theta)
    if checkpoint is not None:
        whole.save(checkpoint)
    return whole

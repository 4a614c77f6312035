"""Light is not negative: reconstructions at the weights chosen, once more with that known."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from bilevel.ground import rows
from bilevel.model import Variational
from bilevel.model.regularisers import Box, Sum
from bilevel.select import Choice, Comparison, Outcome
from bilevel.select.select import accuracy_for
from bilevel.solve import Solution, minimise
from bilevel.solve.policy import LEARNING
from bilevel.solve.solvers import FISTA

__all__ = ["nonnegative"]


def nonnegative(energy: Variational, found: Comparison) -> Comparison:
    """The same choices with x = argmin Ψ(A x; y) + w R(x) over x >= 0, w as it was chosen.

    Rules choose with the smooth energy: where bounds are active, a smaller weight may do. In
    float64, since FISTA's steps are as short as the largest curvature asks for.
    """
    choices = {name: _bounded(energy, found, choice) for name, choice in found.choices.items()}
    return replace(found, choices=choices)


def _bounded(energy: Variational, found: Comparison, choice: Choice) -> Choice:
    accuracy = accuracy_for(energy, found.y)
    stiffness = energy.stiffness(energy.contrast(found.y))
    precise, data = copy.deepcopy(energy).double(), found.y.double()
    solutions: list[Solution] = []
    for k, weight in enumerate(choice.weight):
        objective = _weighted(precise, float(weight)).at(data[k : k + 1])
        tol = LEARNING.tolerance(objective, accuracy, dtype=data.dtype, stiffness=stiffness)
        start = choice.x[k : k + 1].double().clamp_min(0.0)
        solutions.append(minimise(objective, FISTA(), start, tol=tol))
    missed = [not bool(one.converged) for one in solutions]
    was = zip(choice.outcome, choice.advice, missed, strict=True)
    ended = [
        (Outcome.UNSOLVED, "ask for less accuracy, or smooth the regulariser more")
        if missed and outcome is Outcome.FOUND
        else (outcome, advice)
        for outcome, advice, missed in was
    ]
    return replace(
        choice,
        x=torch.cat([one.x for one in solutions]).to(choice.x),
        certificate=rows.join([one.certificate for one in solutions]),
        outcome=tuple(outcome for outcome, _ in ended),
        advice=tuple(advice for _, advice in ended),
    )


def _weighted(energy: Variational, weight: float) -> Variational:
    """Ψ + w R over x >= 0."""
    regulariser = copy.deepcopy(energy.regulariser)
    parts = regulariser.parts if isinstance(regulariser, Sum) else [regulariser]
    with torch.no_grad():
        for part in parts:
            part.get_parameter("log_weight").add_(torch.tensor(weight).log())
    return Variational(energy.fidelity, regulariser + Box(0.0))

"""What the projection onto Θ undoes of a gradient changes no step of any algorithm."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.learn import Accuracy
from contracts.algorithms import DEFAULTS

NAME = "regulariser.filters"
VALUES_ALONE = {"grid", "random", "optuna", "dfo-ls"}
ADAPTED = ["isgd", "soba", "saba", "stocbio", "f2sa"]


@dataclass(frozen=True)
class Means(bl.penalties.Penalty):
    """100 times the sum of the means of the filters, which is zero on Θ."""

    def of(self, theta: bl.Theta) -> Tensor:
        return 100 * theta[NAME].double().mean((1, 2, 3)).sum()


def moved(algorithm: bl.learn.Algorithm, penalty: bl.penalties.Penalty | None) -> Tensor:
    images = bl.data.embedded_images(size=12).double()[:3]
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    experts = bl.regularisers.FieldsOfExperts(
        bl.regularisers.dct_filters(2), 0.03, learn=("filters",)
    )
    energy = bl.Variational(bl.fidelities.SquaredL2(), experts).double()
    loss = bl.losses.SquaredError()
    problem = bl.BilevelProblem(energy, loss, pairs, penalty=penalty)
    if hasattr(algorithm, "accuracy"):
        algorithm = replace(algorithm, accuracy=Accuracy(first=1e-6))
    return bl.learn(problem, algorithm, budget=bl.Budget(steps=3)).theta[NAME]


def same(algorithm: bl.learn.Algorithm) -> None:
    plain, more = moved(algorithm, None), moved(algorithm, Means())
    start = bl.regularisers.dct_filters(2).double()
    change = float((plain - start).abs().max())
    assert change > 0
    torch.testing.assert_close(more, plain, rtol=0, atol=1e-4 * change)


@pytest.mark.parametrize("name", [name for name in DEFAULTS if name not in VALUES_ALONE])
def test_steps_are_the_same(name: str) -> None:
    same(DEFAULTS[name])


@pytest.mark.parametrize("name", ADAPTED)
def test_adapted_steps_are_the_same(name: str) -> None:
    same(replace(DEFAULTS[name], precondition="adam"))

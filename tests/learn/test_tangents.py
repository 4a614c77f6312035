"""What the projection onto Θ undoes of a gradient changes no step of any algorithm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.theta import flatten
from bilevel.learn import Accuracy, Algorithm, Problem
from bilevel.model import Bounds
from bilevel.model.sets import ZeroMean
from contracts.algorithms import DEFAULTS, QUADRATICS, SHARED
from contracts.quadratics import DOUBLE, Quadratic

NAME = "regulariser.filters"
VALUES_ALONE = {"grid", "random", "optuna", "dfo-ls"}
ADAPTED = ["isgd", "soba", "saba", "stocbio", "f2sa"]


@dataclass(frozen=True)
class Means(bl.penalties.Penalty):
    """The sum of the means of the filters, which is zero on Θ."""

    def of(self, theta: bl.Theta) -> Tensor:
        return theta[NAME].double().mean((1, 2, 3)).sum()


def of_filters(penalty: float) -> bl.BilevelProblem:
    images = bl.data.embedded_images(size=12).double()[:3]
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    experts = bl.regularisers.FieldsOfExperts(
        bl.regularisers.dct_filters(2), 0.03, learn=("filters",)
    )
    energy = bl.Variational(bl.fidelities.SquaredL2(), experts).double()
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs, penalty=penalty * Means())


def of_one_x(penalty: float) -> bl.SharedProblem:
    q, zero = Quadratic.random(0), torch.zeros(3, dtype=DOUBLE)
    curvatures = torch.linalg.eigvalsh(q.a.mean(0))

    def upper(x: Tensor, theta: bl.Theta, ids: Tensor) -> Tensor:
        return q.upper(x, theta, ids) + penalty * theta["w"].mean()

    return bl.SharedProblem(
        bl.FiniteSum(len(q.a), q.lower),
        bl.FiniteSum(len(q.c), upper),
        {"w": zero},
        torch.zeros(q.b.shape[1], dtype=DOUBLE),
        bounds=Bounds.of(curvatures[0], curvatures[-1]),
        sets={"w": ZeroMean(1)},
    )


def same(make: Callable[[float], Problem], algorithm: Algorithm[Any]) -> None:
    if hasattr(algorithm, "accuracy"):
        algorithm = replace(algorithm, accuracy=Accuracy(first=1e-6))
    start = flatten(make(1e-9).theta)
    plain, more = (
        flatten(bl.learn(make(penalty), algorithm, budget=bl.Budget(steps=3)).theta)
        for penalty in (1e-9, 100.0)
    )
    change = float((plain - start).abs().max())
    assert change > 0
    torch.testing.assert_close(more, plain, rtol=0, atol=1e-4 * change)


@pytest.mark.parametrize("name", [name for name in DEFAULTS if name not in VALUES_ALONE])
def test_steps_are_the_same(name: str) -> None:
    same(of_filters, DEFAULTS[name])


@pytest.mark.parametrize("name", ADAPTED)
def test_adapted_steps_are_the_same(name: str) -> None:
    same(of_filters, replace(DEFAULTS[name], precondition="adam"))  # type: ignore[type-var]


@pytest.mark.parametrize("name", [name for name, case in QUADRATICS.items() if case.kind == SHARED])
def test_steps_are_the_same_with_one_x_for_all(name: str) -> None:
    same(of_one_x, QUADRATICS[name].algorithm)

"""The three architecture gradients, the search space, and a search that can be continued."""

from __future__ import annotations

import doctest
import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy, max_pool2d

sys.path.insert(0, str(Path(__file__).parents[2] / "reproductions" / "liu-2018-darts"))

from architecture_search.cells import random_cell, strongest
from architecture_search.darts import DARTS
from architecture_search.digits import (
    Labelled,
    cross_entropy_sum,
    digits,
    search_problem,
)
from architecture_search.figures import chosen, draw
from architecture_search.gradients import (
    Approximation,
    FirstOrder,
    Implicit,
    SecondOrder,
)
from architecture_search.momentum import Momentum
from architecture_search.network import Network, full_cell
from architecture_search.operations import NAMES, OPERATIONS, ZERO
from architecture_search.training import Training

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.learn.directions import Draw, Iterates, Sampler

DOUBLE = torch.float64
DRAW = Draw(torch.tensor([0, 2, 3]), torch.tensor([1, 4]))
CELL = {(0, 1): ("conv 3x3", "average pool"), (0, 2): ("separable 5x5", "skip")}


def labelled(count: int, seed: int) -> Labelled:
    rng = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 8, 8, generator=rng, dtype=DOUBLE)
    return Labelled(images, torch.randint(3, (count,), generator=rng))


def small() -> tuple[bl.SharedProblem, bl.Theta, Iterates]:
    """A network in float64 at random weights and a random α."""
    network = Network(CELL, channels=2, classes=3)
    rng = torch.Generator().manual_seed(5)
    alpha = torch.randn(2, 2, generator=rng, dtype=DOUBLE)
    x = network.start(1, DOUBLE)
    problem = bl.SharedProblem(
        cross_entropy_sum(network, labelled(4, 1), 1e-2),
        cross_entropy_sum(network, labelled(5, 2)),
        {"alpha": alpha},
        x,
    )
    return problem, {"alpha": alpha}, problem.iterates({"alpha": alpha})


def differences(function, alpha: torch.Tensor, reach: float = 1e-5) -> torch.Tensor:
    """Central differences by every entry of α."""
    found = torch.zeros_like(alpha)
    for k in range(alpha.numel()):
        move = torch.zeros_like(alpha)
        move.view(-1)[k] = reach
        found.view(-1)[k] = (function(alpha + move) - function(alpha - move)) / (2 * reach)
    return found


def test_first_order_is_the_direct_derivative() -> None:
    problem, theta, at = small()
    found = FirstOrder()(problem, theta, at, DRAW)
    x = at.x.view(problem.shape)
    expected = differences(
        lambda alpha: float(problem.upper.mean(x, {"alpha": alpha}, DRAW.outer)), theta["alpha"]
    )
    assert torch.allclose(found.theta["alpha"], expected, atol=1e-8)
    through = problem.directions(theta, Iterates(at.x, torch.zeros_like(at.v)), DRAW)
    assert torch.allclose(found.theta["alpha"], through.theta["alpha"])
    assert found.value == pytest.approx(through.value)


@pytest.mark.parametrize(("product", "tol"), [("exact", 1e-8), ("differences", 1e-5)])
def test_second_order_is_the_derivative_through_one_step(product: str, tol: float) -> None:
    problem, theta, at = small()
    step = 0.5

    def unrolled(alpha: torch.Tensor) -> float:
        x = at.x.view(problem.shape).detach().requires_grad_()
        loss = problem.lower.mean(x, {"alpha": alpha}, DRAW.inner)
        moved = x - step * torch.autograd.grad(loss, x)[0]
        return float(problem.upper.mean(moved.detach(), {"alpha": alpha}, DRAW.outer))

    expected = differences(unrolled, theta["alpha"])
    found = SecondOrder(step, product, radius=1e-6)(problem, theta, at, DRAW).theta["alpha"]
    first = FirstOrder()(problem, theta, at, DRAW).theta["alpha"]
    assert float((found - expected).abs().max()) <= tol * float(expected.abs().max()) + 1e-9
    assert float((first - expected).norm()) > 1e-2 * float(expected.norm())


def ridge() -> bl.SharedProblem:
    """A linear classifier on mixed pictures: strongly convex in its weights, (3, 64)."""
    operations = [OPERATIONS[name] for name in ("max pool", "average pool", "skip", ZERO)]

    def side(data: Labelled, decay: float) -> bl.FiniteSum:
        def mean(x: torch.Tensor, theta: bl.Theta, ids: torch.Tensor) -> torch.Tensor:
            images = data.images[ids]
            shares = torch.softmax(theta["alpha"], -1)
            mixed = sum(
                share * operation.apply(images, ())
                for share, operation in zip(shares, operations, strict=True)
            )
            scores = mixed.flatten(1) @ x.mT
            return cross_entropy(scores, data.classes[ids]) + 0.5 * decay * x.square().sum()

        return bl.FiniteSum(len(data), mean)

    alpha = torch.tensor([0.3, -0.2, 0.5, 0.0], dtype=DOUBLE)
    start = torch.zeros(3, 64, dtype=DOUBLE)
    return bl.SharedProblem(
        side(labelled(12, 3), 0.1), side(labelled(9, 4), 0.0), {"alpha": alpha}, start
    )


def test_implicit_is_the_derivative_of_the_solved_lower_level() -> None:
    problem = ridge()
    theta = problem.theta
    x = problem.x(theta, tol=1e-11)
    at = Iterates(x.view(1, 1, 1, -1), torch.zeros(1, 1, 1, x.numel(), dtype=DOUBLE))
    everything = Draw(torch.arange(12), torch.arange(9))
    expected = differences(
        lambda alpha: problem.value({"alpha": alpha}, tol=1e-11), theta["alpha"], reach=1e-3
    )
    exact = Implicit(max_steps=300, rtol=1e-11)
    found = exact(problem, theta, at, everything)
    assert torch.allclose(found.theta["alpha"], expected, rtol=1e-4, atol=1e-7)
    again = problem.value_and_grad(theta, tol=1e-10).grad["alpha"]
    assert torch.allclose(found.theta["alpha"], again, rtol=1e-6, atol=1e-9)
    warm = replace(exact, max_steps=2, warm=True)
    kept = warm(problem, theta, Iterates(at.x, found.v), everything)
    assert torch.allclose(kept.v, found.v, rtol=1e-6)
    for other in (FirstOrder(), SecondOrder(0.1)):
        off = other(problem, theta, at, everything).theta["alpha"] - expected
        assert float(off.norm()) > 1e-2 * float(expected.norm())


def test_damping_shifts_the_hessian() -> None:
    problem = ridge()
    theta, everything = problem.theta, Draw(torch.arange(12), torch.arange(9))
    at = problem.iterates(theta)
    damped = Implicit(max_steps=300, rtol=1e-11, damping=0.7)(problem, theta, at, everything)
    rest = problem.directions(theta, Iterates(at.x, damped.v), everything).v + 0.7 * damped.v
    assert float(rest.norm()) <= 1e-8 * float(damped.v.norm())


def test_mixed_operation_is_the_weighted_sum() -> None:
    alpha = torch.tensor([[0.2, -1.0, 3.0]], dtype=DOUBLE)
    names = ("max pool", "skip", ZERO)
    network = Network({(0, 1): names}, channels=2, classes=3)
    images = labelled(2, 7).images.repeat(1, 2, 1, 1)
    found = network._cell(images, torch.softmax(alpha, -1), iter(()))
    pooled = max_pool2d(images, 3, stride=1, padding=1)
    mean, spread = pooled.mean((1, 2, 3), True), pooled.var((1, 2, 3), False, True)
    shares = alpha.exp()[0] / alpha.exp().sum()
    expected = shares[0] * (pooled - mean) / (spread + 1e-5).sqrt() + shares[1] * images
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_operations_keep_shapes_and_samples_apart(name: str) -> None:
    operation = OPERATIONS[name]
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 8, 8, generator=rng, dtype=DOUBLE)
    weights = [torch.randn(s, generator=rng, dtype=DOUBLE) for s in operation.shapes(4)]
    whole = operation.apply(x, weights)
    assert whole.shape == x.shape
    assert torch.allclose(whole[1:2], operation.apply(x[1:2], weights))


def test_a_dominant_alpha_gives_the_discrete_cell() -> None:
    choice = random_cell(3)
    full = full_cell()
    alpha = torch.zeros(len(full), len(NAMES))
    for row, edge in enumerate(full):
        names = choice.get(edge)
        if names is not None:
            alpha[row, NAMES.index(names[0])] = 9.0
    assert strongest(full, alpha) == choice


def test_random_cells_are_among_those_that_a_search_can_find() -> None:
    cells = [random_cell(seed) for seed in range(40)]
    assert len({tuple(cell.items()) for cell in cells}) > 30
    for cell in cells:
        into = [sum(j == node for _, j in cell) for node in (1, 2, 3)]
        assert into == [1, 2, 2]
        assert all(ZERO not in names for names in cell.values())


APPROXIMATIONS = [
    FirstOrder(),
    SecondOrder(0.05),
    SecondOrder(0.05, "differences"),
    Implicit(2, 0.1),
]
NAMED = ["first", "second", "differences", "implicit"]


def search(approximation: Approximation, **options: float) -> tuple[bl.SharedProblem, DARTS]:
    train, validation, _ = digits(60, 60)
    names = ("conv 3x3", "skip", ZERO)
    problem = search_problem(Network({(0, 1): names}, channels=4), train, validation, seed=0)
    return problem, DARTS(approximation, horizon=60, batch_size=30, **options)


@pytest.mark.parametrize("approximation", APPROXIMATIONS, ids=NAMED)
def test_first_step_is_that_of_adam_and_then_of_the_weights(approximation: Approximation) -> None:
    problem, algorithm = search(approximation, step_size=0.1, lower_step=0.3)
    state = algorithm.init(problem, problem.theta)
    moved = algorithm.step(problem, state)
    alpha, grad = moved.evaluation.theta, moved.evaluation.grad["alpha"]
    assert torch.allclose(alpha["alpha"], -0.1 * grad.sign(), atol=1e-5)
    ids = Sampler(60, 30, 0, "lower")
    x = state.at.x.view(problem.shape).requires_grad_()
    loss = problem.lower.mean(x, alpha, ids.batch(ids.number(0)))
    expected = x - 0.3 * torch.autograd.grad(loss, x)[0]
    assert torch.allclose(moved.at.x.view(problem.shape), expected, atol=1e-6)


@pytest.mark.parametrize("approximation", APPROXIMATIONS, ids=NAMED)
def test_search_lowers_both_losses(approximation: Approximation) -> None:
    problem, algorithm = search(approximation, step_size=0.1, lower_step=0.3)
    state = first = algorithm.init(problem, problem.theta)
    for _ in range(24):
        state = algorithm.step(problem, state)
    for side in (problem.lower, problem.upper):
        before, after = (
            float(side.whole(s.at.x.view(problem.shape), s.evaluation.theta))
            for s in (first, state)
        )
        assert after < before - 0.02


def test_architecture_rests_while_weights_warm_up() -> None:
    problem, algorithm = search(FirstOrder(), warm_up=2)
    fit = bl.learn(problem, algorithm, budget=bl.Budget(steps=2))
    assert not fit.theta["alpha"].any()
    fit = bl.learn(problem, algorithm, budget=bl.Budget(steps=1), resume=fit)
    assert fit.theta["alpha"].all()


def test_long_gradients_are_shortened_and_short_ones_kept() -> None:
    x, velocity = torch.ones(2, dtype=DOUBLE), torch.zeros(2, dtype=DOUBLE)
    slope = torch.tensor([3.0, 4.0], dtype=DOUBLE)
    moved, kept = Momentum(0.1, clip=2.0).moved(x, velocity, slope, 0.0)
    assert torch.allclose(kept, 0.4 * slope) and torch.allclose(moved, x - 0.04 * slope)
    moved, kept = Momentum(0.1, clip=6.0).moved(x, kept, slope, 0.5)
    assert torch.allclose(kept, 1.36 * slope) and torch.allclose(moved, x - 0.05 * kept)


def test_a_search_does_not_train_the_network_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, algorithm = search(FirstOrder())
    calls, scores = [], Network.scores
    monkeypatch.setattr(Network, "scores", lambda *given: calls.append(1) or scores(*given))
    fit = bl.learn(problem, algorithm, budget=bl.Budget(steps=5))
    assert len(fit.history) == 6
    assert 11 <= len(calls) <= 60


def test_a_search_goes_on_bit_for_bit() -> None:
    problem, algorithm = search(Implicit(2, 0.1, warm=True))
    whole = bl.learn(problem, algorithm, budget=bl.Budget(steps=6))
    problem, _ = search(Implicit())
    half = bl.learn(problem, algorithm, budget=bl.Budget(steps=3))
    both = bl.learn(problem, algorithm, budget=bl.Budget(steps=3), resume=half)
    assert torch.equal(both.theta["alpha"], whole.theta["alpha"])
    assert both.history[-1].value == whole.history[-1].value
    assert float(whole.theta["alpha"].abs().max()) > 0


def test_training_learns_and_repeats() -> None:
    train, _, test = digits(100, 100)
    training = Training(epochs=60, channels=4, step=0.5)
    cell = {(0, 1): ("conv 3x3",)}
    found, seen = training.accuracies(cell, train, (test, train), seed=0)
    assert seen > found > 0.2
    short = replace(training, epochs=3)
    twice = [short.accuracies(cell, train, (test,), seed=1) for _ in range(2)]
    assert twice[0] == twice[1]


def test_parts_of_the_digits_are_disjoint() -> None:
    parts = digits()
    assert [len(part) for part in parts] == [300, 300, 1197]
    together = torch.cat([part.images for part in parts]).flatten(1)
    from sklearn.datasets import load_digits

    every = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    assert torch.equal(together.sum(0), every.sum(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Network({}), "edges"),
        (lambda: Network({(1, 0): ("skip",)}), "edges"),
        (lambda: Network({(0, 2): ("skip",)}), "incoming"),
        (lambda: Network({(0, 1): ("skip",), (0, 2): ("skip", ZERO)}), "as many"),
        (lambda: SecondOrder(0.0), "step"),
        (lambda: SecondOrder(0.1, "exakt"), "exact"),
        (lambda: Implicit(0), "max_steps"),
        (lambda: Implicit(damping=-1.0), "damping"),
        (lambda: DARTS(FirstOrder(), momentum=1.0), "momentum"),
        (lambda: DARTS(FirstOrder(), clip=0.0), "clip"),
        (lambda: Training(epochs=0), "epochs"),
    ],
)
def test_bad_options_are_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


MODULES = ["cells", "darts", "digits", "gradients", "momentum", "network", "operations", "training"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_docstrings(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"architecture_search.{name}"))
    assert found.attempted > 0
    assert found.failed == 0


def test_validation_samples_choose_and_results_are_drawn(tmp_path: Path) -> None:
    entry = {
        "cell": {"0-1": "skip", "0-2": "max pool", "1-2": "conv 3x3"},
        "accuracy": [0.5, 0.7],
        "validation": [0.6, 0.8],
        "seconds": 12.4,
        "gradients": 1000,
        "products": 0,
    }
    random = [{"accuracy": [0.3, 0.5]}, {"accuracy": [0.5, 0.7]}]
    worse = {**entry, "validation": [0.5, 0.6], "accuracy": [0.9, 0.9]}
    results = {"found": {"first order, 0": entry, "first order, 1": worse}, "random": random}
    assert chosen(results) == "first order, 0"
    draw(results, tmp_path / "cells.png")
    assert (tmp_path / "cells.png").read_bytes().startswith(b"\x89PNG")

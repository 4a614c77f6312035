"""The trust region: smooth losses, kinks with known minimisers, sets, exact total variation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.learn import Status
from bilevel.learn.algorithms import TrustRegion
from bilevel.learn.trust import Pieces, piecewise_step, quadratic_step
from bilevel.linear.quasi_newton import bfgs
from bilevel.model import Bounds
from bilevel.model.sets import Box, Set
from contracts.quadratics import DOUBLE, Quadratic


def random(seed: int, scale: float) -> torch.Tensor:
    return scale * torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def upper_alone(loss, start: torch.Tensor, box: Set | None = None) -> bl.SharedProblem:
    """min loss(w), as x = w is the minimiser of the lower level."""
    return bl.SharedProblem(
        bl.FiniteSum(1, lambda x, theta, ids: 0.5 * (x - theta["w"]).square().sum()),
        bl.FiniteSum(1, lambda x, theta, ids: loss(x)),
        {"w": start},
        torch.zeros_like(start),
        sets=None if box is None else {"w": box},
        bounds=Bounds.of(1.0, 1.0),
    )


def valley(w: torch.Tensor) -> torch.Tensor:
    """With a kink along w_0 = w_1, in which the minimiser (1, 1, -1) lies."""
    centre = torch.tensor([1.0, 2.0, -1.0], dtype=DOUBLE)
    return w[0].abs() + 3 * (w[1] - w[0]).abs() + 0.5 * (w - centre).square().sum()


@pytest.mark.parametrize(("seed", "scale"), [(0, 1.0), (3, 4.0), (7, 0.1)])
def test_smooth_losses_from_random_starts(seed: int, scale: float) -> None:
    quadratic = Quadratic.random(seed)
    p = quadratic.problem(random(seed, scale))
    fit = bl.learn(p, TrustRegion(tol=1e-5), budget=bl.Budget(steps=40))
    assert fit.status in (Status.CONVERGED, Status.STATIONARY)
    assert float((fit.theta["w"] - quadratic.solution()).norm()) <= 1e-4


@pytest.mark.parametrize("seed", [0, 5])
def test_it_ends_at_a_kink_and_says_so(seed: int) -> None:
    fit = bl.learn(
        upper_alone(valley, random(seed, 3.0)), TrustRegion(), budget=bl.Budget(steps=100)
    )
    assert fit.status is Status.KINKED
    best = torch.tensor([1.0, 1.0, -1.0], dtype=DOUBLE)
    assert float((fit.theta["w"] - best).abs().max()) <= 0.01
    assert fit.history[-1].gradient_norm > 1, "no single gradient tells that"


def test_it_ends_at_a_kink_on_the_boundary() -> None:
    box = Box(-5.0, 0.5)
    p = upper_alone(valley, box.project(random(1, 3.0)), box)
    fit = bl.learn(p, TrustRegion(), budget=bl.Budget(steps=100))
    best = torch.tensor([0.5, 0.5, -1.0], dtype=DOUBLE)
    assert float((fit.theta["w"] - best).abs().max()) <= 0.01
    assert fit.status is not Status.BUDGET


def test_active_constraints() -> None:
    quadratic, box = Quadratic.random(2), Box(-0.02, 0.02)
    p = quadratic.problem()
    p.space = type(p.space)({"w": box})
    fit = bl.learn(p, TrustRegion(tol=1e-5), budget=bl.Budget(steps=40))
    w = torch.zeros(3, dtype=DOUBLE)
    for _ in range(400):
        w = box.project(w - 0.2 * quadratic.gradient(w))
    assert float(w.abs().max()) == 0.02 < float(quadratic.solution().abs().max())
    assert fit.status in (Status.CONVERGED, Status.STATIONARY)
    assert float((fit.theta["w"] - w).abs().max()) <= 1e-5


def exact_tv(weight: float) -> bl.BilevelProblem:
    target = torch.zeros(2, 1, 6, 6, dtype=DOUBLE)
    target[0, :, 2:5, 2:] = 0.8
    target[1, :, :, :3] = 0.5
    noise = torch.randn(target.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    regulariser = bl.regularisers.ExactTotalVariation(weight)
    energy = bl.Variational(bl.fidelities.SquaredL2(), regulariser).double()
    pairs = bl.data.Pairs(target + 0.15 * noise, target, ("a", "b"))
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


def test_the_weight_of_an_exact_total_variation_is_that_of_a_dense_search() -> None:
    name = "regulariser.log_weight"
    judge = exact_tv(0.1)
    logs = torch.linspace(math.log(0.06), math.log(0.2), 5, dtype=DOUBLE)
    values = [judge.value({name: log}, tol=1e-3) for log in logs]
    best = float(logs[int(torch.tensor(values).argmin())])
    for weight in (0.02, 0.5):
        fit = bl.learn(exact_tv(weight), TrustRegion(), budget=bl.Budget(steps=30))
        assert judge.value(fit.theta, tol=1e-3) <= min(values) + 2e-6
        assert abs(float(fit.theta[name]) - best) <= 0.2
        assert fit.status is not Status.BUDGET


def test_both_phases_are_continued_bit_for_bit() -> None:
    def fresh() -> bl.SharedProblem:
        return upper_alone(valley, random(3, 3.0))

    whole = bl.learn(fresh(), TrustRegion(), budget=bl.Budget(steps=24))
    half = bl.learn(fresh(), TrustRegion(), budget=bl.Budget(steps=18))
    assert half.snapshot is not None
    assert half.snapshot.state.failures >= 3, "in the second phase"
    rest = bl.learn(fresh(), TrustRegion(), budget=bl.Budget(steps=6), resume=half)
    assert torch.equal(rest.theta["w"], whole.theta["w"])
    assert [r.value for r in rest.history] == [r.value for r in whole.history]


def test_accuracy_is_tightened_when_errors_hide_the_decrease() -> None:
    p = Quadratic.random(0).problem()
    fit = bl.learn(
        p, TrustRegion(accuracy=bl.Accuracy(first=0.3), tol=1e-4), budget=bl.Budget(steps=40)
    )
    asked = [r.accuracy for r in fit.history]
    assert asked[0] == 0.3
    assert all(after <= before for before, after in itertools.pairwise(asked))
    assert asked[-1] <= 0.3 / 64
    assert fit.status in (Status.CONVERGED, Status.STATIONARY)


def test_bfgs_knows_the_last_curvature_and_stays_positive() -> None:
    pairs = []
    bend = torch.diag(torch.tensor([1.0, 10.0, 100.0], dtype=DOUBLE))
    for seed in range(5):
        moved = random(seed, 1.0)
        pairs.append((moved, bend @ moved))
    product = bfgs(tuple(pairs))
    torch.testing.assert_close(product(pairs[-1][0]), pairs[-1][1])
    matrix = torch.stack([product(e) for e in torch.eye(3, dtype=DOUBLE)])
    torch.testing.assert_close(matrix, matrix.T)
    assert float(torch.linalg.eigvalsh(matrix)[0]) > 0


def test_steps_stay_in_region_and_set_and_fall_below_the_cauchy_point() -> None:
    quadratic, box = Quadratic.random(4), Box(-0.05, 2.0)
    p = quadratic.problem(box.project(random(4, 1.0)))
    p.space = type(p.space)({"w": box})
    at = p.value_and_grad(p.theta, tol=1e-8)
    hessian = torch.autograd.functional.hessian(quadratic.loss, p.theta["w"])
    pairs = tuple((e, hessian @ e) for e in torch.eye(3, dtype=DOUBLE))
    bend, g = bfgs(pairs), at.grad["w"]
    for radius in (1e-3, 0.1, 10.0):
        found = quadratic_step(p, at, radius, pairs)
        there = p.theta["w"] + found.move
        torch.testing.assert_close(there, box.project(there))
        assert float(found.move.norm()) <= radius * (1 + 1e-12)
        model = float(g @ found.move + 0.5 * found.move @ bend(found.move))
        assert found.predicted == pytest.approx(-model)
        for share in torch.linspace(0, 1, 20, dtype=DOUBLE):
            cauchy = -share * radius * g / g.norm()
            inside = bool(torch.equal(box.project(p.theta["w"] + cauchy), p.theta["w"] + cauchy))
            value = float(g @ cauchy + 0.5 * cauchy @ bend(cauchy))
            assert not inside or model <= value + 1e-9


def test_opposite_pieces_leave_nothing_to_do_and_offsets_tell_where_they_meet() -> None:
    p = upper_alone(valley, torch.zeros(1, dtype=DOUBLE).expand(3).clone())
    at = p.value_and_grad(p.theta, tol=1e-8)
    up = torch.tensor([1.0, 0.0, 0.0], dtype=DOUBLE)
    opposite = Pieces(torch.stack([up, -2 * up]), torch.zeros(2, dtype=DOUBLE))
    assert piecewise_step(p, at, 1.0, opposite).criticality <= 1e-3
    later = Pieces(opposite.slopes, torch.tensor([0.0, 0.9], dtype=DOUBLE))
    found = piecewise_step(p, at, 1.0, later)
    assert found.move.tolist() == pytest.approx([-0.3, 0.0, 0.0], abs=0.02)
    assert found.predicted == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": 1}, "memory >= 2"),
        ({"tighten": 1.0}, "tighten < 1"),
        ({"last_radius": 0.0}, "last_radius"),
        ({"tol": math.nan}, "tol"),
    ],
)
def test_bad_options_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrustRegion(**options)

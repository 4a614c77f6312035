"""Algorithms that move x, v and θ together: convergence, rates, continuation, honesty."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.learn import Status
from bilevel.learn.algorithms import MAID, MASOBA, SABA, SOBA, SRBA, AmIGO, StocBiO
from bilevel.learn.algorithms.saba import Tables
from bilevel.learn.algorithms.srba import everything
from bilevel.learn.directions import Draw, Iterates, Pairing
from bilevel.learn.loops.following import approach, lag
from bilevel.learn.loops.single_loop import Now, SingleLoop
from bilevel.linear import cg
from contracts.quadratics import DOUBLE, Quadratic

NAME = "regulariser.log_weight"


def imaging(weight: float) -> bl.BilevelProblem:
    images = bl.data.embedded_images(size=16).double()[:6]
    noise = bl.data.GaussianNoise(0.1)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise, seed=0)
    tv = bl.regularisers.TotalVariation(weight, 0.05, learn=("weight",))
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


@pytest.fixture(scope="module")
def best() -> float:
    """log of the best weight, by golden-section search on tight solves."""
    p, ratio = imaging(0.1), (math.sqrt(5) - 1) / 2
    low, high = math.log(0.02), math.log(0.8)
    loss = lambda t: p.value({NAME: torch.tensor(t, dtype=DOUBLE)}, tol=1e-7)  # noqa: E731
    for _ in range(16):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return (low + high) / 2


def near(quadratic: Quadratic, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return quadratic.solution() + torch.randn(3, generator=g, dtype=DOUBLE)


def distances(
    algorithm: SingleLoop, seed: int, steps: int, quadratic: Quadratic | None = None
) -> list[float]:
    """From the solution, after each outer step."""
    q = Quadratic.random(seed) if quadratic is None else quadratic
    p, solution = q.problem(near(q, seed)), q.solution()
    state = algorithm.init(p, p.theta)
    off = [float((p.theta["w"] - solution).norm())]
    for _ in range(steps):
        state = algorithm.step(p, state)
        off.append(float((state.evaluation.theta["w"] - solution).norm()))
    return off


TINY = 1e-30
CASES: dict[str, tuple[SingleLoop, int, float]] = {
    "SOBA": (SOBA(batch_size=4, outer_step=0.1, tol=TINY), 40, 0.03),
    "SOBA, Adam": (SOBA(batch_size=4, outer_step=0.1, precondition="adam", tol=TINY), 40, 0.1),
    "MA-SOBA": (MASOBA(batch_size=4, outer_step=0.1, average=0.5, tol=TINY), 40, 0.1),
    "SABA": (SABA(batch_size=4, outer_step=0.05, tol=TINY), 40, 0.01),
    "SRBA": (SRBA(batch_size=4, outer_step=0.05, tol=TINY), 40, 1e-4),
    "AmIGO": (AmIGO(batch_size=4, inner_steps=2, outer_step=0.1, decay=0.5, tol=TINY), 20, 0.1),
    "StocBiO": (StocBiO(batch_size=4, inner_steps=5, outer_step=0.1, decay=0.5, tol=TINY), 7, 0.5),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", CASES)
def test_each_converges_from_random_starts(name: str, seed: int) -> None:
    algorithm, steps, within = CASES[name]
    off = distances(algorithm, seed, steps)
    assert off[-1] <= within < off[0]


@pytest.mark.parametrize("algorithm", [SABA, SRBA])
def test_variance_reduction_is_linear(algorithm: type[SingleLoop]) -> None:
    """log ‖θ - θ*‖ falls along a line, over at least two decades."""
    off = distances(algorithm(batch_size=4, outer_step=0.1, tol=TINY), 1, 45)
    logs = torch.tensor(off, dtype=DOUBLE).log10()[5:]
    t = torch.arange(len(logs), dtype=DOUBLE)
    slope, r = fitted(t, logs)
    assert -1.0 < slope < -0.03
    assert r < -0.9
    assert logs[-1] < logs[0] - 2


def test_decreasing_steps_are_sublinear_and_constant_ones_stall() -> None:
    """Squared distance of SOBA ~ t^-1/2 or faster, but no line in t; its noise ball is beaten."""
    seeds = range(2)
    algorithm = SOBA(batch_size=2, outer_step=0.1, decay=0.5, tol=TINY)
    runs = [distances(algorithm, s, 30) for s in seeds]
    mean = torch.tensor(runs, dtype=DOUBLE).square().mean(0)
    t = torch.arange(6, 31, dtype=DOUBLE)
    slope, _ = fitted(t.log(), mean[6:].log())
    assert -2.5 < slope < -0.3
    constant = SOBA(batch_size=2, outer_step=0.1, decay=0.0, tol=TINY)
    stalled = [distances(constant, s, 30) for s in seeds]
    ball = torch.tensor(stalled, dtype=DOUBLE).square()[:, 15:].mean()
    assert mean[15:].mean() < ball


def fitted(x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Slope and correlation."""
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / (x @ x)), float(x @ y / (x.norm() * y.norm()))


STATIONARY: dict[str, SingleLoop] = {
    "SABA": SABA(batch_size=4),
    "SRBA": SRBA(batch_size=4),
    "SRBA, Adam": SRBA(batch_size=4, precondition="adam"),
}


@pytest.mark.parametrize("name", STATIONARY)
def test_ends_are_decided_by_an_evaluation_with_errors(name: str) -> None:
    q = Quadratic.random(2)
    fit = bl.learn(q.problem(near(q, 2)), STATIONARY[name], budget=bl.Budget(steps=100))
    assert fit.status in (Status.CONVERGED, Status.STATIONARY)
    assert math.isfinite(fit.history[-1].certificate)
    assert math.isinf(fit.history[1].error)
    assert fit.history[1].uncertified > 0
    assert float(q.gradient(fit.theta["w"]).norm()) <= 3e-2 * abs(fit.history[-1].value)


IMAGING: dict[str, SingleLoop] = {
    "SOBA": SOBA(batch_size=2),
    "SOBA, Adam": SOBA(batch_size=2, precondition="adam"),
    "MA-SOBA": MASOBA(batch_size=2),
    "SABA": SABA(batch_size=2),
    "SRBA": SRBA(batch_size=2),
    "AmIGO": AmIGO(batch_size=2),
    "StocBiO": StocBiO(batch_size=2, iterations=2),
}


@pytest.mark.parametrize("name", IMAGING)
def test_images_land_near_the_dense_search(name: str, best: float) -> None:
    steps = 12 if isinstance(IMAGING[name], AmIGO) else 50
    p = imaging(math.exp(best) * 2)
    fit = bl.learn(p, IMAGING[name], budget=bl.Budget(steps=steps))
    first, last = (
        p.value({NAME: torch.as_tensor(t, dtype=DOUBLE)}, tol=1e-5)
        for t in (best + math.log(2), fit.theta[NAME])
    )
    assert last < first
    assert abs(float(fit.theta[NAME]) - best) <= 0.4


CONTINUED: dict[str, SingleLoop] = {
    **{name: case[0] for name, case in CASES.items()},
    "SRBA, period": SRBA(batch_size=4, period=4),
}


@pytest.mark.parametrize("separable", [False, True], ids=["shared", "images"])
@pytest.mark.parametrize("name", CONTINUED)
def test_steps_in_two_parts_equal_those_at_once(name: str, separable: bool, tmp_path: Path) -> None:
    def problem() -> bl.BilevelProblem:
        return imaging(0.2) if separable else Quadratic.random(0).problem()

    algorithm = CONTINUED[name]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = bl.learn(problem(), algorithm, budget=bl.Budget(steps=4))
    p = problem()
    half = bl.learn(p, algorithm, budget=bl.Budget(steps=2))
    kept = bl.load(half.save(tmp_path)) if separable else half
    later = bl.Budget(steps=2)
    same = bl.learn(p, algorithm, budget=later, resume=half)
    again = bl.learn(problem(), algorithm, budget=later, resume=kept)
    torch.set_num_threads(threads)
    for fit in (same, again):
        assert all(torch.equal(fit.theta[name], whole.theta[name]) for name in whole.theta)
        assert fit.status is whole.status
        assert [r.value for r in fit.history] == [r.value for r in whole.history]
        assert [spent(r) for r in fit.history] == [spent(r) for r in whole.history]


def spent(record: bl.Record) -> tuple[int, int]:
    return record.cost.gradient_evaluations, record.cost.hvps


def test_a_state_is_left_as_it_was() -> None:
    p = Quadratic.random(0).problem()
    algorithm = SABA(batch_size=4)
    state = algorithm.init(p, p.theta)
    first = algorithm.step(p, state)
    assert torch.equal(first.at.x, algorithm.step(p, state).at.x)
    assert not torch.equal(first.at.x, state.at.x)


def test_divergence_is_told_and_the_best_theta_kept() -> None:
    q = Quadratic.random(0)
    start = near(q, 0)
    algorithm = SOBA(batch_size=4, outer_step=1e3, decay=0.0, tol=TINY)
    fit = bl.learn(q.problem(start), algorithm, budget=bl.Budget(steps=50))
    assert fit.status is Status.DIVERGED
    assert torch.equal(fit.theta["w"], start)
    assert fit.history[-1].value == min(record.value for record in fit.history[1:])


@pytest.mark.parametrize("factor", [0.01, 100.0])
@pytest.mark.parametrize("name", ["SABA", "SRBA"])
def test_far_starts_end_at_the_dense_search(name: str, factor: float, best: float) -> None:
    p = imaging(factor * math.exp(best))
    fit = bl.learn(p, IMAGING[name], budget=bl.Budget(steps=25))
    assert fit.status is Status.STATIONARY
    assert abs(float(fit.theta[NAME]) - best) <= 0.01


@pytest.mark.parametrize("change", [0.5, 5.0])
def test_large_first_steps_do_not_run_away(change: float, best: float) -> None:
    p = imaging(2 * math.exp(best))
    fit = bl.learn(p, SABA(batch_size=2, first_change=change), budget=bl.Budget(steps=15))
    assert abs(float(fit.theta[NAME]) - best) <= 0.01


def test_an_adjoint_that_never_comes_near_ends_the_fit(best: float) -> None:
    """Two terms from zero are far too few where L/μ is in the thousands."""
    p = imaging(100 * math.exp(best))
    fit = bl.learn(p, StocBiO(2, inner_steps=2, iterations=1), budget=bl.Budget(steps=50))
    assert fit.status is Status.FLOOR
    assert float(fit.theta[NAME]) - best > 4


def test_the_first_evaluation_is_of_the_first_draw() -> None:
    for algorithm, count in ((SABA(batch_size=2), 2), (AmIGO(batch_size=2), 6)):
        p = imaging(0.3)
        assert algorithm.init(p, p.theta).evaluation.samples == count


def close(p: bl.BilevelProblem, theta: bl.Theta, accuracy: float = 1e-10) -> Iterates:
    """x(θ) and -H⁻¹∇ℓ."""
    p.value_and_grad(theta, tol=accuracy)
    x = p.iterates(theta).x
    pull = p.loss.grad(x, p.samples.target)
    return Iterates(x, -cg(p.energy.at(p.samples.y, theta).hessian(x), pull, rtol=1e-12).x)


@pytest.mark.parametrize("steps", [10, 30])
def test_steps_of_x_and_v_contract_by_the_root_of_the_condition_number(steps: int) -> None:
    p, draw = imaging(0.05), Draw(torch.arange(6), torch.arange(6))
    exact = close(p, p.theta)
    cold = p.energy.start(p.samples.y)
    at = Iterates(cold.clone(), torch.zeros_like(cold))
    approach(p, p.theta, at, draw, steps, 1.0)
    root = float(p.lipschitz(p.theta)[0]) ** -0.5
    rate = 2 * root**-1 * (1 - root) ** (steps / 2)
    assert float((at.x - exact.x).norm()) <= rate * float((cold - exact.x).norm())
    assert float((at.v - exact.v).norm()) <= 2 * rate * float(exact.v.norm())
    assert p.cost.hvps > 0


def test_the_lag_of_x_is_what_the_loss_still_changes_by() -> None:
    p, draw = imaging(0.1), Draw(torch.arange(6), torch.arange(6))
    exact = close(p, p.theta)
    assert lag(p, p.theta, exact, p.directions(p.theta, exact, draw)) < 1e-6
    g = torch.Generator().manual_seed(0)
    moved = exact.x + 1e-4 * torch.randn(exact.x.shape, generator=g, dtype=DOUBLE)
    pull = p.loss.grad(moved, p.samples.target)
    v = -cg(p.energy.at(p.samples.y, p.theta).hessian(moved), pull, rtol=1e-12).x
    at = Iterates(moved, v)
    found = lag(p, p.theta, at, p.directions(p.theta, at, draw))
    before, after = (p.loss.value(x, p.samples.target) for x in (moved, exact.x))
    assert found == pytest.approx(float((before - after).abs().mean() / before.mean()), rel=0.05)
    cold = Iterates(exact.x, torch.zeros_like(exact.x))
    assert lag(p, p.theta, cold, p.directions(p.theta, cold, draw)) == pytest.approx(1.0)


def test_batches_of_both_levels_average_to_all_samples() -> None:
    pairing = Pairing.of((24, 20), size=7, seed=3)
    rounds = math.lcm(pairing.lower.batches, pairing.upper.batches)
    draws = [pairing.draw(t) for t in range(rounds)]
    for side, count in (("inner", 24), ("outer", 20)):
        seen = torch.cat([getattr(draw, side) for draw in draws])
        assert len(set(torch.bincount(seen, minlength=count).tolist())) == 1


def test_the_memory_of_saba_has_a_row_a_batch_of_each_level() -> None:
    """Not one a pair: 23 and 19 would have 437."""
    p = Quadratic.random(0, n=23, m=19).problem()
    memory = SABA().init(p, p.theta).memory
    assert isinstance(memory, Tables)
    assert [len(table.last["w"]) for table in memory.levels] == [23, 19]
    assert p.cost.hvps < 23 * 20


@pytest.mark.parametrize("separable", [False, True], ids=["shared", "images"])
def test_the_means_in_the_memory_of_saba_are_those_of_all_samples(separable: bool) -> None:
    """After iterations at a θ, an x and a v that do not move."""
    p = imaging(0.2) if separable else Quadratic.random(0).problem()
    algorithm = SABA(2, inner_step=1e-12, inner_steps=1, outer_step=1e-12, iterations=30)
    p.value_and_grad(p.theta, tol=1e-3)
    state = algorithm.step(p, algorithm.init(p, p.theta))
    assert isinstance(state.memory, Tables)
    whole = everything(algorithm, p, Now(p.theta, state.at, 0, None, 0.0)).theta
    for name, value in whole.items():
        mean = sum(table.mean[name] for table in state.memory.levels)
        assert torch.allclose(torch.as_tensor(mean), value, rtol=1e-6, atol=1e-9)


class Watched(bl.Variational):
    """Notes how many samples its constants were asked for."""

    def bounds(self, y: torch.Tensor) -> bl.model.Bounds:
        asked.append(len(y))
        return super().bounds(y)


asked: list[int] = []


@pytest.mark.parametrize("name", ["SABA", "AmIGO"])
def test_constants_are_computed_for_the_samples_drawn_alone(name: str) -> None:
    """A few times each, not all of them in each of six iterations."""
    p = imaging(0.2)
    p.energy.__class__ = Watched
    algorithm = replace(IMAGING[name], batch_size=1)
    state = algorithm.init(p, p.theta)
    asked.clear()
    algorithm.step(p, state)
    assert sum(asked) <= 3 * len(p)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SOBA(batch_size=0), "batch_size must be at least 1"),
        (lambda: SOBA(iterations=0), "iterations must be at least 1"),
        (lambda: SABA(inner_step=-1.0), "inner_step must be a positive"),
        (lambda: SABA(outer_step=math.nan), "outer_step must be a positive"),
        (lambda: SABA(decay=-0.1), "decay must be"),
        (lambda: SRBA(precondition="adm"), "did you mean 'adam'"),
        (lambda: SRBA(period=0), "period must be at least 1"),
        (lambda: MASOBA(average=1.5), r"average must lie in \(0, 1\]"),
        (lambda: AmIGO(inner_steps=0), "inner_steps must be at least 1"),
        (lambda: SABA(inner_steps=0), "inner_steps must be at least 1"),
        (lambda: fitted_to(SABA(inner_steps=2)), "inner_steps must be 1 where samples share x"),
        (lambda: fitted_to(SOBA(batch_size=25)), "batch_size must be at most"),
        (lambda: rough(SOBA()), "Lipschitz|smooth"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def fitted_to(algorithm: SingleLoop) -> bl.Fit:
    return bl.learn(Quadratic.random(0).problem(), algorithm, budget=bl.Budget(steps=1))


def rough(algorithm: SingleLoop) -> bl.Fit:
    """Exact total variation has no gradient."""
    pairs = imaging(0.1).samples
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.ExactTotalVariation(0.1))
    p = bl.BilevelProblem(energy.double(), bl.losses.SquaredError(), pairs)
    return bl.learn(p, algorithm, budget=bl.Budget(steps=1))


def test_maid_agrees(best: float) -> None:
    fit = bl.learn(imaging(0.1), MAID(accelerated=True), budget=bl.Budget(steps=40))
    assert abs(float(fit.theta[NAME]) - best) <= 0.02

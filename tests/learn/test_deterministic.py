"""HOAG, torch's optimisers, DFO-LS: where they arrive, how fast, and that unrelated ones agree."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.learn import Algorithm, Status
from bilevel.learn.algorithms import DFOLS, HOAG, LBFGS, MAID, TorchOptimiser
from bilevel.learn.checkpoint import read_state, write_state
from bilevel.learn.schedules import Constant, Geometric, Polynomial, Schedule
from contracts.quadratics import DOUBLE, Quadratic
from contracts.sources import problem_and_solution

AGREEING = {
    "MAID": MAID(accelerated=True, tol=1e-5),
    "DFO-LS": DFOLS(last_radius=1e-4),
    "L-BFGS": LBFGS(accuracy=bl.Accuracy(first=1e-6), tol=1e-5),
    "HOAG": HOAG(Polynomial(3), tol=1e-5),
}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", AGREEING)
def test_unrelated_algorithms_agree(name: str, count: int) -> None:
    problem, solution = problem_and_solution(count)
    fit = bl.learn(problem, AGREEING[name], budget=bl.Budget(steps=100))
    assert float(solution.abs().max()) > 0.1
    assert float((fit.theta["strength"] - solution).abs().max()) <= 1e-3


def errors(algorithm: Algorithm, quadratic: Quadratic, steps: int) -> list[float]:
    """Distances of the iterates to the solution."""
    problem, solution = quadratic.problem(), quadratic.solution()
    state = algorithm.init(problem, problem.theta)
    found = [state.evaluation.theta["w"]]
    for _ in range(steps):
        if state.status is not Status.RUNNING:
            break
        state = algorithm.step(problem, state)
        found.append(state.evaluation.theta["w"])
    return [float((w - solution).norm()) for w in found]


TIGHT = LBFGS(accuracy=bl.Accuracy(1e-10, 1e-11), tol=1e-10)


@pytest.mark.parametrize("seed", [0, 3, 7])
def test_lbfgs_is_superlinear(seed: int) -> None:
    found = errors(TIGHT, Quadratic.random(seed, d=14, p=10), 40)
    there = next(k for k, e in enumerate(found) if e <= 1e-7 * found[0])
    ratios = [after / before for before, after in itertools.pairwise(found[: there + 1])]
    assert math.prod(ratios[-5:]) <= 0.5 * math.prod(ratios[:5])


@pytest.mark.parametrize("seed", [0, 3, 7])
def test_few_parameters_of_a_quadratic_take_three_steps(seed: int) -> None:
    found = errors(TIGHT, Quadratic.random(seed), 3)
    assert found[-1] <= 1e-8 * found[0]


@pytest.mark.parametrize("schedule", [Polynomial(2), Polynomial(3), Geometric(0.9)], ids=repr)
@pytest.mark.parametrize("seed", [0, 7])
def test_hoag_converges_with_the_schedules_of_its_paper(schedule: Schedule, seed: int) -> None:
    found = errors(HOAG(schedule, tol=1e-6), Quadratic.random(seed), 50)
    assert max(found[-5:]) <= 1e-2 * found[0]


def test_hoag_as_published_creeps_away_from_the_minimum_and_guarded_does_not() -> None:
    quadratic = Quadratic.random(7)
    raw, guarded = (errors(HOAG(tol=1e-6, guarded=g), quadratic, 45) for g in (False, True))
    assert max(raw[30:]) >= 10 * max(guarded[30:])


def test_hoag_takes_back_what_makes_the_loss_grow() -> None:
    quadratic = Quadratic.random(0)
    problem = quadratic.problem(torch.ones(3, dtype=DOUBLE))
    algorithm = HOAG(step_size=50.0, longest=10.0)
    state = algorithm.init(problem, problem.theta)
    after = algorithm.step(problem, state)
    assert not after.accepted
    assert torch.equal(after.evaluation.theta["w"], state.evaluation.theta["w"])
    assert after.evaluation.accuracy < state.evaluation.accuracy / 2
    assert after.step < state.step / 2


@pytest.mark.parametrize(
    ("name", "options"),
    [("SGD", {"momentum": 0.9, "nesterov": True}), ("Adam", {}), ("AdamW", {"amsgrad": True})],
)
def test_torch_optimisers_step_as_they_do_in_torch(name: str, options: dict[str, object]) -> None:
    quadratic = Quadratic.random(1)
    problem = quadratic.problem()
    algorithm = TorchOptimiser(name, lr=0.05, options=options, schedule=Constant(1e-10), tol=1e-9)
    fit = bl.learn(problem, algorithm, budget=bl.Budget(steps=10))
    w = torch.zeros(3, dtype=DOUBLE, requires_grad=True)
    reference = getattr(torch.optim, name)([w], lr=0.05, **options)
    for _ in range(10):
        w.grad = quadratic.gradient(w.detach())
        reference.step()
    assert torch.allclose(fit.theta["w"], w.detach(), atol=1e-7)


CONTINUED = {
    "SGD": TorchOptimiser("SGD", lr=0.1, options={"momentum": 0.9}, tol=1e-9),
    "Adam": TorchOptimiser(tol=1e-9),
    "NAdam": TorchOptimiser("NAdam", tol=1e-9),
    "Rprop": TorchOptimiser("Rprop", tol=1e-9),
    "Adagrad": TorchOptimiser("Adagrad", tol=1e-9),
    "HOAG": HOAG(tol=1e-9),
    "DFO-LS": DFOLS(last_radius=1e-9),
}


@pytest.mark.parametrize("name", CONTINUED)
def test_steps_in_two_parts_equal_those_at_once(name: str, tmp_path: Path) -> None:
    algorithm = CONTINUED[name]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = bl.learn(problem_and_solution(3)[0], algorithm, budget=bl.Budget(steps=3))
    half = bl.learn(problem_and_solution(3)[0], algorithm, budget=bl.Budget(steps=1))
    write_state(tmp_path, half.snapshot)
    again = replace(half, snapshot=read_state(tmp_path))
    rest = bl.learn(problem_and_solution(3)[0], algorithm, budget=bl.Budget(steps=2), resume=again)
    torch.set_num_threads(threads)
    assert torch.equal(rest.theta["strength"], whole.theta["strength"])
    assert [r.value for r in rest.history] == [r.value for r in whole.history]


def test_projection_after_every_step() -> None:
    images = bl.data.shepp_logan(8)
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(0.01))
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    fit = bl.learn(problem, TorchOptimiser("SGD", lr=1e9), budget=bl.Budget(steps=1))
    moved = fit.theta
    assert all(torch.equal(v, moved[k]) for k, v in problem.space.project(moved).items())
    assert float(next(iter(moved.values()))) != pytest.approx(float(problem.theta.popitem()[1]))


def test_dfo_ls_is_as_accurate_as_its_radius_and_proves_no_gradient() -> None:
    fit = bl.learn(problem_and_solution(3)[0], DFOLS(), budget=bl.Budget(steps=20))
    assert fit.status is Status.RESOLVED
    asked = [r.accuracy for r in fit.history]
    radii = [r.step_size for r in fit.history]
    for k in (1, 2):
        assert asked[k] == pytest.approx(asked[0] * (radii[k] / 0.5) ** 2)
    assert fit.history[-1].certificate <= asked[-1]
    assert all(r.gradient_norm != r.gradient_norm for r in fit.history)


def test_dfo_ls_refuses_negative_losses() -> None:
    problem = problem_and_solution(1)[0]
    psnr = bl.BilevelProblem(problem.energy, bl.losses.PSNR(), problem.samples)
    assert bool((psnr.look(psnr.theta, tol=1e-3)[1] < 0).any())
    with pytest.raises(InputError, match="not negative"):
        bl.learn(psnr, DFOLS(), budget=bl.Budget(steps=1))


def test_dfo_ls_takes_shared_problems() -> None:
    """Their whole loss is one residual."""
    quadratic = Quadratic.random(0, p=1)
    flat = replace(quadratic, c=quadratic.c + 2 * torch.eye(6, dtype=DOUBLE))
    fit = bl.learn(flat.problem(), DFOLS(last_radius=1e-2), budget=bl.Budget(steps=5))
    assert fit.status is Status.RESOLVED
    assert float((fit.theta["w"] - flat.solution()).abs().max()) <= 0.02


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HOAG(shrink=1.5), "HOAG needs"),
        (lambda: HOAG(reject=0.9), "HOAG needs"),
        (lambda: HOAG(step_size=0.0), "step_size"),
        (lambda: HOAG(tol=-1.0), "tol"),
        (lambda: TorchOptimiser("Adm"), "did you mean 'Adam'"),
        (lambda: TorchOptimiser(lr=0.0), "lr"),
        (lambda: TorchOptimiser(options={"mometum": 0.9}), "mometum"),
        (lambda: TorchOptimiser("SGD", options={"momentum": -1.0}), "momentum"),
        (lambda: TorchOptimiser("LBFGS"), "without a closure"),
        (lambda: DFOLS(shrink=1.0), "DFOLS needs"),
        (lambda: DFOLS(radius=1e-4), "DFOLS needs"),
        (lambda: DFOLS(accuracy=bl.Accuracy(floor=0.0)), "floor"),
    ],
)
def test_bad_options_are_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()

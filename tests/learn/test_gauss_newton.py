"""Derivatives of x by θ against closed forms and differences; Gauss-Newton where it is Newton."""

from __future__ import annotations

import pytest
import torch

import bilevel as bl
from bilevel.differentiate.tangents import tangents
from bilevel.ground.errors import InputError
from bilevel.learn import Status
from bilevel.learn.algorithms import GaussNewton
from bilevel.model.sets import Box, Product
from contracts.quadratics import Quadratic
from contracts.sources import problem_and_solution, smoothed


@pytest.mark.parametrize("count", [1, 3])
def test_curvature_of_sources_is_that_of_the_closed_form(count: int) -> None:
    problem, _ = problem_and_solution(count)
    change = smoothed(problem.energy.sources).flatten(1)
    found = problem.gauss_newton(problem.theta, tol=1e-8)
    assert torch.allclose(found, 2 / 36 * change @ change.T, rtol=1e-5, atol=1e-9)


def total_variation(*learn: str) -> bl.BilevelProblem:
    images = bl.data.shepp_logan(12).double().repeat(2, 1, 1, 1)
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    terms = bl.regularisers.TotalVariation(0.05, 0.05, learn=learn) + bl.regularisers.Tikhonov(0.02)
    energy = bl.Variational(bl.fidelities.SquaredL2(), terms).double()
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


def test_tangents_are_differences_of_reconstructions() -> None:
    problem = total_variation("weight", "smoothing")
    theta, y = problem.theta, problem.samples.y

    def x(at: bl.Theta) -> torch.Tensor:
        objective = problem.energy.at(y, at)
        goal = bl.Tolerance(rms=1e-10)
        return bl.minimise(objective, bl.solvers.LBFGS(), tol=goal, max_steps=2000).require().x

    found = tangents(problem.energy.at(y, theta), x(theta), rtol=1e-9)
    assert len(found) == len(theta) == 3
    for slope, (name, value) in zip(found, theta.items(), strict=True):
        ahead, back = (x({**theta, name: value + s}) for s in (1e-4, -1e-4))
        wanted = (ahead - back) / 2e-4
        assert float((slope - wanted).norm()) <= 1e-4 * float(wanted.norm())


def test_curvature_is_that_of_the_loss_where_targets_are_met() -> None:
    """There G is the whole Hessian, whatever x(θ) is."""
    problem = total_variation("weight")
    theta = problem.theta
    problem.value(theta, tol=1e-10)
    met = bl.data.Pairs(problem.samples.y, problem.level.x.whole(), problem.samples.ids)
    problem = bl.BilevelProblem(problem.energy, problem.loss, met)
    found = problem.gauss_newton(theta, tol=1e-10)
    step = 1e-4
    for j, (name, value) in enumerate(theta.items()):
        ends = [
            problem.value_and_grad({**theta, name: value + s}, tol=1e-10) for s in (step, -step)
        ]
        change = {k: (ends[0].grad[k] - ends[1].grad[k]) / (2 * step) for k in theta}
        wanted = torch.stack([v.double() for v in change.values()])
        assert torch.allclose(found[j], wanted, rtol=1e-3, atol=1e-3 * float(found.abs().max()))


@pytest.mark.parametrize("count", [1, 3])
def test_a_loss_that_is_quadratic_takes_a_few_steps(count: int) -> None:
    problem, solution = problem_and_solution(count)
    algorithm = GaussNewton(damping=1e-4, accuracy=bl.Accuracy(first=1e-7), tol=1e-6)
    fit = bl.learn(problem, algorithm, budget=bl.Budget(steps=4))
    assert float((fit.theta["strength"] - solution).norm()) <= 1e-5


def test_shared_problems_are_solved_by_damping() -> None:
    """Their loss bends by θ itself, which G does not know."""
    quadratic = Quadratic.random(0)
    fit = bl.learn(quadratic.problem(), GaussNewton(tol=1e-5), budget=bl.Budget(steps=60))
    assert float((fit.theta["w"] - quadratic.solution()).norm()) <= 1e-4


def test_optimal_at_the_edge_of_the_set() -> None:
    """Entries at the edge are pushed outwards, the slopes of the others vanish."""
    problem, solution = problem_and_solution(3)
    edge = float(solution[0]) / 2
    problem.space = Product({"strength": Box(-10.0, edge)})
    fit = bl.learn(problem, GaussNewton(tol=1e-6), budget=bl.Budget(steps=30))
    found = fit.theta["strength"]
    slope = problem.value_and_grad(fit.theta, tol=1e-8).grad["strength"]
    assert float(found[0]) == edge
    assert float(slope[0]) < -1e-2
    assert float(slope[1:].abs().max()) <= 1e-5


def test_energies_without_second_derivatives_are_refused() -> None:
    exact = bl.regularisers.ExactTotalVariation(0.05)
    energy = bl.Variational(bl.fidelities.SquaredL2(), exact)
    pairs = bl.data.Pairs(torch.rand(1, 1, 6, 6), torch.rand(1, 1, 6, 6), ("a",))
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    with pytest.raises(InputError, match="smooth energy"):
        bl.learn(problem, GaussNewton(), budget=bl.Budget(steps=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"tighten": 1.0}, "tighten"), ({"damping": 0.0}, "damping"), ({"tol": -1.0}, "tol")],
)
def test_bad_options_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GaussNewton(**options)


def test_it_ends_by_itself() -> None:
    fit = bl.learn(problem_and_solution(3)[0], GaussNewton(), budget=bl.Budget(steps=50))
    assert fit.status in (Status.CONVERGED, Status.STATIONARY)

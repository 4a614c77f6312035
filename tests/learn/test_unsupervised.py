"""Learning from data alone: values and gradients of every criterion, and what it is good for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.differentiate import EquilibriumPropagation
from bilevel.ground import theta as algebra
from bilevel.learn import Status

SIGMA, PEAK, BACKGROUND = 0.1, 40.0, 0.3
GAUSS = {
    "SURE": bl.criteria.SURE(SIGMA),
    "SURE of a level each": bl.criteria.SURE(torch.tensor([0.1, 0.2]), probes=2),
    "GSURE": bl.criteria.GSURE(SIGMA, probes=2),
    "whiteness": bl.criteria.Whiteness(),
    "whiteness in patches": bl.criteria.Whiteness(patch=4),
    "hold-out": bl.criteria.HoldOut(0.2),
}
COUNTS = {
    "PURE": bl.criteria.PURE(PEAK),
    "whiteness of counts": bl.criteria.Whiteness(),
    "hold-out of counts": bl.criteria.HoldOut(0.2),
}


def blur() -> bl.operators.Operator:
    return bl.operators.Convolution(torch.tensor([[0.1, 0.5, 0.2]]), "reflecting")


def energy_for(name: str, weight: float | Tensor = 0.1) -> bl.Variational:
    tv = bl.regularisers.TotalVariation(weight, 0.1)
    if name in COUNTS:
        fidelity = bl.fidelities.KullbackLeibler(blur(), BACKGROUND)
    else:
        fidelity = bl.fidelities.SquaredL2(blur())
    return bl.Variational(fidelity, tv + bl.regularisers.Tikhonov(0.05)).double()


def data_for(name: str, size: int = 8) -> bl.data.Pairs:
    images = bl.data.embedded_images(size)[:2].double()
    noise = (
        bl.data.PoissonNoise(PEAK, BACKGROUND) if name in COUNTS else bl.data.GaussianNoise(SIGMA)
    )
    return bl.data.simulate(images, blur().double(), noise)


def problem_for(name: str, **options: float) -> bl.UnsupervisedProblem:
    weight = torch.linspace(0.05, 0.2, 64).view(8, 8)
    criterion = {**GAUSS, **COUNTS}[name]
    return bl.UnsupervisedProblem(energy_for(name, weight), data_for(name).y, criterion, **options)


@pytest.mark.parametrize("name", [*GAUSS, *COUNTS])
def test_gradients_are_those_of_the_criterion(name: str) -> None:
    """Of a map of weights, the smoothing and a ridge, along random directions."""
    problem = problem_for(name, roughness=0.1)
    found = problem.value_and_grad(problem.theta, tol=1e-9)
    assert found.value == pytest.approx(problem.value(problem.theta, tol=1e-9), rel=1e-6)
    step, torch_random = 1e-3, torch.Generator().manual_seed(0)
    for _ in range(2):
        way = {
            key: torch.randn(value.shape, generator=torch_random, dtype=value.dtype)
            for key, value in problem.theta.items()
        }
        ends = [
            problem.value(algebra.add(problem.theta, way, sign * step), tol=1e-9)
            for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / (2 * step)
        size = algebra.norm(found.grad) * algebra.norm(way)
        assert abs(algebra.inner(found.grad, way) - slope) < 1e-4 * size
        assert abs(slope) > 1e-4 * size


def solved(energy: bl.Variational, y: Tensor) -> Tensor:
    objective = energy.at(y)
    return bl.minimise(objective, bl.solvers.LBFGS(), tol=bl.Tolerance(rms=1e-10)).require().x


def test_sure_is_the_mean_of_its_definition() -> None:
    energy, y, a = energy_for("SURE"), data_for("SURE").y, blur().double()
    problem = bl.UnsupervisedProblem(energy, y, bl.criteria.SURE(SIGMA, seed=3))
    signs = (problem.y[2:] - y).sign()
    s = 2 * SIGMA / 64**0.3
    torch.testing.assert_close(problem.y[2:], y + s * signs)
    here, there = a(solved(energy, y)), a(solved(energy, y + s * signs))
    divergence = (signs * (there - here)).mean((1, 2, 3)) / s
    expected = (here - y).square().mean((1, 2, 3)) + 2 * SIGMA**2 * divergence - SIGMA**2
    assert problem.value(problem.theta, tol=1e-10) == pytest.approx(
        float(expected.mean()), rel=1e-6
    )


def test_sure_and_pure_are_unbiased_for_the_prediction_error() -> None:
    truth = bl.data.embedded_images(8)[:1].double().expand(300, -1, -1, -1)
    peak = 200.0  # PURE is unbiased to first order in 1/peak
    for name, criterion, noise in (
        ("SURE", bl.criteria.SURE(SIGMA), bl.data.GaussianNoise(SIGMA)),
        ("PURE", bl.criteria.PURE(peak), bl.data.PoissonNoise(peak, BACKGROUND)),
    ):
        energy, a = energy_for(name, 0.05), blur().double()
        y = bl.data.simulate(truth, a, noise).y
        problem = bl.UnsupervisedProblem(energy, y, criterion, chunk=600)
        values = problem.values(problem.theta, tol=1e-5).view(2, 300).mean(0)
        x = bl.minimise(energy.at(y), bl.solvers.LBFGS(), tol=bl.Tolerance(rms=1e-5)).x
        gap = values - (a(x) - a(truth)).square().mean((1, 2, 3))
        assert abs(float(gap.mean())) < 3 * float(gap.std()) / 300**0.5, name


def test_hold_out_hands_on_the_energy_that_sees_all_data() -> None:
    energy, y = energy_for("hold-out"), data_for("hold-out").y
    problem = bl.UnsupervisedProblem(energy, y, bl.criteria.HoldOut(0.2))
    fit = bl.learn(problem, budget=bl.Budget(steps=1))
    found = fit.reconstruct(y, bl.Tolerance(rms=1e-8)).x
    exact = bl.minimise(energy.at(y, fit.theta), bl.solvers.LBFGS(), tol=bl.Tolerance(rms=1e-8)).x
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-6)


def test_hold_out_judges_by_data_it_does_not_see() -> None:
    problem = problem_for("hold-out")
    y = problem.y.clone()
    held = y[0] == 0
    assert 4 < int(held.sum()) < 24
    other = data_for("hold-out").y
    other[:, held] += 1.0
    moved = bl.UnsupervisedProblem(
        energy_for("hold-out", torch.linspace(0.05, 0.2, 64).view(8, 8)), other, GAUSS["hold-out"]
    )
    torch.testing.assert_close(moved.y, y)
    difference = moved.value(moved.theta, tol=1e-9) - problem.value(problem.theta, tol=1e-9)
    assert abs(difference) > 0.1


@pytest.mark.parametrize(
    "algorithm",
    [
        bl.algorithms.LBFGS(),
        bl.algorithms.MAID(),
        bl.algorithms.SOBA(),
        bl.algorithms.F2SA(),
    ],
    ids=lambda algorithm: type(algorithm).__name__,
)
def test_algorithms_take_a_criterion_as_they_take_targets(
    algorithm: bl.learn.Algorithm,  # pyright: ignore
) -> None:
    problem = bl.UnsupervisedProblem(
        energy_for("SURE", 0.01), data_for("SURE", 16).y, GAUSS["SURE"]
    )
    fit = bl.learn(problem, algorithm, budget=bl.Budget(steps=8))
    end = problem.value(fit.theta, tol=1e-6)
    assert end < problem.value(problem.theta, tol=1e-6)


def test_other_hypergradients_agree() -> None:
    problem = problem_for("SURE")
    nudged = problem_for("SURE", hypergradient=EquilibriumPropagation(1e-6))
    grads = [p.value_and_grad(p.theta, tol=1e-10).grad for p in (problem, nudged)]
    assert algebra.norm(algebra.add(*grads, -1.0)) < 1e-2 * algebra.norm(grads[0])


def psnr_of(energy: bl.Variational, theta: bl.Theta, pairs: bl.data.Pairs) -> float:
    solution = bl.minimise(
        energy.at(pairs.y, theta), bl.solvers.LBFGS(), tol=bl.Tolerance(rms=1e-4)
    )
    return -10 * float((solution.x - pairs.target).square().mean().log10())


def half_texture() -> bl.data.Pairs:
    """A flat half with a square on it, and grass."""
    image = bl.data.embedded_images(48)[6:7].double()
    image[..., :24] = 0.4
    image[..., 6:16, 6:16] = 0.8
    return bl.data.simulate(image, bl.operators.Identity(), bl.data.GaussianNoise(SIGMA))


def weighted(weight: float | Tensor) -> bl.Variational:
    tv = bl.regularisers.TotalVariation(weight, 0.01, learn=("weight",))
    return bl.Variational(bl.fidelities.SquaredL2(), tv).double()


def test_a_map_learned_from_one_noisy_image_gains_over_one_weight() -> None:
    pairs, criterion = half_texture(), bl.criteria.SURE(SIGMA)
    one = weighted(0.05)
    fit = bl.learn(bl.UnsupervisedProblem(one, pairs.y, criterion), budget=bl.Budget(steps=15))
    best = float(fit.theta["regulariser.log_weight"].exp())
    many = weighted(torch.full((48, 48), best))
    problem = bl.UnsupervisedProblem(many, pairs.y, criterion, roughness=0.1)
    found = bl.learn(problem, budget=bl.Budget(steps=30))
    learned = found.theta["regulariser.log_weight"]
    assert float(learned[:, :24].mean()) > float(learned[:, 24:].mean()) + 0.1
    assert psnr_of(many, found.theta, pairs) > psnr_of(one, fit.theta, pairs) + 0.1


def test_whiteness_stops_a_map_before_it_fits_the_noise() -> None:
    pairs, energy = half_texture(), weighted(torch.full((48, 48), 0.12))
    fits = [
        bl.learn(
            bl.UnsupervisedProblem(energy, pairs.y, bl.criteria.Whiteness(stop)),
            budget=bl.Budget(steps=8),
        )
        for stop in (2.0, None)
    ]
    assert fits[0].status is Status.REACHED
    assert fits[0].history[-1].value <= 2.0 < fits[0].history[-2].value
    assert len(fits[1].history) > len(fits[0].history)
    stopped, finished = (psnr_of(energy, fit.theta, pairs) for fit in fits)
    assert stopped > finished + 0.3


def test_a_second_noisy_image_serves_as_a_target() -> None:
    """Noise2Noise: its loss is that of the truth and a constant that θ does not change."""
    truth = bl.data.embedded_images(24)[:4].double().repeat(8, 1, 1, 1)
    identity, noise = bl.operators.Identity(), bl.data.GaussianNoise(SIGMA)
    y, other = (bl.data.simulate(truth, identity, noise, seed=seed).y for seed in (0, 1))
    ids = tuple(str(k) for k in range(32))
    problems = [
        bl.BilevelProblem(weighted(0.05), bl.losses.SquaredError(), bl.data.Pairs(y, x, ids))
        for x in (truth, other)
    ]
    budget = bl.Budget(steps=6)
    weights = [bl.learn(p, budget=budget).theta["regulariser.log_weight"] for p in problems]
    assert float((weights[0] - weights[1]).abs()) < 0.1


def test_what_does_not_fit_is_refused_in_words() -> None:
    y = data_for("SURE").y
    with pytest.raises(bl.InputError, match="the fidelity SquaredL2, but got KullbackLeibler"):
        bl.UnsupervisedProblem(energy_for("PURE"), y.abs(), bl.criteria.SURE(SIGMA))
    with pytest.raises(bl.InputError, match="the fidelity KullbackLeibler, but got SquaredL2"):
        bl.UnsupervisedProblem(energy_for("SURE"), y, bl.criteria.PURE(PEAK))
    with pytest.raises(bl.InputError, match="sigma must be positive"):
        bl.UnsupervisedProblem(energy_for("SURE"), y, bl.criteria.SURE(-1.0))
    with pytest.raises(bl.InputError, match="at least one probe"):
        bl.criteria.SURE(SIGMA, probes=0)
    with pytest.raises(bl.InputError, match=r"must lie in \(0, 1\)"):
        bl.criteria.HoldOut(1.0)
    with pytest.raises(bl.InputError, match="some data must be held out and some left"):
        bl.UnsupervisedProblem(energy_for("SURE"), y, bl.criteria.HoldOut(1e-9))
    with pytest.raises(bl.InputError, match="stop must be a positive"):
        bl.criteria.Whiteness(0.0)
    with pytest.raises(bl.InputError, match="roughness must be"):
        problem_for("SURE", roughness=-1.0)


def test_growth_is_judged_by_images_with_their_copies() -> None:
    """In chunks that hold a part of the rows: a row alone is no risk estimate."""
    problem = problem_for("SURE")
    problem.level.chunk = 2
    assert problem.few().tolist() == [0, 1, 2, 3]
    value = problem.value(problem.theta, tol=1e-6)
    fit = bl.learn(problem, bl.algorithms.SABA(), budget=bl.Budget(steps=8))
    assert fit.status is not Status.WORSE
    assert problem.value(fit.theta, tol=1e-6) < value


def test_single_loops_in_other_units_see_the_same_levels() -> None:
    scaled = bl.algorithms.Scaled(bl.algorithms.SABA(), {"regulariser": 0.5})
    problem = problem_for("SURE")
    value = problem.value(problem.theta, tol=1e-6)
    fit = bl.learn(problem, scaled, budget=bl.Budget(steps=8))
    assert problem.value(fit.theta, tol=1e-6) < value


def test_roughness_is_that_of_maps_alone() -> None:
    """A learned kernel has two dimensions too, and is no map."""
    blur = bl.operators.Convolution(torch.ones(3, 3) / 9, learn=("kernel",))
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(0.1, blur))
    y = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    problems = [
        bl.UnsupervisedProblem(energy, y, bl.criteria.SURE(0.1), roughness=rough)
        for rough in (0.0, 5.0)
    ]
    one, other = (p.value_and_grad(p.theta, tol=1e-4).value for p in problems)
    assert one == other


def test_gsure_of_an_operator_of_unknown_norm_is_refused() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x.roll(1, -1) - 0.5 * x

    def back(y: torch.Tensor) -> torch.Tensor:
        return y.roll(-1, -1) - 0.5 * y

    operator = bl.operators.Linear(forward, back, (1, 48, 48))
    energy = bl.Variational(bl.fidelities.SquaredL2(operator), bl.regularisers.TotalVariation(0.1))
    y = torch.rand(1, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    with pytest.raises(bl.InputError, match="bound of the norm"):
        bl.UnsupervisedProblem(energy, y, bl.criteria.GSURE(0.1))
    with pytest.raises(bl.InputError, match="bound of the norm"):
        bl.select(energy, y, bl.rules.GSURE(0.1))

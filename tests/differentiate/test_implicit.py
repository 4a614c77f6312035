"""Hypergradients against finite differences, and their bounds, on every operator x regulariser."""

from __future__ import annotations

import copy
import math

import pytest
import torch

import bilevel as bl
from bilevel.differentiate import Implicit, Upper, finite_differences
from bilevel.ground import theta as algebra
from bilevel.ground.errors import InputError
from bilevel.ground.theta import bind, learnable
from bilevel.solve import Solution, Tolerance, certify, minimise
from bilevel.solve.solution import Status
from bilevel.solve.solvers import Nesterov
from contracts.rows import rows
from contracts.zoo import OPERATORS, REGULARISERS, Case, make, reference

LOSS = bl.losses.SquaredError()
LOSSES = {"mse": LOSS, "psnr": bl.losses.PSNR(), "tv": bl.losses.HuberisedTV(0.02)}


def exact_solution(case: Case, theta: bl.Theta, near: torch.Tensor | None = None) -> torch.Tensor:
    energy = bind(case.energy, theta)
    if near is None:
        tol = Tolerance(rms=1e-6)
        near = minimise(energy.at(case.y), Nesterov(), tol=tol, max_steps=20_000).x
    return reference(energy, near, case.y)


def solution_at(case: Case, x: torch.Tensor) -> Solution:
    """Any point as a solution, with its honest certificate."""
    found = certify(case.energy.at(case.y), x)
    status = torch.full((len(x),), Status.CONVERGED)
    return Solution(x, found, status, torch.zeros_like(status), Tolerance(rms=1.0))


def away_from_kinks(operator: str, regulariser: str) -> tuple[Case, torch.Tensor]:
    """A piecewise constant Hessian must not change near x̂; others may have no kink at all."""
    for seed in range(21, 41):
        case = make(operator, regulariser, seed, torch.float64)
        x = exact_solution(case, learnable(case.energy))
        near = torch.tensor([1e-3], dtype=torch.float64)
        piecewise = "ridge" in regulariser or regulariser in ("foe huber", "tv anisotropic huber")
        change = case.energy.at(case.y).variation(x, torch.ones_like(x), near)
        if not piecewise or float(change.hessian) == 0:
            return case, x
    raise AssertionError("every draw has a feature near a kink")


SYSTEMS = {f"cg {name}": ("cg", name) for name in OPERATORS}
SYSTEMS["minres reflecting"] = "minres", "reflecting"


@pytest.mark.parametrize(
    ("system", "regulariser", "part"), rows(SYSTEMS, REGULARISERS, range(4), strength=1)
)
def test_agrees_with_central_differences(system: str, regulariser: str, part: int) -> None:
    """To 1e-6 of the gradient's norm in float64; one of four entries of each learnable parameter.

    Where a feature lies on a kink the map is not differentiable: the first draw without is taken.
    """
    linear, operator = SYSTEMS[system]
    case, x = away_from_kinks(operator, regulariser)
    theta = learnable(case.energy)
    hypergradient = Implicit(linear)
    found = hypergradient(
        case.energy.at(case.y), Upper(LOSS, case.target), solution_at(case, x), rtol=1e-12
    )

    def loss(trial: bl.Theta) -> float:
        return float(LOSS.value(exact_solution(case, trial, x), case.target))

    for name, entries in theta.items():
        gradient = found.grad[name].flatten()
        spread = range(0, entries.numel(), max(1, entries.numel() // 3))
        entry = spread[part % len(spread)]

        def along(step: bl.Theta, name: str = name, entry: int = entry) -> float:
            moved = theta[name].clone()  # noqa: PLR1733
            moved.view(-1)[entry] += step["s"][0]
            return loss({**theta, name: moved})

        zero = {"s": torch.zeros(1, dtype=torch.float64)}
        coarse, fine = (finite_differences(along, zero, step)["s"] for step in (2e-4, 1e-4))
        expected = (4 * fine - coarse) / 3
        assert abs(float(expected - gradient[entry])) <= 1e-6 * algebra.norm(found.grad)


@pytest.mark.parametrize(
    ("operator", "regulariser", "loss", "seed"),
    rows(OPERATORS, REGULARISERS, LOSSES, (40, 41), strength=1),
)
def test_bounds_hold_at_sloppy_accuracies(
    operator: str, regulariser: str, loss: str, seed: int
) -> None:
    """Gradient and value, at errors of x and residuals of q over six decades."""
    case = make(operator, regulariser, seed, torch.float64)
    exact = exact_solution(case, learnable(case.energy))
    lower, upper = case.energy.at(case.y), Upper(LOSSES[loss], case.target)
    truth = Implicit()(lower, upper, solution_at(case, exact), rtol=1e-13)
    size = float(LOSSES[loss].grad(exact, case.target).norm())
    for power in range(1, 7):
        x = exact + 10.0**-power * torch.randn_like(exact)
        for rtol in (0.3, 1e-3, None):
            found = Implicit()(lower, upper, solution_at(case, x), rtol=rtol)
            error = algebra.norm(algebra.add(found.grad, truth.grad, -1.0))
            assert math.isfinite(found.bound), "the zoo is strongly convex: a bound is claimed"
            assert error <= found.bound * (1 + 1e-9) + 1e-12 * max(1.0, size)
            off = (found.corrected - truth.value).abs()
            assert bool((off <= found.interval * (1 + 1e-9) + 1e-14 * max(1.0, size)).all())


@pytest.mark.parametrize("regulariser", ["tv charbonnier", "tv huber", "foe log-cosh"])
@pytest.mark.parametrize("operator", ["identity", "circular", "matrix", "fourier"])
def test_bounds_hold_in_float32(operator: str, regulariser: str) -> None:
    """Where rounding is most of the error; the truth is that of the same problem in float64."""
    for seed in range(3):
        case = make(operator, regulariser, 80 + seed, torch.float32)
        double = Case(copy.deepcopy(case.energy).double(), case.y.double(), case.target.double())
        exact = exact_solution(double, learnable(double.energy))
        truth = Implicit()(
            double.energy.at(double.y),
            Upper(LOSS, double.target),
            solution_at(double, exact),
            rtol=1e-13,
        )
        lower, upper = case.energy.at(case.y), Upper(LOSS, case.target)
        for tol in (1e-3, 1e-9):
            solution = minimise(lower, Nesterov(), tol=Tolerance(rms=tol))
            found = Implicit()(lower, upper, solution)
            assert bool(((found.corrected - truth.value).abs() <= found.interval).all())
            grad = {k: v.double() for k, v in found.grad.items()}
            assert algebra.norm(algebra.add(grad, truth.grad, -1.0)) <= found.bound


def test_estimate_is_within_a_factor_of_three_in_the_median() -> None:
    ratios = []
    for operator in OPERATORS:
        for regulariser in REGULARISERS:
            case = make(operator, regulariser, 60, torch.float64)
            exact = exact_solution(case, learnable(case.energy))
            lower, upper = case.energy.at(case.y), Upper(LOSS, case.target)
            truth = Implicit()(lower, upper, solution_at(case, exact), rtol=1e-13)
            for tol in (1e-2, 1e-3, 1e-4):
                solution = minimise(lower, Nesterov(), tol=Tolerance(rms=tol), check_every=1)
                found = Implicit()(lower, upper, solution, estimate=True)
                error = algebra.norm(algebra.add(found.grad, truth.grad, -1.0))
                if error > 1e-13:
                    ratios.append(found.estimate / error)
    spread = torch.tensor(ratios)
    assert len(ratios) > 200
    assert 1 / 3 <= float(spread.median()) <= 3
    assert float((spread.log().abs() <= math.log(3)).double().mean()) > 0.8


def test_corrected_value_is_second_order() -> None:
    case = make("circular", "tv charbonnier", 5, torch.float64)
    exact = exact_solution(case, learnable(case.energy))
    direction = torch.randn_like(exact)
    lower, upper = case.energy.at(case.y), Upper(LOSS, case.target)
    best = LOSS.value(exact, case.target)
    plain, corrected = [], []
    for step in (1e-2, 1e-3):
        found = Implicit()(lower, upper, solution_at(case, exact + step * direction), rtol=1e-10)
        plain.append(float((found.value - best).abs()))
        corrected.append(float((found.corrected - best).abs()))
    assert plain[0] / plain[1] < 30, "first order"
    assert corrected[0] / corrected[1] > 60, "second order"
    assert corrected[1] < 1e-2 * plain[1]


def test_mean_over_rows_and_units() -> None:
    case = make("identity", "tikhonov", 2, torch.float64, batch=4)
    lower, upper = case.energy.at(case.y), Upper(LOSS, case.target)
    solution = minimise(lower, Nesterov(), tol=Tolerance(rms=1e-9))
    together = Implicit()(lower, upper, solution, rtol=1e-12)
    rows = [
        Implicit()(
            case.energy.at(case.y[k : k + 1]),
            Upper(LOSS, case.target[k : k + 1]),
            solution_at(Case(case.energy, case.y[k : k + 1], case.target), solution.x[k : k + 1]),
            rtol=1e-12,
        )
        for k in range(4)
    ]
    for name, value in together.grad.items():
        mean = torch.stack([r.grad[name] for r in rows]).mean(0)
        torch.testing.assert_close(value, mean, rtol=1e-8, atol=1e-14)


def test_scalar_theta_and_hessian_multiple_of_the_identity() -> None:
    """Denoising with a ridge: H = (1 + w) I, and the derivative is known in closed form."""
    ridge = bl.regularisers.Tikhonov(0.5)
    energy = bl.Variational(bl.fidelities.SquaredL2(), ridge).double()
    target = torch.rand(1, 1, 5, 7, dtype=torch.float64)
    y = target + 0.1 * torch.randn_like(target)
    lower, upper = energy.at(y), Upper(LOSS, target)
    solution = minimise(lower, Nesterov(), tol=Tolerance(rms=1e-12))
    found = Implicit()(lower, upper, solution)
    x = y / 1.5
    expected = (2 * (x - target) * (-0.5 / 1.5) * x).mean()
    torch.testing.assert_close(found.grad["regulariser.log_weight"], expected, rtol=1e-6, atol=0)
    assert found.linear.steps.tolist() == [1]


def test_a_perfect_reconstruction_has_no_gradient() -> None:
    case = make("identity", "tikhonov", 2, torch.float64)
    exact = exact_solution(case, learnable(case.energy))
    found = Implicit()(case.energy.at(case.y), Upper(LOSS, exact), solution_at(case, exact))
    assert algebra.norm(found.grad) == 0
    assert found.linear.converged.all()


def test_indefinite_hessians_are_told_by_cg_and_solved_by_minres() -> None:
    foe = bl.regularisers.FieldsOfExperts(weight=5.0, smoothing=0.05, potential="student-t")
    energy = bl.Variational(bl.fidelities.SquaredL2(), foe).double()
    y = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    lower, upper = energy.at(y), Upper(LOSS, torch.zeros_like(y))
    case = Case(energy, y, y)
    at = solution_at(case, y)
    told = Implicit("cg")(lower, upper, at, rtol=1e-8)
    assert not told.linear.converged.any()
    assert told.unsolved.all()
    assert told.error.isinf().all()
    torch.testing.assert_close(told.corrected, told.value)
    solved = Implicit("minres")(lower, upper, at, rtol=1e-8)
    assert solved.linear.converged.all()
    assert solved.error.isinf().all(), "nothing is proved about a non-convex energy"


def test_unknown_options_and_wrong_targets_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'minres'"):
        Implicit("minress")
    case = make("identity", "tikhonov", 2, torch.float64)
    at = solution_at(case, case.y)
    for target in (case.target[..., 1:], case.target.float()):
        with pytest.raises(InputError, match="target"):
            Implicit()(case.energy.at(case.y), Upper(LOSS, target), at)


def test_targets_with_fewer_channels_than_the_image_are_refused() -> None:
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(0.1))
    lower, target = energy.at(torch.rand(1, 3, 8, 8)), torch.rand(1, 1, 8, 8)
    found = bl.minimise(lower, bl.solvers.Nesterov(), tol=bl.Tolerance(rms=1e-4))
    with pytest.raises(bl.InputError, match="shape of the reconstructions"):
        bl.hypergradients.Implicit()(lower, bl.Upper(bl.losses.SquaredError(), target), found)

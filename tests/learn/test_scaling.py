"""θ in other units: the same iterates as in good units, projections, bounds, scales measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.ground import theta as algebra
from bilevel.ground.errors import InputError
from bilevel.learn import Status
from bilevel.learn.algorithms import (
    BOME,
    HOAG,
    ISGD,
    LBFGS,
    MAID,
    SABA,
    GaussNewton,
    Grid,
    ProjectedGradient,
    Scaled,
    TorchOptimiser,
)
from bilevel.learn.sample import Sample
from bilevel.learn.scaling import ScaledProblem, curvature_scales
from bilevel.model import Bounds
from bilevel.model.sets import Ball, Box, Set
from contracts.quadratics import DOUBLE, Quadratic

UNIT = 64.0  # a power of two: scaling by it is exact


def split(quadratic: Quadratic, unit: float, sets: dict[str, Set] | None = None):
    """w = (a, b / unit): the minimiser of b lies ``unit`` times as far away."""

    def whole(theta: bl.Theta) -> bl.Theta:
        return {"w": torch.cat([theta["a"], theta["b"] / unit])}

    eigenvalues = torch.linalg.eigvalsh(quadratic.a.mean(0))
    return bl.SharedProblem(
        bl.FiniteSum(24, lambda x, theta, ids: quadratic.lower(x, whole(theta), ids)),
        bl.FiniteSum(20, lambda x, theta, ids: quadratic.upper(x, whole(theta), ids)),
        {"a": torch.zeros(1, dtype=DOUBLE), "b": torch.zeros(2, dtype=DOUBLE)},
        torch.zeros(6, dtype=DOUBLE),
        sets=sets,
        bounds=Bounds.of(eigenvalues[0], eigenvalues[-1]),
    )


ALGORITHMS = {
    "projected gradient": ProjectedGradient(accelerated=True),
    "HOAG": HOAG(),
    "L-BFGS": LBFGS(),
    "Adam": TorchOptimiser(),
    "SABA": SABA(batch_size=4),
    "BOME": BOME(batch_size=4),
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_iterates_are_those_in_good_units(name: str) -> None:
    quadratic, budget = Quadratic.random(2), bl.Budget(steps=4)
    good = bl.learn(split(quadratic, 1.0), ALGORITHMS[name], budget=budget)
    scaled = Scaled(ALGORITHMS[name], {"b": UNIT})
    bad = bl.learn(split(quadratic, UNIT), scaled, budget=budget)
    assert float(good.theta["b"].abs().max()) > 0
    torch.testing.assert_close(bad.theta["a"], good.theta["a"], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(bad.theta["b"], UNIT * good.theta["b"], rtol=1e-6, atol=1e-7)
    assert [r.value for r in bad.history] == pytest.approx([r.value for r in good.history])
    assert bad.status is good.status


def distance(fit: bl.Fit, quadratic: Quadratic) -> float:
    found = torch.cat([fit.theta["a"], fit.theta["b"] / UNIT])
    return float((found - quadratic.solution()).norm() / quadratic.solution().norm())


def test_far_fewer_steps_with_scales_and_measured_ones_do_as_well() -> None:
    quadratic, budget = Quadratic.random(2), bl.Budget(steps=25)
    gradient = ProjectedGradient(tol=1e-9)
    plain = bl.learn(split(quadratic, UNIT), gradient, budget=budget)
    scales = curvature_scales(split(quadratic, UNIT), tol=1e-6)
    assert 0.3 * UNIT < scales["b"] / scales["a"] < 3 * UNIT
    measured = bl.learn(split(quadratic, UNIT), Scaled(gradient, scales), budget=budget)
    assert distance(measured, quadratic) < 0.01
    assert distance(plain, quadratic) > 0.1


def test_maid_lands_though_its_errors_are_known_in_one_norm_only() -> None:
    quadratic = Quadratic.random(2)
    scaled = Scaled(MAID(accelerated=True, tol=1e-4), {"b": UNIT})
    fit = bl.learn(split(quadratic, UNIT), scaled, budget=bl.Budget(steps=40))
    assert fit.status in (Status.CONVERGED, Status.STATIONARY)
    assert distance(fit, quadratic) < 0.01


@pytest.mark.parametrize("convex", [Box(-1.0, 1.0), Ball(2.0)], ids=repr)
def test_projections_are_exact_and_the_solution_on_the_boundary_is_found(convex: Set) -> None:
    quadratic = Quadratic.random(2)
    sets = {"b": convex}
    p = split(quadratic, UNIT, sets)
    scaled = ScaledProblem(p, {"b": UNIT})
    far = {"a": torch.zeros(1, dtype=DOUBLE), "b": torch.tensor([30.0, -9.0], dtype=DOUBLE)}
    there = scaled.outward(scaled.space.project(scaled.inward(far)))
    torch.testing.assert_close(there["b"], convex.project(far["b"]))
    fit = bl.learn(p, Scaled(LBFGS(tol=1e-6), {"b": UNIT}), budget=bl.Budget(steps=40))
    exact = split(quadratic, UNIT, sets)
    step = bl.learn(
        exact, Scaled(ProjectedGradient(tol=1e-7), {"b": UNIT}), budget=bl.Budget(steps=40)
    )
    free = bl.learn(split(quadratic, UNIT), Scaled(LBFGS(), {"b": UNIT}), budget=bl.Budget(steps=9))
    assert float(free.theta["b"].norm()) > 4, "the set matters"
    torch.testing.assert_close(fit.theta["b"], step.theta["b"], rtol=0, atol=0.02)
    assert torch.equal(convex.project(fit.theta["b"]), fit.theta["b"])


def test_errors_hold_in_both_units() -> None:
    p = images()
    scaled = ScaledProblem(p, {"fidelity": 0.25, "regulariser": 4.0})
    theta = scaled.inward(p.theta)
    at = scaled.value_and_grad(theta, tol=1e-3, estimate=True)
    exact = ScaledProblem(images(), scaled.scales).value_and_grad(theta, tol=1e-11)
    assert 0 < algebra.norm(algebra.add(at.grad, exact.grad, -1.0)) <= at.error < float("inf")
    native, direct = scaled.native(at), images().value_and_grad(p.theta, tol=1e-3, estimate=True)
    assert native.error == pytest.approx(direct.error)
    assert native.estimate == pytest.approx(direct.estimate)
    torch.testing.assert_close(native.grad, direct.grad)
    torch.testing.assert_close(native.theta, p.theta)


def test_samples_and_second_derivatives_are_scaled_too() -> None:
    scaled = ScaledProblem(images(), {"regulariser": 4.0})
    theta, some = scaled.theta, torch.tensor([1, 3])
    part = Sample(scaled, some).value_and_grad(theta, tol=1e-9)
    ahead, behind = (
        Sample(scaled, some).look({**theta, NAME: theta[NAME] + s}, tol=1e-11)[0].value
        for s in (1e-4, -1e-4)
    )
    assert float(part.grad[NAME]) == pytest.approx((ahead - behind) / 2e-4, rel=1e-4)
    half = Sample(scaled, some).gauss_newton(theta, tol=1e-9)
    torch.testing.assert_close(
        half,
        torch.diag(scales := torch.tensor([1.0, 4.0], dtype=DOUBLE))
        @ images().gauss_newton(images().theta, tol=1e-9, ids=some)
        @ torch.diag(scales),
    )


NAME = "regulariser.log_weight"


def images() -> bl.BilevelProblem:
    clean = bl.data.embedded_images(size=12).double()[:4]
    pairs = bl.data.simulate(clean, bl.operators.Identity(), bl.data.GaussianNoise(0.1), seed=0)
    tv = bl.regularisers.TotalVariation(0.05, 0.05, learn=("weight",))
    energy = bl.Variational(bl.fidelities.SquaredL2(learn=("weight",)), tv)
    return bl.BilevelProblem(energy.double(), bl.losses.SquaredError(), pairs)


@pytest.mark.parametrize("algorithm", [GaussNewton(), ISGD(batch_size=2)], ids=repr)
def test_for_images_and_bit_for_bit_when_continued(
    algorithm: bl.learn.Algorithm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILEVEL_COMPILE", "never")
    scaled = Scaled(algorithm, {"regulariser": 3.0})
    whole = bl.learn(images(), scaled, budget=bl.Budget(steps=4))
    half = bl.load(bl.learn(images(), scaled, budget=bl.Budget(steps=2)).save(tmp_path))
    again = bl.learn(images(), scaled, budget=bl.Budget(steps=2), resume=half)
    assert again.theta == whole.theta
    assert [r.value for r in again.history] == [r.value for r in whole.history]
    assert whole.history[-1].value < whole.history[0].value
    assert f"{NAME} by 3" in whole.algorithm


def test_seconds_of_a_view_are_counted_once() -> None:
    p = images()
    with p.metered():
        view = ScaledProblem(p, {})
        view.value_and_grad(view.theta, tol=1e-6)
        between = p.cost.seconds
        view.value_and_grad(view.theta, tol=1e-6)
        assert p.cost.seconds > between > 0
    assert view.cost is p.cost


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ScaledProblem(images(), {"regulariser.log_wieght": 2.0}), "did you mean"),
        (lambda: ScaledProblem(images(), {"operator": 2.0}), "fidelity.log_weight, regularis"),
        (lambda: ScaledProblem(images(), {"regul": 2.0}), "not learned"),
        (lambda: ScaledProblem(images(), {"regulariser": 0.0}), "positive finite"),
        (lambda: Scaled(Grid({NAME: (-3.0, 0.0)}), {}), "change its box"),
        (lambda: curvature_scales(images(), tol=-1.0), "tol"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()

"""Composite and saddle objectives in the loop: FISTA, PDHG, rows, refusals, bad input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

import bilevel as bl
from bilevel.ground.errors import InputError, NotCertified
from bilevel.ground.randomness import generator
from bilevel.model import CompositeObjective, SaddleObjective, space_of
from bilevel.model.describe import build, describe
from bilevel.solve import certify
from contracts.zoo import OPERATORS, REGULARISERS, SHAPE, log_uniform, normal


def is_convex(name: str) -> bool:
    """Proved of all that are drawn here."""
    drawn = (REGULARISERS[name](generator(seed, name)) for seed in range(4))
    return all(float(part.bounds(SHAPE).mu) >= 0 for part in drawn)


CONVEX = [name for name in REGULARISERS if is_convex(name)]
Y = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TV, BOX = bl.regularisers.ExactTotalVariation, bl.regularisers.Box
SMOOTH_TV, RIDGE = bl.regularisers.TotalVariation, bl.regularisers.Tikhonov
L2, PDHG, FISTA = bl.fidelities.SquaredL2, bl.solvers.PDHG, bl.solvers.FISTA


def rough(weight: float = 0.1) -> bl.Variational:
    return bl.Variational(L2(), TV(weight)).double()


def boxed() -> bl.Variational:
    return bl.Variational(L2(), SMOOTH_TV(0.1, 0.05) + BOX(0.2, 0.7)).double()


def composite(regulariser: str, kind: str, seed: int) -> tuple[CompositeObjective, Tensor]:
    """A strongly convex problem with a box, an L1 penalty or an L1 distance to the data."""
    rng = generator(seed, regulariser, kind)
    names = list(OPERATORS)
    a = OPERATORS["identity" if kind == "data" else names[seed % len(names)]](rng)
    parts = REGULARISERS[regulariser](rng) + RIDGE(log_uniform(rng, -1, 0))
    fidelity = bl.fidelities.L1(a, 0.2) if kind == "data" else L2(a)
    if kind == "box":
        parts = parts + BOX(0.2, 0.6)
    if kind == "absolute":
        parts = parts + bl.regularisers.Sparsity(0.1)
    energy = bl.Variational(fidelity, parts).double()
    y = a.double()(torch.rand(1, *SHAPE, generator=rng).double())
    y = y + 0.1 * normal(rng, *y.shape).double()
    objective = energy.at(y)
    assert isinstance(objective, CompositeObjective)
    return objective, y


def reference(objective: CompositeObjective, kind: str, y: Tensor) -> Tensor:
    """By L-BFGS-B, where x = c + u - v with u, v >= 0 for an absolute value |x - c|."""
    f, n = objective.smooth, math.prod(SHAPE)
    centre = y.flatten().numpy() if kind == "data" else np.zeros(n)
    weight = {"box": 0.0, "absolute": 0.1, "data": 0.2}[kind]

    def fun(u: Any) -> tuple[float, Any]:
        x = u if kind == "box" else centre + u[:n] - u[n:]
        value, grad = f.value_and_grad(torch.from_numpy(x).reshape(1, *SHAPE))
        slope = grad.flatten().numpy()
        if kind != "box":
            slope = np.concatenate((slope, -slope)) + weight
        return float(value) + weight * u.sum() * (kind != "box"), slope

    size, limits = (n, (0.2, 0.6)) if kind == "box" else (2 * n, (0, None))
    options = {"maxiter": 20_000, "maxfun": 50_000, "ftol": 0, "gtol": 1e-12, "maxcor": 30}
    found = minimize(
        fun,
        np.full(size, 0.3),
        jac=True,
        method="L-BFGS-B",
        bounds=[limits] * size,
        options=options,
    ).x
    x = found if kind == "box" else centre + found[:n] - found[n:]
    return torch.from_numpy(x).reshape(1, *SHAPE)


@pytest.mark.parametrize("kind", ["box", "absolute", "data"])
@pytest.mark.parametrize("regulariser", CONVEX)
def test_fista_certifies_its_distance(regulariser: str, kind: str) -> None:
    objective, y = composite(regulariser, kind, 7 + len(regulariser))
    exact, solver = reference(objective, kind, y), FISTA()
    state = solver.init(objective, objective.start())
    for _ in range(40):
        state = solver.step(objective, state)
        found = certify(objective, state.x)
        true = float((state.x - exact).square().mean().sqrt())
        assert true <= float(found.rms) + 1e-6
        drop = float(objective.value(state.x) - objective.value(exact))
        assert drop <= float(found.gap) + 1e-10
    tight = bl.minimise(objective, solver, tol=bl.Tolerance(rms=1e-7), max_steps=50_000).require()
    assert float((tight.x - exact).square().mean().sqrt()) <= 1e-6


def test_the_composite_rule_bounds_the_least_subgradient() -> None:
    """v = L(x - x⁺) + ∇f(x⁺) - ∇f(x) is a subgradient at x⁺, so none less is longer."""
    objective, _ = composite("tv charbonnier", "box", 3)
    f, lipschitz = objective.smooth, objective.bounds.lipschitz
    x = objective.start()
    for _ in range(20):
        after = objective.proximable.prox(x - f.grad(x) / lipschitz, 1 / lipschitz)
        v = lipschitz * (x - after) + f.grad(after) - f.grad(x)
        assert float(objective.subgradient(after).norm()) <= float(v.norm()) * (1 + 1e-9)
        x = after


def test_fista_rate() -> None:
    """J(x_k) - J* <= (1 + √q)(1 - √q)^k (L/2)‖x_0 - x̂‖², Chambolle and Pock 2016."""
    objective, y = composite("tv charbonnier", "box", 5)
    exact, solver = reference(objective, "box", y), FISTA(restart=False)
    lowest, bounds = objective.value(exact), objective.bounds
    root = float((bounds.mu / bounds.lipschitz).sqrt())
    state = solver.init(objective, objective.start())
    far = float((state.x - exact).square().sum() * bounds.lipschitz / 2)
    for k in range(1, 100):
        state = solver.step(objective, state)
        gap = float(objective.value(state.x) - lowest)
        assert gap <= min((1 + root) * (1 - root) ** k, 4 / (k + 1) ** 2) * far + 1e-9


@pytest.mark.parametrize("relaxation", [1.0, 1.9])
@pytest.mark.parametrize("acceleration", [None, 0.0, 0.5, 1.0])
def test_every_setting_of_pdhg_reaches_the_minimiser(
    relaxation: float, acceleration: float | None
) -> None:
    tol = bl.Tolerance(rms=1e-3)
    solver = PDHG(relaxation, acceleration)
    found = bl.minimise(rough().at(Y), solver, tol=tol).require()
    exact = bl.minimise(rough().at(Y), PDHG(), tol=bl.Tolerance(rms=1e-6)).require()
    assert float((found.x - exact.x).square().mean().sqrt()) <= 1e-3


def test_accelerated_rate() -> None:
    """‖x_k - x̂‖² = O(1/k²) with a known constant (Chambolle and Pock 2011, Theorem 2)."""
    objective = rough().at(Y)
    exact = bl.minimise(objective, PDHG(), tol=bl.Tolerance(rms=1e-8)).x
    solver = PDHG(relaxation=1.0, acceleration=1.0)
    state = solver.init(objective, objective.start())
    for k in range(1, 200):
        state = solver.step(objective, state)
        far = (state.x - exact).square().mean((1, 2, 3)).sqrt()
        assert bool((far <= 2.0 / k).all())


def test_exact_tv_of_a_step_is_known_in_closed_form() -> None:
    """An ideal edge loses 2 w / (its width) of contrast (Strong and Chan 2003)."""
    y = torch.zeros(1, 1, 4, 8, dtype=torch.float64)
    y[..., 4:] = 1
    x = bl.minimise(rough(0.1).at(y), PDHG(), tol=bl.Tolerance(rms=1e-7)).require().x
    expected = torch.where(y > 0.5, 1 - 0.1 / 4, 0.1 / 4).to(y)
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["saddle", "box"])
def test_rows_stop_by_themselves_and_equal_lone_solves(kind: str, dtype: torch.dtype) -> None:
    energy, solver = (rough(), PDHG()) if kind == "saddle" else (boxed(), FISTA())
    scale = torch.tensor([0.0, 1e-2, 1.0, 3.0, 10.0], dtype=dtype)[:, None, None, None]
    y = torch.rand(5, 1, 8, 10, generator=torch.Generator().manual_seed(3)).to(dtype) * scale
    energy, tol = energy.to(dtype), bl.Tolerance(rms=3e-4)
    together = bl.minimise(energy.at(y), solver, tol=tol)
    together.require()
    assert len(set(together.steps.tolist())) > 1
    for k in range(5):
        lone = bl.minimise(energy.at(y[k : k + 1]), solver, tol=tol)
        assert lone.steps[0] == together.steps[k]
        rough_equal = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {}
        torch.testing.assert_close(lone.x[0], together.x[k], **rough_equal)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
@pytest.mark.parametrize("fidelity", [L2, bl.fidelities.L1])
def test_images_of_any_scale(scale: float, fidelity: type) -> None:
    """Scaling y by s scales the minimiser: J is homogeneous if the weights follow."""
    power = 1 if fidelity is L2 else 0
    plain = bl.Variational(fidelity(), TV(0.2)).double().at(Y)
    scaled = bl.Variational(fidelity(), TV(0.2 * scale**power)).double().at(scale * Y)
    goal = 1e-6 * float(plain.value(Y).min())
    a = bl.minimise(plain, PDHG(), tol=bl.Tolerance(gap=goal)).require()
    size = scale ** (2 if fidelity is L2 else 1)
    b = bl.minimise(scaled, PDHG(), tol=bl.Tolerance(gap=goal * size)).require()
    assert b.steps.tolist() == a.steps.tolist()


@pytest.mark.parametrize("isotropic", [True, False])
def test_float32_is_true_down_to_its_floor(isotropic: bool) -> None:
    """Of images with values up to 10, certified by way of the primal point of the dual one."""
    energy = bl.Variational(L2(), TV(0.1, isotropic=isotropic))
    y = (10 * Y).float()
    exact = bl.minimise(energy.double().at(y.double()), PDHG(), tol=bl.Tolerance(rms=1e-7)).x
    for tol in (1e-3, 1e-4, 1e-12):
        found = bl.minimise(energy.float().at(y), PDHG(), tol=bl.Tolerance(rms=tol))
        true = (found.x.double() - exact).square().mean((1, 2, 3)).sqrt()
        assert bool((true <= found.certificate.rms + 1e-7).all())
        if tol != 1e-4:  # which is about the floor
            ending = bl.Status.STALLED if tol < 1e-4 else bl.Status.CONVERGED
            assert found.status.tolist() == [ending] * 2


def test_constant_images_and_starts_that_are_not() -> None:
    flat = torch.full((1, 1, 5, 6), 0.3, dtype=torch.float64)
    tol = bl.Tolerance(rms=1e-6)
    assert bl.minimise(rough().at(flat), PDHG(), tol=tol).require().steps.tolist() == [0]
    found = bl.minimise(rough().at(flat), PDHG(), flat + Y[:1, :, :5, :6], tol=tol).require()
    torch.testing.assert_close(found.x, flat, rtol=0, atol=1e-6)
    pixel = bl.minimise(rough().at(flat[..., :1, :1]), PDHG(), tol=tol)
    assert pixel.require().x.item() == 0.3


def test_a_start_outside_of_the_box_is_brought_inside() -> None:
    tol = bl.Tolerance(rms=1e-5)
    for energy, solver in (
        (boxed(), FISTA()),
        (bl.Variational(L2(), TV(0.1) + BOX(0.2, 0.7)).double(), PDHG()),
    ):
        far = bl.minimise(energy.at(Y), solver, Y + 5, tol=tol).require()
        near = bl.minimise(energy.at(Y), solver, tol=tol).require()
        assert float((far.x - near.x).abs().max()) <= 1e-3
        assert 0.2 <= float(far.x.min()) <= float(far.x.max()) <= 0.7
        outside = certify(energy.at(Y), Y + 5)
        assert bool(outside.gap.isinf().all())


def test_without_strong_convexity_there_is_a_gap_but_no_distance() -> None:
    seen = bl.operators.Mask(torch.rand(8, 8) > 0.5)
    objective = bl.Variational(L2(seen), TV(0.1)).double().at(seen.double()(Y))
    solution = bl.minimise(objective, PDHG(), tol=bl.Tolerance(gap=1e-5)).require()
    assert bool(solution.certificate.rms.isinf().all())
    with pytest.raises(NotCertified, match="Tikhonov"):
        bl.minimise(objective, PDHG(), tol=bl.Tolerance(rms=1e-3), max_steps=50).require()


def test_nothing_is_claimed_where_the_dual_point_proves_nothing() -> None:
    matrix = bl.operators.Matrix(torch.randn(10, 64), (1, 8, 8))
    objective = bl.Variational(L2(matrix), TV(0.1)).double().at(matrix.double()(Y))
    found = bl.minimise(objective, PDHG(), tol=bl.Tolerance(residual=1e-2)).require()
    assert bool(found.certificate.gap.isinf().all())


def test_an_f_that_is_not_convex_proves_nothing() -> None:
    potential = bl.regularisers.FieldsOfExperts(torch.randn(2, 1, 3, 3), potential="student-t")
    objective = bl.Variational(L2(weight=1e-3), TV(0.1) + potential).double().at(Y)
    assert bool(certify(objective, Y).gap.isinf().all())
    with pytest.raises(InputError, match="convex smooth part"):
        PDHG().init(objective, Y)


def test_terms_are_sorted_by_what_they_are() -> None:
    sparse, data = bl.regularisers.Sparsity(0.1), bl.fidelities.L1()
    blur = bl.operators.Convolution(torch.ones(3, 3) / 9)
    assert isinstance(bl.Variational(L2(), RIDGE(1.0)).at(Y.float()), bl.model.SmoothObjective)
    cases = [
        (bl.Variational(L2(), sparse + BOX(0, 1)), CompositeObjective, 0),
        (bl.Variational(data, RIDGE(1.0)), CompositeObjective, 0),
        (bl.Variational(data, RIDGE(1.0) + sparse), SaddleObjective, 1),
        (bl.Variational(data, TV(0.1) + sparse + BOX(0, 1)), SaddleObjective, 2),
        (bl.Variational(bl.fidelities.L1(blur), TV(0.1) + sparse + BOX(0, 1)), SaddleObjective, 2),
    ]
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    for energy, kind, dual in cases:
        objective = energy.double().at(Y)
        assert isinstance(objective, kind)
        if isinstance(objective, SaddleObjective):
            assert len(objective.terms) == dual
        torch.testing.assert_close(objective.value(x), energy(x, Y).detach())
        solver: Any = PDHG() if dual else FISTA()
        bl.minimise(objective, solver, tol=bl.Tolerance(gap=1e-4)).require()


def test_a_non_smooth_energy_is_saved_and_takes_parameters() -> None:
    weights = torch.rand(8, 8) + 0.1
    parts = TV(weights, isotropic=False) + BOX(0.0, None) + bl.regularisers.Sparsity(0.2)
    energy = bl.Variational(bl.fidelities.L1(weight=0.3, learn=("weight",)), parts).double()
    twin = build(*describe(energy))
    assert isinstance(twin, bl.Variational)
    assert torch.equal(twin(Y, Y + 0.1), energy(Y, Y + 0.1))
    names = {name for name, p in energy.named_parameters() if p.requires_grad}
    assert names == set(space_of(energy).sets)
    theta = {"regulariser.terms.0.log_weight": torch.zeros(8, 8, dtype=torch.float64)}
    bound = energy.at(Y, theta)
    assert isinstance(bound, SaddleObjective)
    assert float(bound.terms[0].weight.max()) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: run(rough(), bl.solvers.Nesterov()), r"Nesterov needs a smooth.*solvers.PDHG\(\)"),
        (lambda: run(rough(), bl.solvers.LBFGS()), r"LBFGS needs a smooth.*solvers.PDHG\(\)"),
        (lambda: run(boxed(), bl.solvers.GradientDescent()), r"needs a smooth.*solvers.FISTA\(\)"),
        (lambda: run(rough(), FISTA()), r"FISTA needs.*solvers.PDHG\(\)"),
        (lambda: run(boxed(), PDHG()), r"PDHG needs.*solvers.FISTA\(\)"),
        (lambda: run(bl.Variational(L2(), RIDGE(1.0)).double(), PDHG()), r"solvers.LBFGS\(\)"),
        (lambda: rough().hessian(Y, Y), "not smooth"),
        (lambda: boxed().grad(Y, Y), "not smooth"),
        (lambda: BOX(1.0, 0.0), "lower <= upper"),
        (lambda: TV(-1.0), "weight must be positive"),
        (lambda: TV(torch.ones(3)), "map of shape"),
        (lambda: TV(torch.ones(3, 3), learn=("smoothing",)), "learnable parameter"),
        (lambda: bl.Variational(L2(), TV(torch.ones(3, 3))).double().at(Y), "map of weights"),
        (lambda: bl.regularisers.Sparsity(0.0), "weight must be positive"),
        (lambda: PDHG(relaxation=2.0), "relaxation"),
        (lambda: PDHG(acceleration=2.0), "acceleration"),
        (lambda: rough().at(Y / 0), "finite"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def run(energy: bl.Variational, solver: Any) -> bl.Solution:
    return bl.minimise(energy.at(Y), solver, tol=bl.Tolerance(rms=1e-3))


def test_what_is_not_there_is_not_offered() -> None:
    """Capability by type: no gradient is refused, since none is there to be asked for."""
    for part in (rough().at(Y), boxed().at(Y), TV(0.1), bl.fidelities.L1()):
        assert not {"grad", "value_and_grad"} & set(dir(part))
    assert "hessian" not in dir(rough().at(Y))

"""Hypergradients of f + h: against finite differences and dense systems, and their bounds."""

from __future__ import annotations

import copy
import itertools
import math
from functools import cache

import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

import bilevel as bl
from bilevel.differentiate import (
    EquilibriumPropagation,
    ForwardMode,
    Hypergradient,
    Implicit,
    JacobianFree,
    Neumann,
    Shine,
    Unrolled,
    Upper,
    ValueFunction,
    finite_differences,
)
from bilevel.ground import theta as algebra
from bilevel.ground.errors import InputError
from bilevel.ground.theta import learnable
from bilevel.model import CompositeObjective
from bilevel.solve import Solution, Tolerance, certify, minimise
from bilevel.solve.solvers import FISTA
from contracts.composites import KINDS, SMOOTH, as_solution, dense, exact, lower_of, make
from contracts.zoo import Case, dense_hessian

LOSS = bl.losses.SquaredError()
FIRST = 2
PROBLEMS = [(kind, SMOOTH[k % len(SMOOTH)]) for k, kind in enumerate(KINDS)]


@cache
def problem(kind: str, regulariser: str) -> tuple[Case, Solution, bl.Theta]:
    """No pixel near a kink; differences of the first entries of every parameter."""
    for seed in range(100):
        case = make(kind, regulariser, seed)
        lower = lower_of(case)
        if float(lower.bounds.lipschitz / lower.bounds.mu) > 20:
            continue
        solution = exact(lower)
        near = torch.full((1,), 2e-4, dtype=torch.float64)
        free, _ = lower.simple.pieces(solution.x)
        some = 0.1 < float(free.double().mean()) < 0.95
        if some and float(lower.smoothness(solution.x, near).kinks) == 0:
            break
    else:
        raise AssertionError("every draw is ill-conditioned or near a kink")
    theta = learnable(case.energy)

    def loss(some: bl.Theta) -> float:
        moved = {k: v.clone() for k, v in theta.items()}
        for key, value in some.items():
            moved[key].view(-1)[:FIRST] = value
        x = exact(lower_of(case, moved), solution.x).x
        return float(LOSS.value(x, case.target))

    first = {k: v.flatten()[:FIRST].clone() for k, v in theta.items()}
    coarse, fine = (finite_differences(loss, first, step) for step in (2e-5, 1e-5))
    return case, solution, {k: (4 * fine[k] - coarse[k]) / 3 for k in fine}


def relative_error(case: Case, grad: bl.Theta, differences: bl.Theta) -> float:
    first = {k: v.flatten()[:FIRST] for k, v in grad.items()}
    return algebra.norm(algebra.add(first, differences, -1.0)) / algebra.norm(grad)


EXACT: dict[str, Hypergradient] = {
    "implicit": Implicit(),
    "minres": Implicit("minres"),
    "neumann": Neumann(2000),
    "unrolled": Unrolled(200, FISTA(), checkpoint=15),
    "equilibrium": EquilibriumPropagation(1e-5),
}


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize(("kind", "regulariser"), PROBLEMS)
def test_exact_methods_agree_with_finite_differences(
    kind: str, regulariser: str, method: str
) -> None:
    case, solution, differences = problem(kind, regulariser)
    lower = lower_of(case)
    found = EXACT[method](lower, Upper(LOSS, case.target), solution, rtol=1e-11)
    assert relative_error(case, found.grad, differences) <= 1e-6
    if method != "unrolled":
        assert found.kinks.tolist() == [0]
        assert math.isfinite(found.bound)


@pytest.mark.parametrize(("kind", "regulariser"), PROBLEMS[:2])
def test_forward_mode_through_fista_is_reverse_mode(kind: str, regulariser: str) -> None:
    case, warm, differences = problem(kind, regulariser)
    lower, upper = lower_of(case), Upper(LOSS, case.target)
    cold = minimise(lower, FISTA(), tol=Tolerance(rms=1e-9), max_steps=0)
    ahead = ForwardMode(15, FISTA())(lower, upper, cold, estimate=True)
    back = Unrolled(15, FISTA())(lower, upper, cold)
    assert math.isfinite(ahead.estimate)
    for key, value in back.grad.items():
        torch.testing.assert_close(ahead.grad[key], value, rtol=1e-9, atol=1e-15)
    found = ForwardMode(150, FISTA())(lower, upper, warm)
    assert relative_error(case, found.grad, differences) <= 1e-6


@pytest.mark.parametrize(("kind", "regulariser"), PROBLEMS)
def test_differences_have_their_orders(kind: str, regulariser: str) -> None:
    case, solution, differences = problem(kind, regulariser)
    lower, upper = lower_of(case), Upper(LOSS, case.target)

    def errors(methods: list[Hypergradient]) -> list[float]:
        grads = [m(lower, upper, solution, rtol=1e-9).grad for m in methods]
        return [relative_error(case, grad, differences) for grad in grads]

    pulls = errors([EquilibriumPropagation(s) for s in (1e-4, 1e-5)])
    assert pulls[1] <= pulls[0] / 50 + 1e-6
    for coarse, fine in itertools.pairwise(errors([ValueFunction(p) for p in (1e4, 1e5, 1e6)])):
        assert coarse / 15 - 1e-6 <= fine <= coarse / 6 + 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_against_dense_ones(kind: str) -> None:
    """Of the value, by autograd, in the free pixels alone."""
    for regulariser in ("tv charbonnier", "foe log-cosh"):
        case = make(kind, regulariser, 7)
        lower, upper = lower_of(case), Upper(LOSS, case.target)
        x = exact(lower).x
        free = lower.simple.pieces(x)[0].flatten()
        matrix = dense(lower.hessian(x), x)
        values = torch.linalg.eigvalsh(matrix)
        slack = 1e-9 * float(lower.bounds.lipschitz)
        assert float(values[0]) >= float(lower.bounds.mu) - slack
        assert float(values[-1]) <= float(lower.bounds.lipschitz) + slack
        smooth = lower.smooth.energy  # type: ignore[attr-defined]
        inner = dense_hessian(smooth, x, case.y)[free][:, free]
        torch.testing.assert_close(matrix[free][:, free], inner, rtol=1e-8, atol=1e-8)
        found = Implicit()(lower, upper, as_solution(lower, x), rtol=1e-13)
        assert found.linear is not None
        q = torch.linalg.solve(inner, upper.grad(x).flatten()[free])
        torch.testing.assert_close(found.linear.x.flatten()[free], q, rtol=1e-6, atol=1e-10)

        direction = torch.zeros_like(x).flatten()
        direction[free] = q
        leaf = {k: v.requires_grad_() for k, v in learnable(case.energy).items()}
        point = x.clone().requires_grad_()
        bound = algebra.bind(case.energy, leaf)
        parts = [t for t in bound.regulariser.parts if not isinstance(t, bl.regularisers.Box)]
        value = bound.fidelity.forward(point, case.y) + sum(t.forward(point) for t in parts)
        (slope,) = torch.autograd.grad(value.sum(), point, create_graph=True)
        expected = algebra.derivative((slope.flatten() * direction).sum(), leaf)
        for name, product in lower.cross_vjp(x, found.linear.x).items():
            torch.testing.assert_close(product, expected[name], rtol=1e-6, atol=1e-9)


BOUNDED: dict[str, Hypergradient] = {
    "implicit": Implicit(),
    "neumann": Neumann(5),
    "one step": JacobianFree(),
    "equilibrium": EquilibriumPropagation(1e-3, max_steps=30),
    "equilibrium, strong": EquilibriumPropagation(0.05, max_steps=5),
    "value function, weak": ValueFunction(30, max_steps=5),
}


def check_bounds(case: Case, lower: CompositeObjective, accuracies: tuple[float, ...]) -> int:
    """Against the exact solution of ``case``; how often no pixel was undecided."""
    best, decided = lower_of(case), 0
    at = exact(best)
    truth = Implicit()(best, Upper(LOSS, case.target), at, rtol=1e-13)
    for rms in accuracies:
        x = minimise(lower, FISTA(), tol=Tolerance(rms=rms), check_every=1).require().x
        upper, solution = Upper(LOSS, case.target.to(x)), as_solution(lower, x)
        for name, method in BOUNDED.items():
            found = method(lower, upper, solution)
            assert math.isfinite(found.bound), name
            grad = {k: v.double() for k, v in found.grad.items()}
            error = algebra.norm(algebra.add(grad, truth.grad, -1.0))
            assert error <= found.bound * (1 + 1e-9) + 1e-11, name
            off = (found.corrected - truth.value).abs()
            assert bool((off <= found.interval * (1 + 1e-9) + 1e-13).all()), name
        if not lower.smoothness(x, certify(lower, x).rms * x.numel() ** 0.5).kinks.any():
            assert torch.equal(best.simple.pieces(at.x)[0], lower.simple.pieces(x)[0])
            decided += 1
    return decided


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_hold(kind: str) -> None:
    """Of gradients and values, on 100 random problems, each solved sloppily and well."""
    decided = 0
    for regulariser in SMOOTH:
        for seed in range(10, 14):
            case = make(kind, regulariser, seed)
            accuracies = (0.1, 1e-6) if seed % 2 else (1e-2, 1e-4)
            decided += check_bounds(case, lower_of(case), accuracies)
    assert 4 <= decided <= 36, "both happen: every pixel is decided, and some pixel is not"


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_hold_in_float32(kind: str) -> None:
    case = make(kind, "tv charbonnier", 40)
    energy, y = copy.deepcopy(case.energy).float(), case.y.float()
    double = copy.deepcopy(energy).double()
    lower = energy.at(y)
    assert isinstance(lower, CompositeObjective)
    again = Case(double, y.double(), case.target.float().double())
    check_bounds(again, lower, (1e-2, 1e-4))


@pytest.mark.parametrize("kind", KINDS)
def test_the_variation_covers_every_point_around_the_minimiser(kind: str) -> None:
    """Also those that no solver returns, with pixels on the wrong pieces."""
    wrong = 0
    for seed in range(12):
        case = make(kind, "tv charbonnier", 60 + seed)
        lower = lower_of(case)
        at = exact(lower)
        centre = lower.simple.distance.centre if lower.simple.distance else torch.tensor(0.2)
        x = at.x + 10 ** (-1 - seed % 4) * torch.randn_like(at.x)
        kinks = lower.project(centre.to(x).expand_as(x))
        near = (x - kinks).abs() < 0.05
        x = lower.project(torch.where(near & (torch.rand_like(x) < 0.5), kinks, x))
        q, radius = torch.randn_like(x), (x - at.x).flatten(1).norm(dim=1)
        claimed = lower.variation(x, q, radius)
        turn = lower.hessian(at.x)(q) - lower.hessian(x)(q)
        assert float(turn.norm()) <= float(claimed.hessian) + 1e-9
        shift = algebra.add(lower.cross_vjp(at.x, q), lower.cross_vjp(x, q), -1.0)
        assert algebra.norm(shift) <= float(claimed.cross) + 1e-9
        size = algebra.norm(lower.cross_vjp(at.x, q))
        assert size <= float(claimed.cross_norm) * float(q.norm()) + 1e-9
        wrong += bool((lower.simple.pieces(x)[0] != lower.simple.pieces(at.x)[0]).any())
    assert wrong >= 3


@pytest.mark.parametrize(
    ("kind", "name"),
    [("box", "fidelity.log_weight"), ("absolute", "regulariser.terms.2.log_weight")],
)
def test_a_pixel_on_a_kink_is_reported_and_the_bound_allows_for_the_jump(
    kind: str, name: str
) -> None:
    """Where a pixel is just let go, the gradient lies between the one-sided derivatives."""
    case = make(kind, "tv charbonnier", 1 if kind == "box" else 4, blurred=False)
    theta = learnable(case.energy)
    start = exact(lower_of(case)).x

    def moved(shift: float) -> CompositeObjective:
        return lower_of(case, {**theta, name: theta[name] + shift})

    def firmness(shift: float) -> Tensor:
        lower = moved(shift)
        x = exact(lower, start).x
        low, high = lower.simple.subdifferential(x)
        force = lower.smooth.grad(x)
        return torch.where(low < high, torch.minimum(high + force, -low - force), -1.0).flatten()

    before, after = firmness(-0.5) > 0, firmness(0.5) > 0
    pixel = int(torch.nonzero(before != after)[0])
    shift = brentq(lambda s: 1.0 if firmness(s)[pixel] > 0 else -1.0, -0.5, 0.5, xtol=1e-12)
    lower, upper = moved(shift), Upper(LOSS, case.target)
    solution = minimise(lower, FISTA(), start, tol=Tolerance(rms=1e-8)).require()
    found = Implicit()(lower, upper, solution, rtol=1e-12)
    assert found.kinks.item() >= 1

    def loss(s: float) -> float:
        return float(upper.value(exact(moved(s), start).x))

    step = 1e-5
    sides = [(loss(shift) - loss(shift - step)) / step, (loss(shift + step) - loss(shift)) / step]
    slack = 1e-3 * max(map(abs, sides))
    assert abs(sides[0] - sides[1]) > 3 * slack, "there is a jump"
    assert min(sides) - slack <= float(found.grad[name]) <= max(sides) + slack
    assert max(abs(found.grad[name].item() - s) for s in sides) <= found.bound + slack


def test_rows_are_independent() -> None:
    case = make("box and absolute", "tv charbonnier", 5, blurred=False, batch=3)
    for name, method in BOUNDED.items():

        def of(index: Tensor, method: Hypergradient = method) -> bl.HyperGradient:
            lower = case.energy.at(case.y[index])
            solution = minimise(lower, FISTA(), tol=Tolerance(rms=1e-4))
            return method(lower, Upper(LOSS, case.target[index]), solution, rtol=1e-8)

        together, alone = of(torch.arange(3)), [of(torch.tensor([k])) for k in range(3)]
        for key, value in together.grad.items():
            mean = torch.stack([r.grad[key] for r in alone]).mean(0)
            torch.testing.assert_close(value, mean, rtol=1e-5, atol=1e-9, msg=name)
        errors = torch.cat([r.error for r in alone])
        torch.testing.assert_close(together.error, errors, rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_differentiates_by_data_and_parameters(kind: str) -> None:
    case, _, _ = problem(*next(p for p in PROBLEMS if p[0] == kind))
    theta = learnable(case.energy)
    name = next(k for k, v in theta.items() if not v.ndim and "fidelity" not in k)
    tol = Tolerance(rms=1e-11)

    def layer(y: Tensor, weight: Tensor) -> Tensor:
        x = bl.argmin(case.energy, y, tol=tol, theta={name: weight}, adjoint_rtol=1e-11)
        return (x * case.target).sum()

    y, weight = case.y.clone().requires_grad_(), theta[name].requires_grad_()
    found = torch.autograd.grad(layer(y, weight), (y, weight))
    direction = torch.randn_like(y)
    with torch.no_grad():
        ahead, behind = (layer(y + s * direction, weight) for s in (1e-6, -1e-6))
        above, below = (layer(y, weight + s) for s in (1e-6, -1e-6))
    along = float((found[0] * direction).sum())
    assert along == pytest.approx(float(ahead - behind) / 2e-6, rel=1e-5)
    assert float(found[1]) == pytest.approx(float(above - below) / 2e-6, rel=1e-5)


def saddle(weight: float = 0.1) -> bl.Variational:
    tv = bl.regularisers.ExactTotalVariation(weight, isotropic=False)
    fidelity = bl.fidelities.SquaredL2(learn=("weight",))
    return bl.Variational(fidelity, tv + bl.regularisers.Box(0.2, 0.8)).double()


def test_differences_of_saddle_problems_agree_with_finite_differences() -> None:
    energy, y = saddle(), torch.rand(1, 1, 4, 5, dtype=torch.float64)
    upper, theta = Upper(LOSS, torch.rand_like(y)), learnable(energy)

    def solved(theta: bl.Theta) -> Solution:
        return minimise(energy.at(y, theta), bl.solvers.PDHG(), tol=Tolerance(rms=1e-7))

    differences = finite_differences(lambda t: float(upper.value(solved(t).x)), theta, 1e-3)
    size, lower, solution = algebra.norm(differences), energy.at(y), solved(theta)
    for method, allowed in ((EquilibriumPropagation(1e-4), 1e-5), (ValueFunction(1e4), 1e-2)):
        found = method(lower, upper, solution, rtol=1e-4, estimate=True)
        assert algebra.norm(algebra.add(found.grad, differences, -1.0)) <= allowed * size
        error = algebra.norm(algebra.add(found.grad, differences, -1.0))
        assert error / 3 <= found.estimate + 1e-5 * size <= 30 * error + 1e-3 * size
        assert math.isinf(found.bound), "nothing is proved about the gradient"
        assert bool((found.interval < 1e-6).all()), "but something is about the value"


def test_a_saddle_problem_is_learned_by_differences() -> None:
    images = bl.data.shepp_logan(12).double()
    noise = bl.data.GaussianNoise(0.1)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise, seed=1)
    energy = bl.Variational(
        bl.fidelities.SquaredL2(), bl.regularisers.ExactTotalVariation(0.01, isotropic=False)
    ).double()
    method = EquilibriumPropagation(1e-3)
    problem = bl.BilevelProblem(energy, LOSS, pairs, hypergradient=method)
    fit = bl.learn(problem, bl.algorithms.MAID(), budget=bl.Budget(steps=4))
    assert fit.history[-1].value < 0.8 * fit.history[0].value


def test_a_pull_is_part_of_the_smooth_term() -> None:
    from bilevel.differentiate.perturbed import perturbed

    y = torch.rand(2, 1, 4, 5)
    x, upper = y / 2 + 0.3, Upper(LOSS, torch.rand_like(y))
    strength, boxed = torch.tensor([0.1, -0.2]), bl.regularisers.Box(0.2, 0.8)
    composite = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Sparsity(0.1) + boxed)
    for energy in (composite, saddle().float()):
        lower = energy.at(y)
        pulled = perturbed(lower, upper, strength)
        expected = lower.value(x) + strength * upper.value(x)
        torch.testing.assert_close(pulled.value(x), expected)
        torch.testing.assert_close(pulled.double().value(x.double()), expected.double())
        torch.testing.assert_close(pulled.taped(lower.theta).value(x), expected)
        torch.testing.assert_close(pulled.rows(torch.tensor([1])).value(x[1:]), expected[1:])
        assert torch.isfinite(pulled.double().theta_grad(x.double(), strength.double())[0]).all()
    bare = bl.regularisers.ExactTotalVariation(0.1, isotropic=False)
    whole = perturbed(bl.Variational(bl.fidelities.L1(), bare).at(y), upper, strength)
    assert bool(certify(whole, x).gap.isinf().all()), "the target may lie beyond the data"
    assert bool(certify(whole.double(), x.double()).gap.isinf().all())


def test_bounds_that_float32_rounds_are_the_same_in_float64() -> None:
    energy = bl.Variational(
        bl.fidelities.SquaredL2(),
        bl.regularisers.Tikhonov(0.5) + bl.regularisers.Box(0.1, 0.7),
    )
    lower = energy.at(torch.tensor([-1.0, 0.3, 0.9, 2.0]).reshape(1, 1, 2, 2))
    x = torch.tensor([0.1, 0.2, 0.6, 0.7]).reshape(1, 1, 2, 2)
    assert float(lower.double().subgradient(x.double()).norm()) < 1e-6
    assert minimise(lower, FISTA(), tol=Tolerance(rms=1e-7)).converged.all()


@pytest.mark.parametrize("kind", ["composite", "saddle"])
def test_what_does_not_fit_is_refused_in_words(kind: str) -> None:
    energy = make("box", "tikhonov", 1).energy if kind == "composite" else saddle()
    y = torch.rand(1, 1, 6, 8, dtype=torch.float64)
    energy = bl.Variational(bl.fidelities.SquaredL2(), energy.regulariser).double()
    lower, upper = energy.at(y), Upper(LOSS, y)
    solution = minimise(lower, bl.solvers.accelerated(lower), tol=Tolerance(rms=1e-3))
    with pytest.raises(InputError, match="no gradient; minimise it with"):
        Unrolled(3)(lower, upper, solution)
    if kind == "composite":
        with pytest.raises(InputError, match="SHINE needs L-BFGS"):
            Shine()(lower, upper, solution)
        return
    for method in (Implicit(), Neumann(3), JacobianFree(), Shine()):
        with pytest.raises(InputError, match=r"dual terms has none; use Equilibrium"):
            method(lower, upper, solution)
    with pytest.raises(InputError, match="argmin differentiates smooth and composite"):
        bl.argmin(energy, y, tol=Tolerance(rms=1e-3))


def test_sparsity_in_a_box_is_learned() -> None:
    images = bl.data.shepp_logan(16).double().repeat(2, 1, 1, 1)
    noise = bl.data.GaussianNoise(0.2)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise, seed=1)
    parts = bl.regularisers.TotalVariation(0.05, 0.05, potential="huber")
    parts = parts + bl.regularisers.Box(0.0, 1.0) + bl.regularisers.Sparsity(0.005)
    energy = bl.Variational(bl.fidelities.SquaredL2(), parts).double()
    problem = bl.BilevelProblem(energy, LOSS, pairs)
    assert isinstance(problem.solver, FISTA)
    fit = bl.learn(problem, budget=bl.Budget(steps=15))
    first, last = fit.history[0], fit.history[-1]
    assert last.value < 0.85 * first.value
    sparsity = "regulariser.terms.2.log_weight"
    assert float(fit.theta[sparsity]) > math.log(0.005) + 0.5
    at = problem.value_and_grad(fit.theta, tol=1e-7)
    assert at.proved
    assert at.uncertified == at.unsolved == 0
    loss = lambda t: problem.value({**fit.theta, **t}, tol=1e-12)  # noqa: E731
    differences = finite_differences(loss, {sparsity: fit.theta[sparsity]}, 1e-5)
    assert float(at.grad[sparsity]) == pytest.approx(float(differences[sparsity]), rel=1e-3)

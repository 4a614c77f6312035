"""Solvers on energies that are not convex, and what each promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.solve import Solver
from contracts.nonconvex import data_and_starts, student
from contracts.zoo import REGULARISERS, make

SOLVERS = {
    "l-bfgs": bl.solvers.LBFGS(),
    "nmapg": bl.solvers.NMAPG(),
    "ipiano": bl.solvers.IPiano(),
    "half-quadratic": bl.solvers.HalfQuadratic(),
}


def weakly_convex() -> bl.Variational:
    """A ridge regulariser so strong that the energy is not convex."""
    ridge = REGULARISERS["ridge weakly convex"](generator(3, "nonconvex"))
    assert isinstance(ridge, bl.regularisers.RidgeRegulariser)
    ridge.log_weight.data.fill_(2.0)
    return bl.Variational(bl.fidelities.SquaredL2(), ridge).double()


@pytest.mark.parametrize("solver", SOLVERS)
def test_student_t_and_weakly_convex_ridge_to_stationarity(solver: str) -> None:
    y, start = (t[:4] for t in data_and_starts())
    for energy in (student(), weakly_convex()):
        objective = energy.at(y)
        assert float(objective.bounds.mu[0]) < 0
        tol = bl.Tolerance(residual=1e-5)
        found = bl.minimise(objective, SOLVERS[solver], start, tol=tol, max_steps=20_000).require()
        assert float(objective.grad(found.x).square().mean((1, 2, 3)).sqrt().max()) <= 1e-5
        assert bool((objective.value(found.x) < objective.value(start)).all())


@pytest.mark.parametrize("solver", [*SOLVERS, "free-fista"])
def test_rows_do_not_see_each_other(solver: str) -> None:
    chosen: Solver = {**SOLVERS, "free-fista": bl.solvers.FreeFISTA()}[solver]  # type: ignore[type-arg]
    case = make("circular", "foe charbonnier", 1, torch.float64, batch=3)
    y = case.y * torch.tensor([1e-2, 1.0, 3.0], dtype=torch.float64)[:, None, None, None]
    tol = bl.Tolerance(rms=1e-4)
    together = bl.minimise(case.energy.at(y), chosen, tol=tol).require()
    for k in range(3):
        lone = bl.minimise(case.energy.at(y[k : k + 1]), chosen, tol=tol)
        assert lone.steps[0] == together.steps[k]
        torch.testing.assert_close(lone.x[0], together.x[k], rtol=1e-9, atol=1e-10)


def test_passing_a_saddle_is_not_stalling() -> None:
    """The gradient of a non-convex energy may grow for thousands of steps before it vanishes."""
    y, start = (t[:10] for t in data_and_starts())
    tol = bl.Tolerance(residual=1e-6)
    bl.minimise(student().at(y), bl.solvers.IPiano(), start, tol=tol).require()


def test_half_quadratic_never_increases_the_energy_however_sloppy() -> None:
    y, start = (t[:10] for t in data_and_starts())
    objective = student().at(y)
    solver = bl.solvers.HalfQuadratic(rtol=0.5, max_products=3)
    state = solver.init(objective, start)
    for _ in range(50):
        before = objective.value(state.x)
        state = solver.step(objective, state)
        assert bool((objective.value(state.x) <= before + 1e-12).all())


def test_ipiano_decreases_its_lyapunov_function() -> None:
    """H = J(x) + δ‖x - x⁻‖², δ = 1/α - L/2 - β/(2α), while L stays (source, Proposition 4.7)."""
    y, start = (t[:10] for t in data_and_starts())
    objective = student().at(y)
    solver = bl.solvers.IPiano()
    s = solver.init(objective, start)

    def lyapunov(x: Tensor, previous: Tensor, value: Tensor, lipschitz: Tensor) -> Tensor:
        rate = lipschitz / (1.99 * (1 - solver.beta))
        delta = rate - lipschitz / 2 - solver.beta * rate / 2
        return value + delta * (x - previous).square().sum((1, 2, 3))

    kept = 0
    for _ in range(300):
        before, old = lyapunov(s.x, s.previous, s.value, s.lipschitz), s.lipschitz
        s = solver.step(objective, s)
        after = lyapunov(s.x, s.previous, s.value, s.lipschitz)
        same = s.lipschitz == old
        kept += int(same.sum())
        assert bool((after <= before + 1e-10)[same].all())
    assert kept > 1500


def test_nmapg_keeps_the_values_below_the_mean_of_earlier_ones() -> None:
    y, start = (t[:10] for t in data_and_starts())
    cost = bl.Cost()
    objective = student().at(y, cost=cost)
    solver = bl.solvers.NMAPG()
    s = solver.init(objective, start)
    for _ in range(100):
        level = s.c
        s = solver.step(objective, s)
        assert bool((objective.value(s.x) <= level * (1 + 1e-12)).all())
    assert cost.gradient_evaluations >= 100 * 10, "every evaluation is counted, row by row"


def test_free_fista_learns_how_long_a_cycle_should_be() -> None:
    """On a quadratic of condition 1e4 cycles grow to some √κ, and it beats the plain rate."""
    scales = torch.logspace(-4, 0, 64, dtype=torch.float64)
    matrix = bl.operators.Matrix(scales.sqrt().diag(), (1, 8, 8))
    ridge = bl.regularisers.Tikhonov(1e-8)
    energy = bl.Variational(bl.fidelities.SquaredL2(matrix), ridge).double()
    y = matrix(torch.rand(1, 1, 8, 8, dtype=torch.float64))
    objective, solver = energy.at(y), bl.solvers.FreeFISTA()
    state = solver.init(objective, torch.zeros_like(objective.start()))
    for _ in range(1500):
        state = solver.step(objective, state)
    assert 50 <= float(state.length) <= 2000
    assert 0.5 <= 1 / float(state.s) <= 1.5
    plain = bl.solvers.Nesterov(momentum="convex", restart=False)
    other = plain.init(objective, torch.zeros_like(objective.start()))
    for _ in range(1500):
        other = plain.step(objective, other)
    slope, slow = (float(objective.grad(s.x).norm()) for s in (state, other))
    assert slope < slow / 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bl.solvers.NMAPG(rho=1.0), "0 < rho < 1"),
        (lambda: bl.solvers.NMAPG(delta=0.0), "delta"),
        (lambda: bl.solvers.IPiano(beta=1.0), "0 <= beta < 1"),
        (lambda: bl.solvers.IPiano(first_lipschitz=-1.0), "first_lipschitz"),
        (lambda: bl.solvers.FreeFISTA(delta=2.0), "0 < delta <= 1"),
        (lambda: bl.solvers.HalfQuadratic(rtol=0.0), "rtol"),
        (lambda: bl.solvers.HalfQuadratic(max_products=0), "max_products"),
    ],
)
def test_bad_options_are_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_an_energy_without_a_majoriser_is_told() -> None:
    class Bare(bl.Energy):
        """Nothing but its value."""

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return (x - y).square().flatten(1).sum(1)

    y = torch.rand(1, 1, 4, 4)
    with pytest.raises(InputError, match="need a quadratic majoriser"):
        bl.minimise(
            Bare().at(y), bl.solvers.HalfQuadratic(), y + 1, tol=bl.Tolerance(residual=1e-3)
        )

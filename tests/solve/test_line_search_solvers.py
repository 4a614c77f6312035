"""L-BFGS and Newton-CG: their curvature against dense matrices, rows, floors, bad input."""

from __future__ import annotations

import pytest
import torch

import bilevel as bl
from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.linear.quasi_newton import Memory
from contracts.zoo import make, reference

SOLVERS = {"l-bfgs": bl.solvers.LBFGS(), "newton-cg": bl.solvers.NewtonCG()}


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 11])
def test_memory_is_the_dense_bfgs_matrix_of_its_last_pairs(count: int) -> None:
    """Nocedal and Wright 2006, (6.17), from gamma I, pair after pair; rows of different ages."""
    n, size = 6, 4
    memory = Memory.empty(torch.zeros(2, 1, 1, n).double(), size, torch.tensor([0.7, 0.2]).double())
    kept: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[], []]
    for k in range(count):
        s = torch.randn(2, 1, 1, n, dtype=torch.float64)
        y = s * torch.rand(n, dtype=torch.float64) + 0.01 * torch.randn(2, 1, 1, n).double()
        good = (rows.inner(s, y) > 0) & torch.tensor([True, k % 2 == 0])
        memory = memory.add(s, y, good)
        for row in torch.nonzero(good).flatten().tolist():
            kept[row].append((s[row].flatten(), y[row].flatten()))
    g = torch.randn(2, 1, 1, n, dtype=torch.float64)
    for row, first in enumerate((0.7, 0.2)):
        pairs = kept[row][-size:]
        gamma = (
            float(pairs[-1][0] @ pairs[-1][1] / (pairs[-1][1] @ pairs[-1][1])) if pairs else first
        )
        h = gamma * torch.eye(n, dtype=torch.float64)
        for s, y in pairs:
            rho = 1 / (s @ y)
            v = torch.eye(n, dtype=torch.float64) - rho * torch.outer(y, s)
            h = v.T @ h @ v + rho * torch.outer(s, s)
        torch.testing.assert_close(memory.apply(g)[row].flatten(), h @ g[row].flatten())


class Flattening(bl.Energy):
    """√(1 + (x - y)²): Newton's step from y + t leads to y - t³, uphill by far where t >> 1."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (1 + (x - y) ** 2).sqrt().flatten(1).sum(1)


@pytest.mark.parametrize("name", SOLVERS)
def test_the_gradient_handed_on_is_that_of_the_point(name: str) -> None:
    """After accepted and after rejected trials, in every row."""
    y = torch.rand(4, 1, 6, 8, dtype=torch.float64)
    far = torch.tensor([0.1, 3.0, 10.0, 30.0], dtype=torch.float64)[:, None, None, None]
    objective, solver = Flattening().at(y), SOLVERS[name]
    state = solver.init(objective, y + far)
    rejected, moved = [], []
    for _ in range(12):
        before, state = state.x, solver.step(objective, state)
        rejected.append(state.search.length < 1)
        moved.append((state.x != before).flatten(1).any(1))
        torch.testing.assert_close(solver.gradient(state), objective.grad(state.x))
    assert torch.stack(rejected).any(0)[1:].all(), "trials far away should be rejected"
    assert torch.stack(moved).any(0).all(), "and others accepted"


@pytest.mark.parametrize("name", SOLVERS)
def test_rows_stop_by_themselves_and_equal_lone_solves(name: str) -> None:
    case = make("circular", "foe charbonnier", 1, torch.float64, batch=5)
    y = case.y * torch.tensor([0.0, 1e-2, 1.0, 3.0, 10.0], dtype=torch.float64)[:, None, None, None]
    tol = bl.Tolerance(rms=1e-6)
    together = bl.minimise(case.energy.at(y), SOLVERS[name], tol=tol).require()
    assert len(set(together.steps.tolist())) > 1, "rows should need different numbers of steps"
    for k in range(5):
        lone = bl.minimise(case.energy.at(y[k : k + 1]), SOLVERS[name], tol=tol)
        assert abs(int(lone.steps[0]) - int(together.steps[k])) <= 1
        torch.testing.assert_close(lone.x[0], together.x[k], rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_gradient_a_step_and_no_more(name: str) -> None:
    case = make("identity", "tv charbonnier", 2, torch.float64)
    objective = case.energy.at(case.y)
    solution = bl.minimise(objective, SOLVERS[name], tol=bl.Tolerance(rms=1e-8)).require()
    assert objective.cost.gradient_evaluations == int(solution.steps[0]) + 1


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("regulariser", ["foe student-t", "ridge weakly convex"])
def test_non_convex_energies_end_stationary(name: str, regulariser: str) -> None:
    case = make("mask", regulariser, 6, torch.float64, batch=6)
    strong = bl.Variational(case.energy.fidelity, case.energy.regulariser).double()
    with torch.no_grad():
        parameters = dict(strong.named_parameters())
        parameters["regulariser.terms.0.log_weight"] += 3.0
    assert float(strong.bounds(case.y).mu) < 0
    start = torch.rand(6, 1, 6, 8, dtype=torch.float64)
    tol = bl.Tolerance(residual=1e-7)
    found = bl.minimise(strong.at(case.y), SOLVERS[name], start, tol=tol).require()
    assert float(strong.at(case.y).grad(found.x).abs().max()) < 1e-5


def test_newton_is_fast_near_the_minimiser() -> None:
    """At least quadratic-like: from rms 1e-2 to 1e-10 in a handful of steps."""
    case = make("circular", "foe log-cosh", 3, torch.float64)
    exact = reference(case.energy, case.target, case.y)
    start = exact + 0.01 * torch.randn_like(exact)
    newton = bl.solvers.NewtonCG()
    found = bl.minimise(case.energy.at(case.y), newton, start, tol=bl.Tolerance(rms=1e-10))
    assert int(found.require().steps[0]) <= 10


@pytest.mark.parametrize("name", SOLVERS)
def test_the_floor_of_float32_is_told(name: str) -> None:
    tv = bl.regularisers.TotalVariation(1.0, 1e-3)
    energy, y = bl.Variational(bl.fidelities.SquaredL2(), tv), torch.rand(2, 1, 16, 16)
    found = bl.minimise(energy.at(y), SOLVERS[name], tol=bl.Tolerance(rms=1e-9))
    assert found.status.tolist() == [bl.Status.STALLED] * 2
    assert int(found.steps.max()) < 1000, "a line search that cannot move ends the row"


@pytest.mark.parametrize("name", SOLVERS)
def test_infinite_values_keep_the_last_finite_point(name: str) -> None:
    class Barrier(bl.Energy):
        """-log x: infinite where a step is too long."""

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return (x * y - x.log()).flatten(1).sum(1)

    y = torch.rand(2, 1, 4, 4, dtype=torch.float64) + 0.5
    found = bl.minimise(
        Barrier().at(y), SOLVERS[name], torch.full_like(y, 1e-3), tol=bl.Tolerance(residual=1e-9)
    )
    torch.testing.assert_close(found.require().x, 1 / y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bl.solvers.LBFGS(memory=0), "memory >= 1"),
        (lambda: bl.solvers.LBFGS(first_change=0.0), "first_change > 0"),
        (lambda: bl.solvers.NewtonCG(forcing=1.0), "0 < forcing < 1"),
        (lambda: bl.solvers.NewtonCG(max_products=0), "max_products"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()

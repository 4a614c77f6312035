from __future__ import annotations

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.solve import Status, Tolerance, minimise
from bilevel.solve.solvers import ADMM, PDHG, automatic

DATA = torch.rand(2, 1, 9, 8, dtype=torch.float64, generator=generator(0, "data"))


def energy(exponent: float, *, blurred: bool = False) -> bl.Variational:
    line = torch.tensor([1.0, 4.0, 1.0]) / 6
    operator = bl.operators.Convolution(line[:, None] * line) if blurred else None
    term = bl.regularisers.ExactDirectionalTV(0.1, exponent, 30.0, 6.0, scale=1.0)
    return bl.Variational(bl.fidelities.SquaredL2(operator), term).double()


@pytest.mark.parametrize(
    ("exponent", "blurred"), [(1.0, False), (1.4, False), (2.0, False), (1.0, True), (1.4, True)]
)
def test_admm_and_pdhg_prove_the_same_minimiser(exponent: float, blurred: bool) -> None:
    objective = energy(exponent, blurred=blurred).at(DATA)
    tol = Tolerance(gap=1e-4)
    by_admm = minimise(objective, ADMM(), tol=tol).require()
    by_pdhg = minimise(objective, PDHG(), tol=tol).require()
    values = (by_admm, by_pdhg)
    first, second = (objective.value(solution.x) for solution in values)
    assert bool(((first - second).abs() <= 1e-4).all())
    if not blurred:
        apart = (by_admm.x - by_pdhg.x).square().mean((1, 2, 3)).sqrt()
        assert bool((apart <= by_admm.certificate.rms + by_pdhg.certificate.rms).all())


def test_where_nothing_is_proved_no_row_converges() -> None:
    """Exponents below 1: it settles, no worse than the smooth form does, and claims nothing."""
    objective = energy(0.7).at(DATA[:1])
    found = minimise(objective, ADMM(), tol=Tolerance(rms=1.0), max_steps=800)
    assert bool((found.status == Status.STALLED).all())
    assert bool(found.certificate.rms.isinf().all()) and bool(found.certificate.gap.isinf().all())
    smooth = bl.regularisers.DirectionalTV(0.1, 0.003, 0.7, 30.0, 6.0, scale=1.0)
    other = bl.Variational(bl.fidelities.SquaredL2(), smooth).double().at(DATA[:1])
    x = minimise(other, bl.solvers.LBFGS(), tol=Tolerance(residual=1e-5), max_steps=1000).x
    assert bool((objective.value(found.x) <= 1.05 * objective.value(x)).all())
    assert isinstance(automatic(objective).solver, ADMM)
    assert isinstance(automatic(energy(1.4).at(DATA)).solver, PDHG)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="ADMM"):
        minimise(energy(0.7).at(DATA), PDHG(), tol=Tolerance(rms=1e-3))
    boxed = bl.regularisers.ExactDirectionalTV(0.1) + bl.regularisers.Box(0.0, 1.0)
    objective = bl.Variational(bl.fidelities.SquaredL2(), boxed).double().at(DATA)
    with pytest.raises(InputError, match="neither a box"):
        minimise(objective, ADMM(), tol=Tolerance(rms=1e-3))
    with pytest.raises(InputError, match="growth"):
        ADMM(growth=0.5)


@pytest.mark.parametrize("exponent", [0.7, 1.4])
def test_powers_are_not_learned_with(exponent: float) -> None:
    term = bl.regularisers.ExactDirectionalTV(0.1, exponent)
    energy = bl.Variational(bl.fidelities.SquaredL2(learn=("weight",)), term).double()
    pairs = bl.data.Pairs(DATA, DATA, ("a", "b"))
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    with pytest.raises(InputError, match="DirectionalTV"):
        bl.learn(problem, bl.algorithms.MAID(), budget=bl.Budget(steps=1))

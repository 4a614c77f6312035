"""Penalties of θ: derivatives, once a mean whatever it is taken over, and told apart in fits."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.ground import theta as algebra
from bilevel.learn import Algorithm
from bilevel.learn.algorithms import (
    DFOLS,
    F2SA,
    ISGD,
    LBFGS,
    MAID,
    SABA,
    DynamicSampling,
    GaussNewton,
    ProjectedGradient,
)
from bilevel.learn.directions import Draw
from bilevel.learn.penalties import Distance, Penalty, Roughness, Size
from contracts.problems import images

DOUBLE = torch.float64
NAME = "regulariser.log_weight"
RNG = torch.Generator().manual_seed(0)
THETA = {
    "map": torch.randn(4, 5, generator=RNG, dtype=DOUBLE),
    "part.filters": torch.randn(2, 1, 3, 3, generator=RNG, dtype=DOUBLE),
    "part.w": torch.randn((), generator=RNG, dtype=DOUBLE),
}
PENALTIES: dict[str, Penalty] = {
    "distance": Distance(0.7, ("part",), {"part.w": 2.0}).fitted(algebra.add(THETA, THETA)),
    "size": Size(0.7, ("part.filters",)),
    "absolute size": Size(norm="l1", smoothing=0.1),
    "roughness": Roughness(0.7),
    "sum": Roughness() + 0.5 * Size(2.0, ("map",)),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_derivatives_are_those_of_the_values(name: str) -> None:
    penalty = PENALTIES[name]
    value, grad = penalty.value_and_grad(THETA)
    assert value == penalty.value(THETA) > 0
    found = bl.finite_differences(penalty.value, THETA)
    assert algebra.norm(algebra.add(found, grad, -1.0)) <= 1e-8 * (1 + algebra.norm(grad))
    matrix, at = penalty.hessian(THETA), algebra.flatten(THETA)
    assert matrix.shape == (len(at), len(at))
    for entry in range(0, len(at), 7):
        shift = torch.zeros_like(at)
        shift[entry] = 1e-6
        ends = [
            algebra.flatten(penalty.value_and_grad(algebra.unflatten(at + s * shift, THETA))[1])
            for s in (1, -1)
        ]
        torch.testing.assert_close(matrix[entry], (ends[0] - ends[1]) / 2e-6, rtol=1e-5, atol=1e-7)


def problem(
    penalty: Penalty | None, dtype: torch.dtype = DOUBLE, samples: int = 4
) -> bl.BilevelProblem:
    whole = images(dtype=dtype, order=tuple(range(samples)))
    return bl.BilevelProblem(whole.energy, whole.loss, whole.samples, penalty=penalty)


@pytest.mark.parametrize("drawn", [[0], [1, 3], [0, 1, 2, 3]])
def test_it_is_counted_once_a_mean(drawn: list[int]) -> None:
    penalty = Distance(3.0, values={NAME: -1.0})
    plain, priced = problem(None), problem(penalty)
    value, grad = penalty.value_and_grad(plain.theta)
    ids = torch.tensor(drawn)
    one, other = (p.value_and_grad(p.theta, tol=1e-6, ids=ids) for p in (plain, priced))
    assert other.value == pytest.approx(one.value + value, rel=1e-12)
    assert other.interval == one.interval
    assert other.error == one.error
    apart = algebra.add(algebra.add(other.grad, one.grad, -1.0), grad, -1.0)
    assert algebra.norm(apart) < 1e-10
    draw = Draw(ids, ids)
    at = [p.directions(p.theta, p.iterates(p.theta), draw) for p in (plain, priced)]
    assert at[1].value == pytest.approx(at[0].value + value, rel=1e-12)
    apart = algebra.add(algebra.add(at[1].theta, at[0].theta, -1.0), grad, -1.0)
    assert algebra.norm(apart) < 1e-10


ALGORITHMS: dict[str, Algorithm] = {
    "maid": MAID(),
    "l-bfgs": LBFGS(),
    "gauss-newton": GaussNewton(),
    "projected gradient": ProjectedGradient(),
    "dfo-ls": DFOLS(),
    "dynamic sampling": DynamicSampling(first=2),
    "isgd": ISGD(),
    "saba": SABA(),
    "f2sa": F2SA(),
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_kind_of_algorithm_minimises_it_too(name: str) -> None:
    """A large penalty decides: θ ends near the value that it names."""
    start = float(images().theta[NAME])
    priced = problem(Distance(1.0, (NAME,), {NAME: start + 0.5}), samples=2)
    steps = 25 if name in ("isgd", "saba", "f2sa") else 6  # of single directions
    fit = bl.learn(priced, ALGORITHMS[name], budget=bl.Budget(steps=steps))
    off = abs(float(fit.theta[NAME]) - start - 0.5)
    assert off < 0.15, fit


def test_it_is_told_apart_in_records_and_fits(tmp_path: Path) -> None:
    penalty = Distance(3.0, (NAME,), {NAME: -1.0})
    plain, priced = problem(None, torch.float32), problem(penalty, torch.float32)
    one, other = (bl.learn(p, budget=bl.Budget(steps=1)).history[0] for p in (plain, priced))
    assert one.penalty == 0
    assert other.penalty == pytest.approx(penalty.value(priced.theta))
    assert other.value == pytest.approx(one.value + other.penalty)
    assert other.psnr == pytest.approx(one.psnr)
    fit = bl.learn(priced, budget=bl.Budget(steps=2))
    again = bl.load(fit.save(tmp_path / "fit"))
    assert again.history[-1].penalty == fit.history[-1].penalty
    with pytest.raises(bl.InputError, match="penalty"):
        bl.learn(problem(2 * penalty, torch.float32), budget=bl.Budget(steps=1), resume=fit)


def test_a_penalty_of_what_is_not_learned_is_refused() -> None:
    for wrong, says in (
        (Size(parameters=("regulariser.weights",)), "which is not learned"),
        (Distance(values={"ridge": 1.0}), "which is not learned"),
        (Roughness(), "roughness is one of maps"),
    ):
        with pytest.raises(bl.InputError, match=says):
            problem(wrong)
    for make in (lambda: Size(-1.0), lambda: -1.0 * Size(), lambda: Size(smoothing=0.0)):
        with pytest.raises(bl.InputError, match="must be a positive"):
            make()
    with pytest.raises(bl.InputError, match="the value of 'a' must be finite"):
        bl.penalties.Distance(values={"a": torch.nan})
    with pytest.raises(bl.InputError, match="unknown norm"):
        Size(norm="l3")  # type: ignore[arg-type]


def test_maps_of_weights_become_smooth() -> None:
    weight = torch.full((10, 10), 0.05)
    tv = bl.regularisers.TotalVariation(weight, 0.05, learn=("weight",))
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
    rough = {}
    for penalty in (None, Roughness(1e-2)):
        priced = bl.BilevelProblem(
            energy, bl.losses.SquaredError(), images().samples, penalty=penalty
        )
        fit = bl.learn(priced, budget=bl.Budget(steps=5))
        rough[penalty is None] = Roughness().value(fit.theta)
    assert math.sqrt(rough[False]) < 0.5 * math.sqrt(rough[True])

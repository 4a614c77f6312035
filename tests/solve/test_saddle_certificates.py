"""Gaps and distances of exact TV problems against a dense reference, at every stage of a solve."""

from __future__ import annotations

import copy
import itertools
import math
from functools import cache

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.model import SaddleObjective
from bilevel.solve import certify
from contracts.operators import dense
from contracts.zoo import OPERATORS, PIXELS, SHAPE, log_uniform, normal
from solve.saddle_reference import Dense, solve

BOXES = {False: (-math.inf, math.inf), True: (0.2, 0.7)}
NAMES = list(itertools.product(OPERATORS, (True, False), (False, True), (False, True), (0, 1)))


@cache
def problems() -> list[tuple[bl.Variational, Tensor, Dense]]:
    return [make(*name) for name in NAMES]


def make(
    operator: str, isotropic: bool, absolute: bool, boxed: bool, seed: int
) -> tuple[bl.Variational, Tensor, Dense]:
    rng = generator(seed, operator, isotropic, absolute, boxed)
    a = OPERATORS[operator](rng).double()
    target = torch.rand(1, *SHAPE, generator=rng).double().round()
    y = a(target)
    y = y + 0.1 * normal(rng, *y.shape).double()
    weight = torch.as_tensor(log_uniform(rng, -2, -0.5))
    if seed:
        weight = weight * (0.5 + torch.rand(SHAPE[1:], generator=rng))
    fidelity = log_uniform(rng, -0.5, 0.5)
    data = bl.fidelities.L1 if absolute else bl.fidelities.SquaredL2
    parts = bl.regularisers.ExactTotalVariation(weight, isotropic=isotropic)
    ridge = log_uniform(rng, -2, -0.5) if seed else 0.0
    if ridge:
        parts = parts + bl.regularisers.Tikhonov(ridge)
    lower, upper = BOXES[boxed]
    if boxed:
        parts = parts + bl.regularisers.Box(lower, upper)
    energy = bl.Variational(data(a, fidelity), parts).double()
    tv = parts.parts[0] if isinstance(parts, bl.regularisers.Sum) else parts
    matrix = Dense(
        a=dense(a, SHAPE),
        y=y.flatten(),
        fidelity=energy.fidelity.weight.item(),
        absolute=absolute,
        weights=tv.weight.detach().expand(SHAPE[1:]).flatten(),
        isotropic=isotropic,
        ridge=parts.parts[1].weight.item() if ridge else 0.0,
        lower=lower,
        upper=upper,
        shape=SHAPE[1:],
    )
    return energy, y, matrix


@cache
def references() -> Tensor:
    return solve([matrix for _, _, matrix in problems()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gap_and_distance_are_never_violated(dtype: torch.dtype) -> None:
    proved = {"gap": 0, "rms": 0}
    solver = bl.solvers.PDHG()
    for (energy, y, matrix), exact in zip(problems(), references(), strict=True):
        objective = copy.deepcopy(energy).to(dtype).at(y.to(dtype))
        lowest = matrix.value(exact)
        state = solver.init(objective, objective.start())
        with torch.no_grad():
            for steps in (1, 10, 60):
                for _ in range(steps):
                    state = solver.step(objective, state)
                found = certify(objective, state.x, None, None, solver.dual(state))
                x = state.x.double().flatten()
                noise = 1e-7 if dtype == torch.float64 else 1e-6
                assert matrix.value(x) - lowest <= float(found.gap) + noise * (1 + lowest)
                distance = float((x - exact).square().mean().sqrt())
                assert distance <= float(found.rms) + 1e-4
                assert float(found.gap) >= 0
                proved["gap"] += math.isfinite(float(found.gap))
                proved["rms"] += math.isfinite(float(found.rms))
    assert proved["gap"] >= 300
    assert proved["rms"] >= 200


def test_pdhg_reaches_the_reference() -> None:
    tried = 0
    for (energy, y, matrix), exact in list(zip(problems(), references(), strict=True))[::5]:
        objective = energy.at(y)
        assert isinstance(objective, SaddleObjective)
        goal = matrix.value(exact)
        begin = certify(objective, objective.start())
        if not math.isfinite(float(begin.gap)):
            continue
        tol = bl.Tolerance(gap=1e-5 * goal)
        solution = bl.minimise(objective, bl.solvers.PDHG(), tol=tol).require()
        reached = objective.value(solution.x).item()
        assert reached <= (1 + 1.01e-5) * goal
        assert matrix.absolute or reached >= (1 - 1e-7) * goal
        tried += 1
    assert tried >= 15


def test_value_is_that_of_the_dense_problem() -> None:
    for (energy, y, matrix), _ in zip(problems()[::7], itertools.count()):
        x = 0.2 + torch.rand(1, *SHAPE, dtype=torch.float64) / 2
        expected = matrix.value(x.flatten())
        assert energy.at(y).value(x).item() == pytest.approx(expected, rel=1e-12)
        with torch.no_grad():
            assert energy.forward(x, y).item() == pytest.approx(expected, rel=1e-12)
    assert matrix.a.shape[1] == PIXELS

"""Steps in one function: what they compute, what they count, as written and compiled."""

from __future__ import annotations

from dataclasses import fields
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.fused import fused
from bilevel.model import Objective, SmoothObjective
from bilevel.model.saddle import SaddleObjective
from bilevel.solve import Solver
from bilevel.solve.solvers import nesterov, pdhg

R = bl.regularisers
MAP = 0.05 + 0.1 * torch.rand(7, 9, generator=torch.Generator().manual_seed(1))
SMOOTH = {
    "isotropic": R.TotalVariation(0.1, 0.02),
    "anisotropic": R.TotalVariation(0.1, 0.02, isotropic=False),
    "huber": R.TotalVariation(0.1, 0.02, potential="huber"),
    "map": R.TotalVariation(MAP, 0.02),
    "sum": R.TotalVariation(0.1, 0.02) + R.Tikhonov(1e-2),
}
EXACT = {
    "isotropic": R.ExactTotalVariation(0.1),
    "anisotropic": R.ExactTotalVariation(0.1, isotropic=False),
    "map": R.ExactTotalVariation(MAP),
    "box": R.ExactTotalVariation(0.1) + R.Box(0.2, 0.8),
    "sparse": R.ExactTotalVariation(0.1) + R.Sparsity(0.05),
}
FIDELITIES = {"squares": bl.fidelities.SquaredL2(), "absolute": bl.fidelities.L1()}
NESTEROV, PDHG = bl.solvers.Nesterov(), bl.solvers.PDHG()


def data(dtype: torch.dtype) -> Tensor:
    return torch.rand(3, 2, 7, 9, generator=torch.Generator().manual_seed(2)).to(dtype)


def energy(regulariser: bl.regularisers.Regulariser, fidelity: str = "squares") -> bl.Variational:
    return bl.Variational(FIDELITIES[fidelity], regulariser)


def after_steps(solver: Solver[Any], objective: Objective, steps: int) -> list[Tensor]:
    with torch.no_grad():
        state = solver.init(objective, objective.start())
        for _ in range(steps):
            state = solver.step(objective, state)
    values = [getattr(state, field.name) for field in fields(state)]
    return [t for v in values for t in (v if isinstance(v, tuple) else (v,))]


def check_whole_is_sum_of_parts(
    solver: Solver[Any], of: bl.Variational, monkeypatch: pytest.MonkeyPatch
) -> None:
    y = data(torch.float64)
    assert pure(of.double().at(y))
    objective, apart = of.at(y), of.at(y)
    whole = after_steps(solver, objective, 20)
    with monkeypatch.context() as patch:
        patch.setattr(SmoothObjective, "summands", lambda self, x: None)
        assert not pure(apart)
        parts = after_steps(solver, apart, 20)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert ledger(objective) == ledger(apart)


def pure(objective: Objective) -> bool:
    x = objective.start()
    saddle = isinstance(objective, SaddleObjective)
    return (objective.smooth_summands(x) if saddle else objective.summands(x)) is not None


def ledger(objective: Objective) -> bl.Cost:
    if isinstance(objective, SaddleObjective):
        return objective.smooth.cost
    assert isinstance(objective, SmoothObjective)
    return objective.cost


@pytest.mark.parametrize("name", SMOOTH)
def test_nesterov_in_one_function(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_whole_is_sum_of_parts(NESTEROV, energy(SMOOTH[name]), monkeypatch)


@pytest.mark.parametrize("fidelity", FIDELITIES)
@pytest.mark.parametrize("name", EXACT)
def test_pdhg_in_one_function(name: str, fidelity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_whole_is_sum_of_parts(PDHG, energy(EXACT[name], fidelity), monkeypatch)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.parametrize(
    ("module", "solver", "regulariser"),
    [(nesterov, NESTEROV, SMOOTH["map"]), (pdhg, PDHG, EXACT["map"])],
    ids=["nesterov", "pdhg"],
)
def test_compiled_equals_as_written(
    module: ModuleType,
    solver: Solver[Any],
    regulariser: bl.regularisers.Regulariser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective = energy(regulariser).float().at(data(torch.float32))
    monkeypatch.setenv("BILEVEL_COMPILE", "never")
    written = after_steps(solver, objective, 5)
    step = fused(module._whole_step.function)
    monkeypatch.setattr(module, "_whole_step", step)
    monkeypatch.setenv("BILEVEL_COMPILE", "always")
    compiled = after_steps(solver, objective, 5)
    assert step.compiled is not None
    assert not step.failed
    for a, b in zip(written, compiled, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_operators_and_tapes_keep_the_gradient() -> None:
    blur = bl.fidelities.SquaredL2(bl.operators.Convolution(torch.full((3, 3), 1 / 9)))
    y = data(torch.float32)
    assert bl.Variational(blur, SMOOTH["isotropic"]).float().at(y).summands(y) is None
    objective = energy(SMOOTH["isotropic"]).float().at(y)
    assert objective.taped(objective.theta).summands(y) is None

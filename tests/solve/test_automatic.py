"""The solver picked for each kind of energy reaches its tolerance."""

from __future__ import annotations

import pytest
import torch

import bilevel as bl
from contracts.zoo import REGULARISERS, make

KINDS = {
    "box": (bl.regularisers.Tikhonov(0.1) + bl.regularisers.Box(0.2, 0.7), bl.solvers.FISTA),
    "exact tv": (bl.regularisers.ExactTotalVariation(0.1), bl.solvers.PDHG),
    "exact tv in a box": (
        bl.regularisers.ExactTotalVariation(0.1) + bl.regularisers.Box(0.0, 1.0),
        bl.solvers.PDHG,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_non_smooth_energies(kind: str) -> None:
    regulariser, solver = KINDS[kind]
    energy = bl.Variational(bl.fidelities.SquaredL2(), regulariser).double()
    objective = energy.at(torch.rand(2, 1, 8, 9, dtype=torch.float64))
    choice = bl.solvers.automatic(objective)
    assert isinstance(choice.solver, solver)
    assert "no gradient" in choice.reason
    bl.minimise(objective, choice.solver, tol=bl.Tolerance(rms=1e-4)).require()


@pytest.mark.parametrize("regulariser", REGULARISERS)
def test_smooth_energies(regulariser: str) -> None:
    case = make("circular", regulariser, 0, torch.float64)
    choice = bl.solvers.automatic(case.energy.at(case.y))
    assert isinstance(choice.solver, bl.solvers.LBFGS)
    bl.minimise(case.energy.at(case.y), choice.solver, tol=bl.Tolerance(rms=1e-6)).require()

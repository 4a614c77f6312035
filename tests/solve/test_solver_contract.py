"""Every solver keeps the contract, and the contract notices one that does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bilevel.solve.solvers import LBFGS
from bilevel.solve.solvers.lbfgs import LBFGSState
from contracts.solvers import SOLVERS, SolverContract


class TestSolvers(SolverContract):
    names = tuple(SOLVERS)


class Boasting(LBFGS):
    """Hands on a hundredth of its gradients, as if it were there."""

    def gradient(self, state: LBFGSState) -> Tensor:
        return 0.01 * super().gradient(state)


class Uncounted(LBFGS):
    """Takes a gradient of its own past the ledger."""

    def step(self, objective, state):
        objective.rows(torch.arange(len(state.x))).double().grad(state.x.double())
        objective.cost.gradient_evaluations -= len(state.x)
        return super().step(objective, state)


def test_the_contract_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    contract = SolverContract()
    monkeypatch.setitem(SOLVERS, "boasting", Boasting())
    with pytest.raises(AssertionError):
        contract.test_certificates_are_true("boasting", "plain", torch.float64)
    monkeypatch.setitem(SOLVERS, "uncounted", Uncounted())
    with pytest.raises(AssertionError):
        contract.test_the_ledger_counts_what_is_done("uncounted", monkeypatch)

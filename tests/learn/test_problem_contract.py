"""Every problem and every view of one keeps the contract, which notices those that do not."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from bilevel.ground import theta as algebra
from bilevel.learn.budget import Ledger
from bilevel.learn.scaling import ScaledProblem
from bilevel.model import Cost
from contracts import problems
from contracts.problems import PROBLEMS, ProblemContract


class TestProblems(ProblemContract):
    names = tuple(PROBLEMS)


class Elsewhere(ScaledProblem):
    """With an account of its own, which nobody pays."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.level = copy.copy(self.level)
        self.level.ledger = Ledger(Cost())


class Doubled(ScaledProblem):
    """Twice the gradient."""

    def value_and_grad(self, *arguments: Any, **options: Any) -> Any:
        found = super().value_and_grad(*arguments, **options)
        return replace(found, grad=algebra.add(found.grad, found.grad))


def test_the_contract_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    contract = ProblemContract()
    for wrong, test in (
        (Elsewhere, contract.test_budgets_are_kept_and_costs_told),
        (Doubled, contract.test_the_gradient_is_that_of_the_value),
    ):
        monkeypatch.setitem(
            problems.VIEWS, "wrong", lambda problem, wrong=wrong: wrong(problem, {})
        )
        with pytest.raises(AssertionError):
            test("images", "wrong")

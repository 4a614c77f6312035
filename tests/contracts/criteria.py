"""What every criterion of learning without ground truth must do; inherit ``CriterionContract``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.ground.theta import bind
from bilevel.select import Path
from bilevel.select.degrees import Degrees
from bilevel.select.rule import Rule
from contracts import unusual
from contracts.dense import SIGMA, Problem, problem
from contracts.rows import rows

MONTE_CARLO = Degrees("monte carlo", probes=2, seed=3)
WEIGHTS = (0.05, 0.5)


@dataclass(frozen=True)
class Row:
    """A criterion and the rule of the same name for noise s times as large; the power of s."""

    criterion: Callable[[float], bl.learn.Criterion]
    rule: Callable[[float], Rule]
    power: int


CRITERIA: dict[str, Row] = {
    "SURE": Row(
        lambda s: bl.criteria.SURE(s * SIGMA, 2, 3),
        lambda s: bl.rules.PredictedRisk(s * SIGMA, MONTE_CARLO),
        2,
    ),
    "GSURE": Row(
        lambda s: bl.criteria.GSURE(s * SIGMA, 2, 3),
        lambda s: bl.rules.GSURE(s * SIGMA, MONTE_CARLO),
        2,
    ),
    "hold-out": Row(lambda s: bl.criteria.HoldOut(0.3, 1), lambda s: bl.rules.HoldOut(0.3, 1), 2),
    "whiteness": Row(lambda s: bl.criteria.Whiteness(), lambda s: bl.rules.Whiteness(), 0),
    "whiteness in patches": Row(
        lambda s: bl.criteria.Whiteness(patch=4), lambda s: bl.rules.Whiteness(4), 0
    ),
}
FORWARD = ("denoise", "mask", "blur", "matrix", "fourier", "complex")


def of_criterion(
    p: Problem, name: str, weight: float, y: Tensor, scale: float = 1.0
) -> bl.UnsupervisedProblem:
    """At that weight of the regulariser."""
    log = torch.tensor(weight, dtype=torch.float64).log()
    energy = bind(p.energy, {"regulariser.log_weight": log})
    return bl.UnsupervisedProblem(energy, y, CRITERIA[name].criterion(scale))


def value(problem: bl.UnsupervisedProblem, scale: float = 1.0) -> float:
    return problem.value(problem.theta, tol=1e-11 * scale)


class CriterionContract:
    names: ClassVar[tuple[str, ...]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "forward" in metafunc.fixturenames:
            metafunc.parametrize(("name", "forward"), rows(self.names, FORWARD))
        elif "situation" in metafunc.fixturenames:
            product = rows(self.names, unusual.SMOOTH)
            metafunc.parametrize(("name", "situation"), product)
        else:
            metafunc.parametrize("name", self.names)

    def test_values_are_those_of_the_rule(self, name: str, forward: str) -> None:
        """Rules have closed forms in their contract."""
        p, rule = problem(forward, "identity"), CRITERIA[name].rule(1.0)
        y = p.y[:1]
        for weight in WEIGHTS:
            path = Path(rule.prepare(p.energy, y), y, accuracy=1e-11, rtol=1e-11)
            found = rule.value(path.at(torch.tensor([weight], dtype=torch.float64)))
            mine = value(of_criterion(p, name, weight, y))
            assert mine == pytest.approx(float(found), rel=1e-4)  # of pseudo-inverses

    def test_a_batch_gives_what_its_rows_give(self, name: str) -> None:
        """Where every image has a row of its own; those of probes are other draws in a batch."""
        p = problem("blur", "identity")
        both = of_criterion(p, name, 0.3, p.y)
        losses = both.values(both.theta, tol=1e-11)
        if len(losses) > len(p.y):
            pytest.skip("draws a probe for each row of the batch")
        for k in range(len(p.y)):
            alone = value(of_criterion(p, name, 0.3, p.y[k : k + 1]))
            assert alone == pytest.approx(float(losses[k]), rel=1e-8)

    def test_scale_of_the_data(self, name: str) -> None:
        p = problem("blur", "identity")
        unit = value(of_criterion(p, name, 0.3, p.y))
        for scale in (1e-3, 255.0):
            found = value(of_criterion(p, name, 0.3, scale * p.y, scale), scale)
            assert found == pytest.approx(scale ** CRITERIA[name].power * unit, rel=1e-6)

    def test_applies_or_says_why_not(self, name: str, situation: str) -> None:
        """In situations that others leave out, a right gradient, or one clear error."""
        case = unusual.make(situation, batch=2)
        try:
            seen = bl.UnsupervisedProblem(case.energy, case.y, CRITERIA[name].criterion(1.0))
        except InputError:
            return
        report = bl.check_hypergradient(seen)
        assert report.passed, str(report)

"""What every bilevel problem, and every view of one, must do; inherit ``ProblemContract``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import torch

import bilevel as bl
from bilevel.ground import theta as algebra
from bilevel.learn import DirectedProblem, Problem, Status
from bilevel.learn.sample import Sample
from bilevel.learn.scaling import ScaledProblem
from contracts import unusual
from contracts.quadratics import Quadratic
from contracts.rows import rows

DOUBLE = torch.float64
Build = Callable[[int, torch.dtype], DirectedProblem]
"""From samples solved at once and a type."""


def images(
    chunk: int = 64, dtype: torch.dtype = DOUBLE, order: tuple[int, ...] = (0, 1, 2, 3)
) -> bl.BilevelProblem:
    clean = bl.data.embedded_images(size=10).double()[:4]
    pairs = bl.data.simulate(clean, bl.operators.Identity(), bl.data.GaussianNoise(0.1), seed=0)
    tv = bl.regularisers.TotalVariation(0.05, 0.05)
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).to(dtype)
    some = pairs[list(order)].to(dtype)
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), some, chunk=chunk)


def segmented(chunk: int = 64, dtype: torch.dtype = DOUBLE) -> bl.BilevelProblem:
    """Targets are labels, of the loss nothing is proved, and θ has a price."""
    whole = images(chunk, dtype)
    labels = (whole.samples.target > 0.4).to(dtype)
    pairs = bl.data.Pairs(whole.samples.y, labels, whole.samples.ids)
    bright = torch.nn.Conv2d(1, 1, 1)
    torch.nn.init.constant_(bright.weight, 10.0)
    torch.nn.init.constant_(bright.bias, -4.0)
    loss = bl.losses.SegmentationLoss(bright)
    near = bl.penalties.Distance(1e-2, values={"regulariser.log_weight": -2.0})
    both = near + 1e-3 * bl.penalties.Size(norm="l1", smoothing=0.1)
    return bl.BilevelProblem(whole.energy, loss, pairs, chunk=chunk, penalty=both)


def unsupervised(chunk: int = 64, dtype: torch.dtype = DOUBLE) -> bl.UnsupervisedProblem:
    whole = images(chunk, dtype)
    criterion = bl.criteria.SURE(0.1)
    return bl.UnsupervisedProblem(whole.energy, whole.samples.y, criterion, chunk=chunk)


def shared(chunk: int = 64, dtype: torch.dtype = DOUBLE) -> bl.SharedProblem:
    """One x for all samples: neither chunks nor, where it proves something, float32."""
    del chunk, dtype
    return Quadratic.random(0).problem()


def in_situation(name: str) -> Build:
    def build(chunk: int, dtype: torch.dtype) -> bl.BilevelProblem:
        case = unusual.make(name, dtype=dtype, batch=4)
        pairs = bl.data.Pairs(case.y, case.target, tuple("abcd"))
        return bl.BilevelProblem(case.energy, bl.losses.SquaredError(), pairs, chunk=chunk)

    return build


def half(problem: DirectedProblem) -> Problem:
    return Sample(problem, torch.arange(0, len(problem), 2))


def scaled(problem: DirectedProblem) -> Problem:
    return ScaledProblem(problem, dict.fromkeys(problem.theta, 2.0))


def twice(problem: DirectedProblem) -> Problem:
    return ScaledProblem(ScaledProblem(problem, {}), dict.fromkeys(problem.theta, 2.0))


PROBLEMS: dict[str, Build] = {
    "images": images,
    "segmented": segmented,
    "unsupervised": unsupervised,
    "shared": shared,
    **{name: in_situation(name) for name in (*unusual.SMOOTH, *unusual.ROUGH)},
}
VIEWS: dict[str, Callable[[DirectedProblem], Problem]] = {
    "itself": lambda problem: problem,
    "scaled": scaled,
    "scaled twice": twice,
    "sample": half,
}
WORK = ("value_and_grad", "look", "gauss_newton", "directions", "slope", "slopes")


@contextmanager
def watched(problem: Problem) -> Iterator[list[int]]:
    """What had been spent whenever an evaluation began that was carried out."""
    begun: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        for kind in type(problem).__mro__:
            for name in set(WORK) & set(vars(kind)):
                patch.setattr(kind, name, _noted(vars(kind)[name], begun))
        yield begun


def _noted(method: Callable[..., Any], begun: list[int]) -> Callable[..., Any]:
    def noted(self: Problem, *arguments: Any, **options: Any) -> Any:
        before = self.cost.gradient_evaluations
        found = method(self, *arguments, **options)
        begun.append(before)
        return found

    return noted


class ProblemContract:
    names: ClassVar[tuple[str, ...]]
    views: ClassVar[tuple[str, ...]] = tuple(VIEWS)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        factors = {"name": self.names, "view": self.views}
        asked = [factor for factor in factors if factor in metafunc.fixturenames]
        product = rows(*(factors[factor] for factor in asked), strength=1)
        metafunc.parametrize(asked, [self.marked(row) for row in product])

    @staticmethod
    def marked(row: Any) -> Any:
        """Those that take PDHG some thousand steps a solve are long."""
        slow = row.values[0] == "exact, wide state"
        return pytest.param(*row.values, marks=pytest.mark.long) if slow else row

    @staticmethod
    def accuracy(name: str) -> float:
        """What a solver reaches there."""
        return 1e-6 if name in unusual.ROUGH else 1e-9

    def test_the_gradient_is_that_of_the_value(self, name: str, view: str) -> None:
        problem = VIEWS[view](PROBLEMS[name](64, DOUBLE))
        report = bl.check_hypergradient(problem, tol=1e-5 if name in unusual.ROUGH else 1e-9)
        assert report.passed, str(report)

    def test_errors_are_bounds(self, name: str, view: str) -> None:
        fine, loose = (VIEWS[view](PROBLEMS[name](64, DOUBLE)) for _ in range(2))
        truth = fine.value_and_grad(fine.theta, tol=self.accuracy(name))
        for tol in (1e-1, 1e-3):
            found = loose.value_and_grad(loose.theta, tol=tol)
            assert abs(found.corrected - truth.corrected) <= found.interval + truth.interval
            off = algebra.norm(algebra.add(found.grad, truth.grad, -1.0))
            assert off <= found.error + truth.error

    def test_budgets_are_kept_and_costs_told(self, name: str, view: str) -> None:
        """An evaluation that would begin when the budget is just used up does not."""
        algorithm = bl.algorithms.LBFGS(tol=1e-9)
        whole, free = (PROBLEMS[name](64, DOUBLE) for _ in range(2))
        unlimited, seen = VIEWS[view](free), VIEWS[view](whole)
        assert seen.cost is whole.cost
        with watched(unlimited) as begun:
            bl.learn(unlimited, algorithm, budget=bl.Budget(steps=1))
        most = begun[-1]
        with watched(seen) as begun:
            fit = bl.learn(seen, algorithm, budget=bl.Budget(gradient_evaluations=most))
            assert fit.status is Status.BUDGET
            assert all(before < most for before in begun)
        assert fit.cost.gradient_evaluations == whole.cost.gradient_evaluations >= most
        before = whole.cost.gradient_evaluations
        rest = bl.learn(seen, bl.algorithms.MAID(), budget=bl.Budget(steps=1))
        assert rest.cost.gradient_evaluations == whole.cost.gradient_evaluations
        assert rest.cost.gradient_evaluations != before
        assert rest.cost.seconds > 0
        assert whole.level.ledger.budget is None

    def test_fits_go_on_bit_for_bit(self, name: str, view: str) -> None:
        algorithm = bl.algorithms.LBFGS(tol=1e-9)

        def problem() -> Problem:
            return VIEWS[view](PROBLEMS[name](64, DOUBLE))

        at_once = bl.learn(problem(), algorithm, budget=bl.Budget(steps=3))
        first = bl.learn(problem(), algorithm, budget=bl.Budget(steps=2))
        again = bl.learn(problem(), algorithm, budget=bl.Budget(steps=1), resume=first)
        for key, value in at_once.theta.items():
            assert torch.equal(value, again.theta[key])
        assert again.cost.gradient_evaluations == at_once.cost.gradient_evaluations
        assert [r.value for r in again.history] == [r.value for r in at_once.history]

    def test_the_mean_is_that_of_its_rows(self, name: str) -> None:
        problem, tol = PROBLEMS[name](64, DOUBLE), self.accuracy(name)
        if not problem.separable:
            pytest.skip("one x for all samples")
        losses = problem.values(problem.theta, tol=tol)
        whole = problem.value_and_grad(problem.theta, tol=tol)
        parts = [
            problem.value_and_grad(problem.theta, tol=tol, ids=torch.tensor([k]))
            for k in range(len(problem))
        ]
        found = torch.tensor([part.value for part in parts], dtype=DOUBLE)
        torch.testing.assert_close(found, losses, rtol=1e-4, atol=1e-6)
        assert whole.value == pytest.approx(float(losses.mean()), rel=1e-4, abs=1e-6)
        for key, value in whole.grad.items():
            mean = torch.stack([part.grad[key] for part in parts]).mean(0)
            torch.testing.assert_close(value, mean, rtol=1e-3, atol=1e-6)

    def test_chunks_do_not_matter(self, name: str) -> None:
        one, other = (PROBLEMS[name](chunk, DOUBLE) for chunk in (64, 3))
        a, b = (p.value_and_grad(p.theta, tol=1e-5) for p in (one, other))
        assert a.value == pytest.approx(b.value, rel=1e-9, abs=1e-12)
        assert a.samples == b.samples
        for key, value in a.grad.items():
            torch.testing.assert_close(b.grad[key], value, rtol=1e-6, atol=1e-9)

    def test_float32_and_float64(self, name: str) -> None:
        """The same problem to what float32 can tell, and its bounds know that."""
        fine, coarse = (PROBLEMS[name](64, dtype) for dtype in (DOUBLE, torch.float32))
        a, b = (p.value_and_grad(p.theta, tol=1e-3) for p in (fine, coarse))
        rounding = 1e-5 * (1 + abs(a.value))
        assert abs(a.corrected - b.corrected) <= a.interval + b.interval + rounding
        off = algebra.norm(algebra.add(a.grad, {k: v.double() for k, v in b.grad.items()}, -1.0))
        assert off <= a.error + b.error + rounding
        assert {v.dtype for v in b.grad.values()} == {v.dtype for v in coarse.theta.values()}

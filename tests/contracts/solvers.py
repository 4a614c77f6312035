"""What every lower-level solver must do; inherit ``SolverContract`` and name it in ``SOLVERS``."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.model import Objective
from bilevel.model.kinds import has_dual, is_kind
from bilevel.model.regularisers import stencil
from bilevel.solve import Solver, Status, certify
from contracts import unusual
from contracts.rows import rows
from contracts.zoo import Case, reference

S = bl.solvers
SOLVERS: dict[str, Solver[Any]] = {
    "gradient descent": S.GradientDescent(),
    "nesterov": S.Nesterov(),
    "convex": S.Nesterov(momentum="convex"),
    "strongly convex": S.Nesterov(momentum="strongly convex", restart=False),
    "backtracking": S.Nesterov(backtracking=True),
    "l-bfgs": S.LBFGS(),
    "newton-cg": S.NewtonCG(),
    "nmapg": S.NMAPG(),
    "ipiano": S.IPiano(),
    "free-fista": S.FreeFISTA(),
    "half-quadratic": S.HalfQuadratic(),
    "fista": S.FISTA(),
    "proximal newton": S.ProximalNewton(),
    "pdhg": S.PDHG(),
    "pdhg, not accelerated": S.PDHG(acceleration=0.0),
}
SITUATIONS = (*unusual.SMOOTH, *unusual.ROUGH)
DTYPES = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Accuracies asked for [grey value]."""


def scaled(case: Case) -> Case:
    """Rows that need unlike numbers of steps."""
    wide = torch.tensor([0.1, 0.4, 1.0]).to(case.y)[:, None, None, None]
    return replace(case, y=wide * case.y, target=wide * case.target)


@cache
def case_of(situation: str, dtype: torch.dtype) -> Case:
    return scaled(unusual.make(situation, dtype=dtype))


@cache
def minimisers(situation: str, dtype: torch.dtype) -> Tensor:
    """By dense methods in float64, of the numbers as that type holds them."""
    case = case_of(situation, dtype)
    energy = copy.deepcopy(case.energy).double()
    double = Case(energy, case.y.double(), case.target.double())
    start = double.energy.at(double.y).start()
    if situation in unusual.ROUGH:
        parts = [unusual.exact(situation, double, k, start) for k in range(len(start))]
    else:
        each = [slice(k, k + 1) for k in range(len(start))]
        parts = [reference(double.energy, start[k], double.y[k]) for k in each]
    return torch.cat(parts).detach()


def lower(situation: str, dtype: torch.dtype = torch.float64) -> Objective:
    case = case_of(situation, dtype)
    return case.energy.at(case.y)


class SolverContract:
    names: ClassVar[tuple[str, ...]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "situation" in metafunc.fixturenames:
            product = rows(self.names, SITUATIONS, DTYPES)
            metafunc.parametrize(("name", "situation", "dtype"), product, ids=str)
        else:
            metafunc.parametrize("name", self.names)

    def objective(self, name: str, situation: str, dtype: torch.dtype) -> Objective:
        found = lower(situation, dtype)
        if not is_kind(found, SOLVERS[name].takes):
            pytest.skip("takes another kind")
        try:
            bl.minimise(found, SOLVERS[name], tol=bl.Tolerance(residual=1e-9), max_steps=1)
        except InputError as refused:
            pytest.skip(str(refused))
        return lower(situation, dtype)

    def first(self, name: str) -> str:
        """A situation that the solver takes."""
        return next(s for s in SITUATIONS if is_kind(lower(s), SOLVERS[name].takes))

    def test_certificates_are_true(self, name: str, situation: str, dtype: torch.dtype) -> None:
        """Of distances and of values, against a dense method."""
        objective, accuracy = self.objective(name, situation, dtype), DTYPES[dtype]
        if situation in unusual.ROUGH:
            accuracy = max(accuracy, 3e-5)
        tol = bl.Tolerance(rms=accuracy)
        found = bl.minimise(objective, SOLVERS[name], tol=tol, max_steps=50_000).require()
        exact, proved = minimisers(situation, dtype), found.certificate
        away = objective.image(found.x.double() - exact).flatten(1)
        assert found.x.dtype == dtype
        assert not certify(objective, found.x).rms.requires_grad
        slack = 1e-12 if situation in unusual.SMOOTH else 1e-6  # of the reference itself
        assert bool((away.square().mean(1).sqrt() <= proved.rms + slack).all())
        assert bool((proved.rms <= accuracy).all())
        double = objective.double()
        gap = double.value(found.x.double()) - double.value(exact)
        assert bool((gap <= proved.gap + 1e-12 * double.value(exact).abs()).all())

    def test_rows_leave_and_equal_lone_solves(self, name: str) -> None:
        """Steps, points and costs; rows that are done cost nothing more."""
        situation, tol = self.first(name), bl.Tolerance(rms=1e-5)
        whole = lower(situation)
        together = bl.minimise(whole, SOLVERS[name], tol=tol, max_steps=50_000).require()
        spent = 0
        for k in range(len(together.x)):
            case = case_of(situation, torch.float64)
            one = case.energy.at(case.y[k : k + 1])
            alone = bl.minimise(one, SOLVERS[name], tol=tol, max_steps=50_000)
            assert int(alone.steps[0]) == int(together.steps[k])
            torch.testing.assert_close(alone.x[0], together.x[k], rtol=1e-10, atol=1e-11)
            spent += one.cost.gradient_evaluations + one.cost.hvps
        assert len(set(together.steps.tolist())) > 1, "rows should leave at different times"
        assert whole.cost.gradient_evaluations + whole.cost.hvps == spent

    def test_a_start_at_the_minimiser_takes_no_step(self, name: str) -> None:
        situation = self.first(name)
        objective = lower(situation)
        tight, loose = bl.Tolerance(rms=1e-7), bl.Tolerance(rms=1e-4)
        near = bl.minimise(objective, SOLVERS[name], tol=tight, max_steps=50_000).require()
        start = near.x.clone()
        start[1] += 1.0
        again = bl.minimise(objective, SOLVERS[name], start, tol=loose).require()
        if not has_dual(objective):  # what proves it there is a dual variable, not x alone
            assert again.steps.tolist()[::2] == [0, 0]
            assert torch.equal(again.x[::2], start[::2])
        assert int(again.steps[1]) > 0

    def test_no_steps_at_all(self, name: str) -> None:
        situation = self.first(name)
        objective = lower(situation)
        start = objective.start() + 0.3
        found = bl.minimise(
            objective, SOLVERS[name], start, tol=bl.Tolerance(rms=1e-9), max_steps=0
        )
        assert found.status.tolist() == [Status.MAX_STEPS] * len(start)
        assert found.steps.tolist() == [0] * len(start)
        torch.testing.assert_close(found.x, objective.project(start))
        away = objective.image(found.x - minimisers(situation, torch.float64)).flatten(1)
        assert bool((away.square().mean(1).sqrt() <= found.certificate.rms).all())

    def test_the_ledger_counts_what_is_done(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rows at which total variation is differentiated, but the one at 0 of allowances."""
        self.objective(name, "plain", torch.float64)
        seen = 0

        def counted(original: Callable[..., Any]) -> Callable[..., Any]:
            def apply(x: Tensor, *profile: Any) -> Any:
                nonlocal seen
                seen += len(x)
                return original(x, *profile)

            return apply

        for one in ("gradient", "value_and_gradient"):
            monkeypatch.setattr(stencil, one, counted(getattr(stencil, one)))
        objective = lower("plain")
        bl.minimise(objective, SOLVERS[name], tol=bl.Tolerance(rms=1e-4)).require()
        assert objective.cost.gradient_evaluations == seen - 1 > 0

    def test_another_kind_of_energy_is_refused(self, name: str) -> None:
        solver = SOLVERS[name]
        others = [s for s in SITUATIONS if not is_kind(lower(s), solver.takes)]
        for situation in others[:1] + others[-1:]:
            with pytest.raises(InputError, match="needs") as told:
                bl.minimise(lower(situation), solver, tol=bl.Tolerance(rms=1e-3))
            assert "solvers." in str(told.value)

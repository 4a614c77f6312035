"""A problem in other units of θ: θ = s·θ′ with a number s for each parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from bilevel.differentiate import Upper
from bilevel.ground import theta as algebra
from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError, nearest
from bilevel.ground.theta import Theta
from bilevel.learn.algorithm import Trial, normalised_step
from bilevel.learn.directions import Directions, Draw, Iterates, Slopes
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.identity import Identity
from bilevel.learn.problem import DirectedProblem, Problem
from bilevel.model import Objective
from bilevel.model.sets import Product, Set

__all__ = ["ScaledProblem", "curvature_scales", "resolved"]

E = TypeVar("E", bound=Evaluation)
D = TypeVar("D")


def resolved(scales: Mapping[str, float], theta: Theta) -> dict[str, float]:
    """The scale of every parameter: of its name, else of its longest prefix, else 1.

    Raises:
        InputError: a name that is neither a parameter nor a prefix of one, up to a dot.

    Example:
        >>> resolved({"a": 2.0, "a.b": 3.0}, {"a.b": torch.zeros(1), "a.c": torch.zeros(1)})
        {'a.b': 3.0, 'a.c': 2.0}
    """
    for name, scale in scales.items():
        check_positive(scale, f"the scale of '{name}'")
        if not any(_covers(name, known) for known in theta):
            what = f"the scales name '{name}', which is not learned"
            raise InputError(what, advice=f"{nearest(name, theta)} (learned: {', '.join(theta)})")

    def scale_of(parameter: str) -> float:
        found = [name for name in scales if _covers(name, parameter)]
        return float(scales[max(found, key=len)]) if found else 1.0

    return {name: scale_of(name) for name in theta}


def curvature_scales(
    problem: Problem, theta: Theta | None = None, *, tol: float, change: float = 1e-2
) -> dict[str, float]:
    """Scales that make the curvature of the loss along each parameter's gradient the same.

    |curvature|^(-1/2), by a difference of gradients, relative to the largest: one evaluation for
    each parameter. Those without gradient or curvature get 1. A diagonal preconditioner, for
    parameters that matter very unequally.

    Args:
        problem: whose loss it is.
        theta: where; the energy's own values if None.
        tol: accuracy of the lower level (rms, [grey value]).
        change: how far an entry of θ moves for the difference.

    Example:
        >>> import bilevel as bl
        >>> pairs = bl.data.Pairs(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), ("one",))
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        >>> list(curvature_scales(problem, tol=1e-5).values())
        [1.0]
    """
    check_positive(tol, "tol")
    check_positive(change, "change")
    at = problem.value_and_grad(problem.theta if theta is None else theta, tol=tol)
    found: dict[str, float] = {}
    for name in at.theta:
        alone = {k: g if k == name else torch.zeros_like(g) for k, g in at.grad.items()}
        trial = Trial.along(problem, at, normalised_step(alone, change), alone)
        if trial.moved > 0:
            new = problem.value_and_grad(trial.theta, tol=tol)
            move = algebra.add(trial.theta, at.theta, -1.0)
            bend = algebra.inner(move, algebra.add(new.grad, at.grad, -1.0)) / trial.moved**2
            if bend:
                found[name] = abs(bend) ** -0.5
    largest = max(found.values(), default=1.0)
    return {name: found.get(name, largest) / largest for name in at.theta}


class ScaledProblem(DirectedProblem):
    """The same problem for θ′: gradients are s times as large, sets shrink by s.

    Projections stay exact for all sets, as a set belongs to one parameter, which has one s. Norms
    are those of θ′; a proved error of the gradient is multiplied by the largest s.

    Args:
        whole: in the units of the energy.
        scales: s for names or prefixes of parameters; 1 for all others.

    Raises:
        InputError: a scale that is not positive, or of nothing that is learned.

    Example:
        >>> import bilevel as bl
        >>> pairs = bl.data.Pairs(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), ("one",))
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        >>> scaled = ScaledProblem(problem, {"regulariser": 4.0})
        >>> scaled.outward({"regulariser.log_weight": torch.tensor(0.5)})
        {'regulariser.log_weight': tensor(2.)}
    """

    def __init__(self, whole: DirectedProblem, scales: Mapping[str, float]) -> None:
        """Check names and numbers."""
        self.scales = resolved(scales, whole.theta)
        sets = whole.space.sets
        space = Product({k: _Shrunk(sets[k], s) for k, s in self.scales.items() if k in sets})
        super().__init__(replace(whole.facts, theta=self.inward(whole.theta), space=space))
        self.whole = whole

    def __len__(self) -> int:
        """As the whole problem."""
        return len(self.whole)

    def inward(self, theta: Theta) -> Theta:
        """θ′ of θ."""
        return {name: value / self.scales[name] for name, value in theta.items()}

    def outward(self, theta: Theta) -> Theta:
        """θ of θ′ in the units of the energy."""
        return self.whole.outward(self.whole_theta(theta))

    def whole_theta(self, theta: Theta) -> Theta:
        """θ of θ′ in the units of the whole problem, in its set in spite of rounding."""
        native = {name: value * self.scales[name] for name, value in theta.items()}
        return self.whole.space.project(native)

    def native(self, at: E) -> E:
        """An evaluation of this problem as one of the whole one."""
        return replace(
            at,
            theta=self.whole_theta(at.theta),
            grad=self.inward(at.grad),
            error=at.error / self._largest,
            estimate=at.estimate / self._largest,
        )

    def look(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None
    ) -> tuple[Evaluation, Tensor]:
        """At θ."""
        at, losses = self.whole.look(self.whole_theta(theta), tol=tol, ids=ids)
        return replace(at, theta=theta), losses

    def value_and_grad(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None, estimate: bool = False
    ) -> Evaluation:
        """At θ, with the gradient by θ′.

        Raises:
            BudgetExhausted: during ``learn``, when the budget is used up.
        """
        at = self.whole.value_and_grad(self.whole_theta(theta), tol=tol, ids=ids, estimate=estimate)
        return replace(
            at,
            theta=theta,
            grad=self._pulled(at.grad),
            error=at.error * self._largest,
            estimate=at.estimate * self._largest,
        )

    def gauss_newton(
        self, theta: Theta, *, tol: float, rtol: float = 1e-6, ids: Tensor | None = None
    ) -> Tensor:
        """By θ′, (p, p)."""
        found = self.whole.gauss_newton(self.whole_theta(theta), tol=tol, rtol=rtol, ids=ids)
        s = torch.cat([torch.full((v.numel(),), self.scales[k]) for k, v in theta.items()])
        return found * torch.outer(s, s).to(found)

    def first_accuracy(self, theta: Theta, fraction: float = 0.02) -> float:
        """At θ [grey value]."""
        return self.whole.first_accuracy(self.whole_theta(theta), fraction)

    def few(self) -> Tensor:
        """Those of the whole problem."""
        return self.whole.few()

    def reached(self, at: Evaluation) -> bool:
        """As the whole problem."""
        return self.whole.reached(self.native(at))

    def price(self, theta: Theta) -> float:
        """At θ."""
        return self.whole.price(self.whole_theta(theta))

    def identity(self, theta: Theta) -> Identity:
        """That of the whole problem, and the scales."""
        return self.whole.identity(self.whole_theta(theta)).also("scales", self.scales)

    def rows(self, draw: Draw) -> Tensor:
        """Those of the whole problem."""
        return self.whole.rows(draw)

    def iterates(self, theta: Theta) -> Iterates:
        """Those of the whole problem."""
        return self.whole.iterates(self.whole_theta(theta))

    def lipschitz(self, theta: Theta, rows: Tensor | None = None) -> Tensor:
        """At θ."""
        return self.whole.lipschitz(self.whole_theta(theta), rows)

    def lower_at(self, theta: Theta, index: Tensor) -> Objective:
        """At θ."""
        return self.whole.lower_at(self.whole_theta(theta), index)

    def upper_at(self, theta: Theta, index: Tensor) -> Upper:
        """At θ."""
        return self.whole.upper_at(self.whole_theta(theta), index)

    def directions(self, theta: Theta, at: Iterates, draw: Draw) -> Directions:
        """At θ, derivatives by θ′."""
        return self._derived(self.whole.directions(self.whole_theta(theta), at, draw))

    def slope(self, theta: Theta, x: Tensor, draw: Draw) -> Tensor:
        """At θ."""
        return self.whole.slope(self.whole_theta(theta), x, draw)

    def slopes(self, theta: Theta, x: Tensor, draw: Draw) -> Slopes:
        """At θ, derivatives by θ′."""
        return self._derived(self.whole.slopes(self.whole_theta(theta), x, draw))

    @property
    def _largest(self) -> float:
        return max(self.scales.values())

    def _pulled(self, grad: Theta) -> Theta:
        return {name: value * self.scales[name] for name, value in grad.items()}

    def _derived(self, found: D) -> D:
        """With all derivatives by θ, the dicts, as derivatives by θ′."""
        parts: dict[str, Any] = {}
        for entry in fields(cast(Any, found)):
            value = getattr(found, entry.name)
            if isinstance(value, dict):
                parts[entry.name] = self._pulled(cast(Theta, value))
            elif is_dataclass(value):
                parts[entry.name] = self._derived(value)
        return replace(cast(Any, found), **parts)


@dataclass(frozen=True)
class _Shrunk(Set):
    """{value : scale · value in whole}."""

    whole: Set
    scale: float

    def project(self, value: Tensor) -> Tensor:
        """Exact, as all entries have the same scale."""
        return self.whole.project(value * self.scale) / self.scale

    def tangent(self, direction: Tensor) -> Tensor:
        """That of the whole, as all entries have the same scale."""
        return self.whole.tangent(direction)


def _covers(name: str, parameter: str) -> bool:
    return parameter == name or parameter.startswith(f"{name}.")

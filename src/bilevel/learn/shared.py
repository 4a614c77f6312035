"""Bilevel problems with one x for all samples and finite sums at both levels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from bilevel.data.samples import Measured
from bilevel.differentiate import Hypergradient, Upper
from bilevel.differentiate.tangents import tangents
from bilevel.ground import theta as algebra
from bilevel.ground.checks import check_finite
from bilevel.ground.errors import InputError
from bilevel.ground.fingerprint import fingerprint
from bilevel.ground.theta import Theta, derivative, flatten, leaves, unflatten
from bilevel.learn.directions import Directions, Draw, Iterates, Pull, Slopes
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.identity import Identity, facts, nearby
from bilevel.learn.level import LowerLevel
from bilevel.learn.problem import Facts, OwnProblem, smooth
from bilevel.linear import LinearMap, cg, lanczos
from bilevel.model import Bounds, Cost, Energy
from bilevel.model.losses import Loss, Scale
from bilevel.model.losses.loss import by_autograd, unknown
from bilevel.model.sets import Product, Set
from bilevel.solve import Solver
from bilevel.solve.solvers import LBFGS

__all__ = ["FiniteSum", "SharedProblem"]


@dataclass(frozen=True)
class FiniteSum:
    """1/size Σ_i f_i(x, θ). ``mean(x, theta, ids)`` is the mean over the samples ``ids``, ().

    It must be differentiable (at the lower level twice) in x and θ by autograd.
    """

    size: int
    mean: Callable[[Tensor, Theta, Tensor], Tensor]

    def __post_init__(self) -> None:
        """At least one sample."""
        if self.size < 1:
            raise InputError("a finite sum needs at least one sample", given=self.size)

    def whole(self, x: Tensor, theta: Theta) -> Tensor:
        """The mean over all samples."""
        return self.mean(x, theta, torch.arange(self.size))


class SharedProblem(OwnProblem):
    """min_θ 1/m Σ_j ℓ_j(x(θ), θ) with one x(θ) = argmin_x 1/n Σ_i J_i(x, θ): machine learning.

    All algorithms take it but those that draw samples of the separable form (ISGD, and
    ``ProjectedGradient`` with a batch size). Costs count samples: a gradient of the whole lower
    level is n gradient evaluations. The accuracy ``tol`` of a value is that of x in rms where
    ``bounds`` are given, otherwise of ∇J.

    Args:
        lower: the J_i.
        upper: the ℓ_j.
        theta: first values; names without dots, float64 where ``bounds`` are given.
        x0: first x, of any shape.
        sets: what θ is projected onto, name by name.
        bounds: of the eigenvalues of the whole ∇²J for all x and θ, ``Bounds.of(mu, L)``, trusted.
        solver: of the lower level where an algorithm asks for accuracy.
        hypergradient: implicit with CG if None.
        max_steps: limit of each lower-level solve.

    Raises:
        InputError: nothing to learn, values that are not finite or dtypes that differ.

    Example:
        >>> lower = FiniteSum(3, lambda x, theta, ids: 0.5 * (x - theta["w"]).square().sum())
        >>> upper = FiniteSum(2, lambda x, theta, ids: 0.5 * (x - 1.0).square().sum())
        >>> start = {"w": torch.zeros(2, dtype=torch.float64)}
        >>> problem = SharedProblem(lower, upper, start, torch.zeros(2, dtype=torch.float64))
        >>> problem.value_and_grad(start, tol=1e-9).grad["w"]
        tensor([-1., -1.], dtype=torch.float64)
    """

    def __init__(
        self,
        lower: FiniteSum,
        upper: FiniteSum,
        theta: Theta,
        x0: Tensor,
        *,
        sets: Mapping[str, Set] | None = None,
        bounds: Bounds | None = None,
        solver: Solver[Any] | None = None,
        hypergradient: Hypergradient | None = None,
        max_steps: int = 20_000,
    ) -> None:
        """Check everything before any work starts."""
        for name, value in {**theta, "x0": x0}.items():
            check_finite(value, name)
        if bounds is not None and x0.dtype != torch.float64:
            advice = "convert data, theta and x0 to float64, or leave bounds out"
            raise InputError("certificates need float64", given=x0.dtype, advice=advice)
        if not theta:
            raise InputError("there is no learnable parameter", advice="e.g. theta={'w': ...}")
        self.bounds = Bounds.unknown() if bounds is None else bounds
        level = LowerLevel(
            _Whole(lower, theta, x0, self.bounds),
            Measured(x0.new_zeros(1, 1, 1, 1)),
            solver=LBFGS() if solver is None else solver,
            hypergradient=hypergradient,
            max_steps=max_steps,
            cost=_SampleCost(lower.size),
            contrast=1.0,
        )
        start = {name: value.detach().clone() for name, value in theta.items()}
        space, counts = Product(dict(sets or {})), (lower.size, upper.size)
        super().__init__(Facts(level, start, space, Scale(), level.energy, counts, separable=False))
        self.lower, self.upper, self.shape = lower, upper, x0.shape
        self._lipschitz: Tensor | None = None

    def __len__(self) -> int:
        """One, as all samples share their x."""
        return 1

    def x(self, theta: Theta, *, tol: float) -> Tensor:
        """The minimiser at θ, from the last one, to the accuracy ``tol``."""
        with self.metered():
            return self.level.solve(theta, ALL, tol)[1].x.view(self.shape)

    def look(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None
    ) -> tuple[Evaluation, Tensor]:
        """As ``value_and_grad`` without a gradient, and the loss, (1,)."""
        return self.level.look(theta, self.upper_at, tol, ids)

    def value_and_grad(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None, estimate: bool = False
    ) -> Evaluation:
        """As for separable problems, with the direct derivative of the loss by θ."""
        found = self.level.value_and_grad(theta, self.upper_at, tol, ids, estimate)
        with self.metered():
            x = self.iterates(theta).x
            direct = self._direct(theta, x)
            doubt = 0.0
            if estimate:
                objective = smooth(self.level.at(theta))
                newton = cg(objective.hessian(x), objective.grad(x), rtol=0.1).x
                doubt = algebra.norm(algebra.add(self._direct(theta, x - newton), direct, -1.0))
        grad = self.space.tangent(algebra.add(found.grad, direct))
        return replace(found, grad=grad, estimate=found.estimate + doubt)

    def gauss_newton(
        self, theta: Theta, *, tol: float, rtol: float = 1e-6, ids: Tensor | None = None
    ) -> Tensor:
        """∇²_tt ℓ(x + S t, θ + t) at t = 0, (p, p) float64: with what ℓ depends on θ directly."""
        del ids
        with self.metered():
            objective, solution = self.level.solve(theta, ALL, tol)
            slopes = tangents(objective, solution.x, rtol=rtol).flatten(1)
            x, at = solution.x.flatten(), flatten(theta)

            def loss(t: Tensor) -> Tensor:
                near = (x + t @ slopes).view(self.shape)
                return self.upper.whole(near, unflatten(at + t, theta))

            with torch.enable_grad():
                found = torch.autograd.functional.hessian(loss, torch.zeros_like(at))
            return cast(Tensor, found).double()

    def _direct(self, theta: Theta, x: Tensor) -> Theta:
        """∂_θ of the upper level at x; the estimate of its error is its change by a Newton step."""
        named = leaves(theta)
        with torch.enable_grad():
            return derivative(self.upper.whole(x.view(self.shape), named), named)

    def lipschitz(self, theta: Theta, rows: Tensor | None = None) -> Tensor:
        """The one given, or half more than the largest Ritz value at the first x and θ.

        An estimate, the same wherever a fit goes on.
        """
        del theta, rows
        if self.bounds.smooth:
            return self.bounds.lipschitz.view(1)
        if self._lipschitz is None:
            objective = smooth(self.level.at(self.theta))
            x = objective.start()
            start = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
            found = lanczos(objective.hessian(x), start, steps=min(10, x.numel()))
            self._lipschitz = 1.5 * found.values[:, -1].double()
        return self._lipschitz

    def directions(self, theta: Theta, at: Iterates, draw: Draw) -> Directions:
        """From samples drawn at each level; x and v have one row."""
        with self.metered(), torch.enable_grad():
            self._count(draw, hvps=1)
            named = leaves(theta)
            x = at.x.view(self.shape).detach().requires_grad_()
            v = at.v.view(self.shape)
            value = self.lower.mean(x, named, draw.inner)
            slope = torch.autograd.grad(value, x, create_graph=True)[0]
            bent = derivative((slope * v).sum(), {"": x, **named})
            loss = self.upper.mean(x, named, draw.outer)
            pull = derivative(loss, {"": x, **named})
            by_x = pull.pop("")
            pull = self.space.tangent(pull)
            return Directions(
                x=slope.detach().view_as(at.x),
                v=(bent.pop("") + by_x).view_as(at.v),
                theta=algebra.add(self.space.tangent(bent), pull),
                value=float(loss.detach()),
                rows=ALL,
                pull=Pull(by_x.view_as(at.v), pull),
            )

    def _count(self, draw: Draw, hvps: int = 0) -> None:
        share, cost = len(draw.inner), self.cost
        cost.gradient_evaluations += share
        cost.hvps += hvps * share
        cost.operator_applications += 2 * (1 + hvps) * share

    def slope(self, theta: Theta, x: Tensor, draw: Draw) -> Tensor:
        """∇_xJ alone, from the samples drawn; x has one row."""
        with self.metered(), torch.enable_grad():
            self._count(draw)
            point = x.view(self.shape).detach().requires_grad_()
            by_x = derivative(self.lower.mean(point, theta, draw.inner), {"": point})
            return by_x[""].view_as(x)

    def slopes(self, theta: Theta, x: Tensor, draw: Draw) -> Slopes:
        """From samples drawn at each level; x has one row."""
        with self.metered(), torch.enable_grad():
            self._count(draw)
            named = leaves(theta)
            point = x.view(self.shape).detach().requires_grad_()
            by = {"": point, **named}
            slope = derivative(self.lower.mean(point, named, draw.inner), by)
            loss = self.upper.mean(point, named, draw.outer)
            pull = derivative(loss, by)
            lower, upper = (found.pop("").view_as(x) for found in (slope, pull))
            cross, direct = self.space.tangent(slope), self.space.tangent(pull)
            return Slopes(lower, cross, upper, direct, float(loss.detach()))

    def upper_at(self, theta: Theta, index: Tensor) -> Upper:
        """The whole upper level."""
        return Upper(
            _SumLoss(self.upper, self.shape, theta), torch.zeros_like(self.level.q.read(index))
        )

    def rows(self, draw: Draw) -> Tensor:
        """The only one."""
        del draw
        return ALL

    def first_accuracy(self, theta: Theta, fraction: float = 0.02) -> float:
        """``fraction`` of the certificate at the start, at least 1e-6."""
        return self.level.first_accuracy(theta, fraction, 0.0)

    def price(self, theta: Theta) -> float:
        """None of its own: what θ costs is part of the ℓ_j."""
        del theta
        return 0.0

    def identity(self, theta: Theta) -> Identity:
        """By sizes, bounds and sets, and by the values of both sums at one point."""
        x = nearby(self.level.energy.start(self.level.first))
        with torch.no_grad():
            lower = float(self.lower.whole(x.view(self.shape), theta))
            upper = float(self.upper.whole(x.view(self.shape), theta))
        about = {"counts": self.counts, "bounds": self.bounds, "sets": self.space.sets}
        return Identity(facts(about, "problem"), fingerprint([], x), lower, upper)


ALL = torch.tensor([0])
"""The only row there is."""


class _SampleCost(Cost):
    """Counts ``size`` samples for every gradient of the whole sum."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def count_gradients(self, count: int) -> None:
        """So many whole gradients."""
        super().count_gradients(count * self.size)

    def count_hvps(self, count: int) -> None:
        """So many whole products."""
        super().count_hvps(count * self.size)


class _Whole(Energy):
    """The whole lower level as one row; its y is empty."""

    def __init__(self, lower: FiniteSum, theta: Theta, x0: Tensor, bounds: Bounds) -> None:
        super().__init__()
        self.lower, self.shape, self.declared = lower, x0.shape, bounds
        self.register_buffer("first", x0.detach().clone())
        for name, value in theta.items():
            self.register_parameter(name, nn.Parameter(value.detach().clone()))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """1/n Σ_i J_i, (1,)."""
        del y
        theta: Theta = {name: value for name, value in self.named_parameters()}
        return self.lower.whole(x.view(self.shape), theta).view(1)

    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        """Of the only row."""
        return LinearMap.shared(super().hessian(x, y).apply)

    def start(self, y: Tensor) -> Tensor:
        """x0 as an image of one line."""
        del y
        return self.get_buffer("first").view(1, 1, 1, -1)

    def bounds(self, y: Tensor) -> Bounds:
        """Those given."""
        del y
        return self.declared


@dataclass(frozen=True)
class _SumLoss(Loss):
    """1/m Σ_j ℓ_j at a fixed θ; its targets are nothing."""

    upper: FiniteSum
    shape: torch.Size
    theta: Theta

    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """(1,), computed in the dtype of θ."""
        del target
        dtype = next(iter(self.theta.values())).dtype
        return self.upper.whole(x.to(dtype).view(self.shape), self.theta).view(1)

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """By autograd."""
        return by_autograd(self, x, target)

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """Not known."""
        del x, target
        return unknown(radius)

"""J = f + h with smooth f and simple h; what every non-smooth objective has in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NoReturn, TypeVar, cast

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta, bind, derivative, leaves
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Variation
from bilevel.model.cost import Cost
from bilevel.model.energy import Energy, EnergyObjective, in_double
from bilevel.model.objective import Objective
from bilevel.model.simple import Simple

__all__ = ["CompositeObjective", "NonSmoothObjective", "Separable"]

N = TypeVar("N", bound="NonSmoothObjective")


class Separable(Energy):
    """An energy that can be taken apart into smooth, simple and dual terms."""

    @abstractmethod
    def split(self, y: Tensor, cost: Cost, *, tape: bool = False) -> NonSmoothObjective:
        """Its terms at the data y; with ``tape``, autograd records what they compute."""


@dataclass(frozen=True)
class NonSmoothObjective(Objective):
    """J = f + h + ...: ``smooth`` is f, ``simple`` is h; J has no gradient, and says so.

    ``bounds`` are those of f, whose mu is that of J too; ``source`` is the energy of all terms.
    """

    source: Separable
    smooth: EnergyObjective
    simple: Simple

    @property
    def bounds(self) -> Bounds:
        """Those of f."""
        return self.smooth.bounds

    def start(self) -> Tensor:
        """The start of f, inside the box."""
        return self.simple.project(self.smooth.start())

    def project(self, x: Tensor) -> Tensor:
        """Into the box."""
        return self.simple.project(x)

    def rounding(self, x: Tensor) -> Tensor:
        """That of ∇f."""
        return self.smooth.rounding(x)

    def grad(self, x: Tensor) -> Tensor:
        """Refused."""
        self._refuse("gradient")

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Refused."""
        self._refuse("gradient")

    def hessian(self, x: Tensor) -> LinearMap:
        """Refused."""
        self._refuse("Hessian")

    def cross_vjp(self, x: Tensor, q: Tensor) -> dict[str, Tensor]:
        """Refused."""
        self._refuse("gradient")

    @property
    def theta(self) -> Theta:
        """The learnable parameters of all terms, detached."""
        named = self.source.named_parameters()
        return {name: p.detach() for name, p in named if p.requires_grad}

    def theta_grad(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Theta]:
        """J(x) and Σ_k weight_k ∂_θJ(x_k), at the price of one gradient."""
        with torch.enable_grad():
            theta = leaves(self.theta)
            value = self.taped(theta).value(x.detach())
            return value.detach(), derivative((value * weight).sum(), theta)

    def taped(self: N, theta: Theta) -> N:
        """The same functions at ``theta``, without ``no_grad``; the bounds are constants."""
        split = bind(self.source, theta).split(self.smooth.y, self.smooth.cost, tape=True)
        smooth = split.smooth.with_bounds(self.bounds)
        return cast(N, replace(split, smooth=smooth))

    def double(self: N) -> N:
        """The same functions in float64, made once."""
        return cast(N, self._double)

    @cached_property
    def _double(self) -> NonSmoothObjective:
        with torch.no_grad():
            y, cost = self.smooth.y.double(), self.smooth.cost
            split = in_double(self.source).split(y, cost)
            return replace(split, smooth=split.smooth.with_bounds(self.bounds))

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """Nothing is known."""
        return Variation.unknown(x)

    def _refuse(self, what: str) -> NoReturn:
        advice = f"minimise it with {self.fitting}"
        raise InputError(f"this energy is not smooth and has no {what}", advice=advice)


@dataclass(frozen=True)
class CompositeObjective(NonSmoothObjective):
    """J = f + h.

    Example:
        >>> import torch
        >>> import bilevel as bl
        >>> r = bl.regularisers.Tikhonov(1.0) + bl.regularisers.Box(0.0, 0.4)
        >>> objective = bl.Variational(bl.fidelities.SquaredL2(), r).at(torch.ones(1, 1, 1, 1))
        >>> bl.minimise(objective, bl.solvers.FISTA(), tol=bl.Tolerance(rms=1e-3)).x.item()
        0.4000000059604645
    """

    @property
    def fitting(self) -> str:
        """The solver for it."""
        return "solvers.FISTA()"

    def value(self, x: Tensor) -> Tensor:
        """f(x) + h(x), (b,); inf outside of the box."""
        return self.smooth.value(x) + self.simple.value(x)

    def subgradient(self, x: Tensor) -> Tensor:
        """The element of ∇f(x) + ∂h(x) of least norm; inf outside of the box."""
        return self.simple.least(x, self.smooth.grad(x))

    def rows(self, index: Tensor) -> CompositeObjective:
        """The rows ``index`` alone."""
        smooth, simple = self.smooth.rows(index), self.simple.rows(index)
        return CompositeObjective(self.source, smooth, simple)

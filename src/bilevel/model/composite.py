"""J = f + h with smooth f and simple h; what every non-smooth objective has in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Variation
from bilevel.model.energy import EnergyObjective
from bilevel.model.objective import Objective
from bilevel.model.simple import Simple

__all__ = ["CompositeObjective", "NonSmoothObjective"]


@dataclass(frozen=True)
class NonSmoothObjective(Objective):
    """J = f + h + ...: ``smooth`` is f, ``simple`` is h; J has no gradient, and says so.

    ``bounds`` are those of f, whose mu is that of J too.
    """

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

    def double(self) -> CompositeObjective:
        """In float64."""
        return CompositeObjective(self.smooth.double(), self.simple.double())

    def rows(self, index: Tensor) -> CompositeObjective:
        """The rows ``index`` alone."""
        return CompositeObjective(self.smooth.rows(index), self.simple.rows(index))

"""An objective: b independent functions of x at a fixed θ, the only thing that a solver sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Smoothness, Variation
from bilevel.model.cost import Cost
from bilevel.model.preconditioner import Preconditioner

__all__ = ["DATA", "Objective", "SmoothObjective", "Summand"]

DATA = "(data)"
"""The name of y among θ, where derivatives by y are wanted too."""

Summand = tuple[Callable[..., Tensor], tuple[object, ...]]
"""A pure function of (x, *arguments) and its arguments: no state, no operator, no tape."""


class Objective(ABC):
    """Row k is a function of x[k] alone. Every call is counted in the cost ledger behind it."""

    @property
    @abstractmethod
    def bounds(self) -> Bounds:
        """Spectral bounds of the Hessian, one a row."""

    @abstractmethod
    def start(self) -> Tensor:
        """A sensible first x, (b, c, h, w)."""

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """J(x), (b,)."""

    @abstractmethod
    def grad(self, x: Tensor) -> Tensor:
        """∇J(x), the shape of x."""

    def summands(self, x: Tensor) -> tuple[Summand, ...] | None:
        """∇J = Σ f(·, *arguments), to be compiled with what is done with it, or None.

        Counted as one gradient at points like ``x``.
        """
        del x

    @abstractmethod
    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both at the price of one gradient."""

    @abstractmethod
    def hessian(self, x: Tensor) -> LinearMap:
        """∇²J(x), linearised once."""

    def majoriser(self, x: Tensor) -> LinearMap:
        """M >= 0 with J(x + d) <= J(x) + ⟨∇J(x), d⟩ + ½⟨d, M d⟩ for every d."""
        del x
        raise InputError("this energy gives no quadratic majoriser", advice="use another solver")

    def preconditioner(self, x: Tensor) -> Preconditioner | None:
        """Approximately the inverse of ∇²J(x), where that saves time."""
        del x
        return None

    def subgradient(self, x: Tensor) -> Tensor:
        """The subgradient of least norm at x: the gradient where J is smooth."""
        return self.grad(x)

    def project(self, x: Tensor) -> Tensor:
        """The point nearest to x where J is finite."""
        return x

    @property
    def fitting(self) -> str:
        """Solvers that fit, in words."""
        return "solvers.LBFGS() or solvers.Nesterov()"

    @abstractmethod
    def rounding(self, x: Tensor) -> Tensor:
        """An allowance for the rounding error of ‖grad(x)‖, (b,)."""

    @abstractmethod
    def cross_vjp(self, x: Tensor, q: Tensor) -> Theta:
        """Σ_k ∂_θ⟨q_k, ∇J(x_k)⟩, that is Bᵀq summed over rows."""

    @abstractmethod
    def theta_grad(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Theta]:
        """J(x), (b,), and Σ_k weight_k ∂_θJ(x_k) for the learnable θ; (b,) weights."""

    @abstractmethod
    def taped(self, theta: Theta) -> Objective:
        """The same functions at ``theta``, with derivatives in x and θ recorded by autograd."""

    @abstractmethod
    def with_data(self) -> Objective:
        """The same with the data among θ, under the name ``DATA``; no bound knows them."""

    @property
    @abstractmethod
    def theta(self) -> Theta:
        """The learnable θ, detached."""

    @abstractmethod
    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """How far the second derivatives change within ``radius`` (b,) of x."""

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """Kinks and the Lipschitz constant of ∇²J within ``radius`` (b,) of x."""
        del radius
        return Smoothness.unknown(x)

    @abstractmethod
    def double(self) -> Objective:
        """The same functions in float64, for certificates that float32 could not give."""

    @abstractmethod
    def rows(self, index: Tensor) -> Objective:
        """The functions of the rows ``index`` alone."""


class SmoothObjective(Objective):
    """One that has a gradient: alone, or as the f of a composite or saddle objective."""

    @property
    @abstractmethod
    def y(self) -> Tensor:
        """The data, (b, ...)."""

    @property
    @abstractmethod
    def cost(self) -> Cost:
        """The ledger."""

    @abstractmethod
    def with_data(self) -> SmoothObjective:
        """The same with the data among θ, under the name ``DATA``; no bound knows them."""

    @abstractmethod
    def over(self, base: SmoothObjective) -> SmoothObjective:
        """What this one knows of its energy, or adds to it, for the energy ``base`` instead."""

    @abstractmethod
    def taped(self, theta: Theta) -> SmoothObjective:
        """As for any objective."""

    @abstractmethod
    def double(self) -> SmoothObjective:
        """As for any objective."""

    @abstractmethod
    def rows(self, index: Tensor) -> SmoothObjective:
        """As for any objective."""

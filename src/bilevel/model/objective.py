"""An objective: b independent functions of x at a fixed θ, the only thing that a solver sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

from torch import Tensor

from bilevel.ground.theta import Theta
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Reach, Smoothness, Variation
from bilevel.model.cost import Cost
from bilevel.model.smooth import Pull

__all__ = ["DATA", "Curved", "Objective"]

DATA = "(data)"
"""The name of y among θ, where derivatives by y are wanted too."""

J = TypeVar("J", bound="Objective")


class Objective(ABC):
    """Row k is a function of x[k] alone. Every call is counted in the cost ledger behind it.

    What else it can do, its type tells: :class:`Curved`, ``SmoothObjective``,
    ``CompositeObjective``, ``SaddleObjective``.
    """

    @property
    @abstractmethod
    def y(self) -> Tensor:
        """The data, (b, ...)."""

    @property
    @abstractmethod
    def cost(self) -> Cost:
        """The ledger."""

    @property
    @abstractmethod
    def bounds(self) -> Bounds:
        """Spectral bounds of the Hessian of the smooth part, one a row."""

    @property
    @abstractmethod
    def image_mu(self) -> Tensor:
        """mu >= 0, proved, with J - mu/2 ‖image(x)‖² convex, (b,): at least that of ``bounds``."""

    @abstractmethod
    def reach(self, x: Tensor, slope: Tensor) -> Reach:
        """How far ``slope``, a subgradient's part in the further channels, may lead there."""

    @property
    @abstractmethod
    def fitting(self) -> str:
        """Solvers that fit, in words."""

    @abstractmethod
    def start(self) -> Tensor:
        """A sensible first x, (b, c, h, w)."""

    @abstractmethod
    def image(self, x: Tensor) -> Tensor:
        """The channels of the state x that are the image."""

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """J(x), (b,)."""

    @abstractmethod
    def rounding(self, x: Tensor) -> Tensor:
        """An allowance for the rounding error of the norm of the gradient, (b,)."""

    @property
    @abstractmethod
    def theta(self) -> Theta:
        """The learnable θ, detached."""

    @abstractmethod
    def theta_grad(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Theta]:
        """J(x), (b,), and Σ_k weight_k ∂_θJ(x_k) for the learnable θ; (b,) weights."""

    @abstractmethod
    def taped(self: J, theta: Theta) -> J:
        """The same functions at ``theta``, with derivatives in x and θ recorded by autograd."""

    @abstractmethod
    def with_data(self: J) -> J:
        """The same with the data among θ, under the name ``DATA``; no bound knows them."""

    @abstractmethod
    def plus(self: J, pull: Pull) -> J:
        """The same functions with one more smooth term."""

    @abstractmethod
    def double(self: J) -> J:
        """The same functions in float64, for certificates that float32 could not give."""

    @abstractmethod
    def rows(self: J, index: Tensor) -> J:
        """The functions of the rows ``index`` alone."""

    def project(self, x: Tensor) -> Tensor:
        """The point nearest to x where J is finite."""
        return x

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """How far the second derivatives change within ``radius`` (b,) of x; unknown here."""
        del q, radius
        return Variation.unknown(x)

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """Kinks and the Lipschitz constant of ∇²J within ``radius`` (b,) of x; unknown here."""
        del radius
        return Smoothness.unknown(x)


class Curved(Objective):
    """One with second derivatives, almost everywhere at least: H = ∇²J and B = ∂_θ∇J."""

    @abstractmethod
    def subgradient(self, x: Tensor) -> Tensor:
        """The subgradient of least norm at x: the gradient where J is smooth."""

    @abstractmethod
    def hessian(self, x: Tensor) -> LinearMap:
        """H(x), linearised once."""

    @abstractmethod
    def cross_vjp(self, x: Tensor, q: Tensor) -> Theta:
        """Σ_k ∂_θ⟨q_k, ∇J(x_k)⟩, that is Bᵀq summed over rows."""

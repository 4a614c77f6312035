"""J = f + h with smooth f and proximable h; what every non-smooth objective has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar, cast

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.theta import Theta, derivative, leaves, norm
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Provenance, Reach, Smoothness, Variation
from bilevel.model.cost import Cost
from bilevel.model.objective import Curved, Objective
from bilevel.model.proximable import Proximable
from bilevel.model.smooth import Pull
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.model.split import Split

__all__ = ["CompositeObjective", "NonSmoothObjective"]

N = TypeVar("N", bound="NonSmoothObjective")


@dataclass(frozen=True)
class NonSmoothObjective(Objective):
    """J = f + h + ...: ``smooth`` is f, ``proximable`` is h.

    ``bounds`` are those of f, whose mu is that of J too.
    """

    smooth: SmoothObjective
    proximable: Proximable

    @abstractmethod
    def _with(self: N, smooth: SmoothObjective, split: Split) -> N:
        """Another f, and the other terms of ``split`` in this very box."""

    @property
    def y(self) -> Tensor:
        """The data."""
        return self.smooth.y

    @property
    def cost(self) -> Cost:
        """The ledger."""
        return self.smooth.cost

    @property
    def bounds(self) -> Bounds:
        """Those of f."""
        return self.smooth.bounds

    @property
    def image_mu(self) -> Tensor:
        """That of f."""
        return self.smooth.image_mu

    def reach(self, x: Tensor, slope: Tensor) -> Reach:
        """Of the energy: of f and of all other terms."""
        return self.smooth.reach(x, slope)

    def start(self) -> Tensor:
        """The start of f, inside the box."""
        return self.proximable.project(self.smooth.start())

    def image(self, x: Tensor) -> Tensor:
        """As for f."""
        return self.smooth.image(x)

    def project(self, x: Tensor) -> Tensor:
        """Into the box."""
        return self.proximable.project(x)

    def rounding(self, x: Tensor) -> Tensor:
        """That of ∇f."""
        return self.smooth.rounding(x)

    @property
    def theta(self) -> Theta:
        """The learnable parameters of all terms, detached."""
        return self.smooth.theta

    def theta_grad(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Theta]:
        """J(x) and Σ_k weight_k ∂_θJ(x_k), at the price of one gradient."""
        with self._differentiating(x) as (moving, theta):
            value = moving.value(x.detach())
            return value.detach(), derivative((value * weight).sum(), theta)

    @contextmanager
    def _differentiating(self: N, x: Tensor) -> Generator[tuple[N, Theta]]:
        """The same functions of θ on a tape, whatever is computed counted as one gradient."""
        self.cost.count_gradients(len(x))
        with torch.enable_grad():
            theta = leaves(self.theta)
            yield self._moved(theta, Cost()), theta

    def taped(self: N, theta: Theta) -> N:
        """The same functions at ``theta``, without ``no_grad``; the bounds are constants."""
        return self._moved(theta, self.cost)

    def _moved(self: N, theta: Theta, cost: Cost) -> N:
        energy, y, split = self.smooth.moved(theta)
        return self._with(self.smooth.recorded(energy, y, split.smooth, cost), split)

    def with_data(self: N) -> N:
        """The same with y among θ."""
        return replace(self, smooth=self.smooth.with_data())

    def plus(self: N, pull: Pull) -> N:
        """With one more term in f."""
        return replace(self, smooth=self.smooth.plus(pull))

    def _boxed(self, split: Split) -> Proximable:
        """The h of ``split`` in this box: rounded to the dtype that it was made for."""
        proximable = Proximable() if split.proximable is None else split.proximable
        box = self.proximable
        return replace(proximable, lower=box.lower, upper=box.upper, channels=box.channels)

    def double(self: N) -> N:
        """The same functions in float64, made once."""
        return cast(N, self._double)

    @cached_property
    def _double(self) -> NonSmoothObjective:
        smooth = self.smooth.double()
        with torch.no_grad():
            return self._with(smooth, smooth.energy.split(smooth.y))


@dataclass(frozen=True)
class CompositeObjective(NonSmoothObjective, Curved):
    """J = f + h.

    Between its kinks h is linear. Pixels of x that sit on one stay there when θ changes a little,
    the others are free: second derivatives of J are those of f in the free pixels D,

        H = D ∇²f D + L (I - D),   B = D ∂_θ(∇f + h'),

    where L (I - D) makes H invertible and does not touch Bᵀ H⁻¹ (docs/decisions/0010).

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
        return self.smooth.value(x) + self.proximable.value(x)

    def subgradient(self, x: Tensor) -> Tensor:
        """The element of ∇f(x) + ∂h(x) of least norm; inf outside of the box."""
        return self.proximable.least(x, self.smooth.grad(x))

    def hessian(self, x: Tensor) -> LinearMap:
        """H, between the same bounds as ∇²f."""
        free, _ = self.proximable.pieces(x)
        stiff = rows.expand(self.bounds.lipschitz.to(x), x).expand_as(x)
        return _on(free, self.smooth.hessian(x), stiff)

    def cross_vjp(self, x: Tensor, q: Tensor) -> Theta:
        """Σ_k B(x_k)ᵀ q_k, of the free pixels alone."""
        with self._differentiating(x) as (moving, theta):
            return derivative(moving.pairing(x.detach(), q), theta)

    def pairing(self, x: Tensor, q: Tensor) -> Tensor:
        """⟨q, ∇f(x) + h'(x)⟩ over the free pixels of all rows, ().

        Pixels that ‖x - c‖₁ holds move with c where c is on the tape: (∇²f q - H q) of them, H q
        being what is pulled at, is what they contribute.
        """
        free, slope = self.proximable.pieces(x)
        inner, distance = torch.where(free, q, 0.0), self.proximable.distance
        total = (inner * (self.smooth.grad(x) + slope)).sum()
        if distance is None or not distance.centre.requires_grad:
            return total
        with torch.no_grad():
            stiff = rows.expand(self.bounds.lipschitz.to(q), q)
            pull = stiff * q - self.smooth.hessian(x)(inner)
            held = torch.where((x == distance.centre) & ~free, pull, 0.0)
        return total - (held * distance.centre).sum()

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """Of f and of the pixels that may be on another piece of h at x̂."""
        if self.bounds.lipschitz_from is not Provenance.PROVED:
            return Smoothness.unknown(x)
        own = Smoothness.of(self._undecided(x, radius), 0.0)
        return own + self.smooth.smoothness(x, radius)

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """From x to x̂, at most ``radius`` (b,) away, where undecided pixels U may change sides.

        With E = ±1 in U, 0 elsewhere, D' = D + E and all eigenvalues of ∇²f(x̂) = F' in [0, L],

            (H' - H) q = D'(F' - F) D q + D' F' E q + E (F D - L) q,

        so that U adds at most 2 L ‖q_U‖ + ‖((F D - L) q)_U‖, the second L being what the corrected
        value needs: ‖∇J(x)‖ <= L radius where the radius is certified. To B it adds ‖B‖ ‖q_U‖,
        and 2 ‖∂_θw‖ ‖q_U‖₁ for h'.
        """
        if not self.smooth.accounted or self.bounds.lipschitz_from is not Provenance.PROVED:
            return Variation.unknown(x)
        free, _ = self.proximable.pieces(x)
        inner = torch.where(free, q, 0.0)
        own, unsure = self.smooth.variation(x, inner, radius), self._undecided(x, radius)
        leap = torch.where(unsure, q, 0.0)
        size, lipschitz = rows.length(leap), self.bounds.lipschitz
        jump = torch.zeros_like(size)
        if bool(unsure.any()):
            turned = self.smooth.hessian(x)(inner) - rows.expand(lipschitz.to(q), q) * q
            jump = 2 * lipschitz * size + rows.length(torch.where(unsure, turned, 0.0))
        pull = torch.where(size > 0, own.cross_norm * size, 0.0)
        pull = pull + 2 * self.steepness * leap.abs().flatten(1).sum(1).double()
        count = (free | unsure).flatten(1).sum(1).double()
        reach = own.cross_norm + self.steepness * count.sqrt()
        return Variation(own.hessian + jump, own.cross + pull, reach)

    @property
    def steepness(self) -> float:
        """‖∂_θ w‖ of the weight of the absolute value."""
        theta = leaves(self.theta)
        with torch.enable_grad():
            distance = self.taped(theta).proximable.distance
            return 0.0 if distance is None else norm(derivative(distance.weight.sum(), theta))

    def _undecided(self, x: Tensor, radius: Tensor) -> Tensor:
        stiffness = torch.maximum(self.bounds.lipschitz, -self.bounds.mu)
        turn = stiffness * radius + self.rounding(x)
        return self.proximable.undecided(x, self.smooth.grad(x), radius, turn)

    def rows(self, index: Tensor) -> CompositeObjective:
        """The rows ``index`` alone."""
        return CompositeObjective(self.smooth.rows(index), self.proximable.rows(index))

    def _with(self, smooth: SmoothObjective, split: Split) -> CompositeObjective:
        return CompositeObjective(smooth, self._boxed(split))


def _on(free: Tensor, inner: LinearMap, stiff: Tensor) -> LinearMap:
    """D F D + stiff (I - D)."""

    def apply(v: Tensor) -> Tensor:
        return torch.where(free, inner(torch.where(free, v, 0.0)), stiff * v)

    return LinearMap(apply, lambda index: _on(free[index], inner.rows(index), stiff[index]))

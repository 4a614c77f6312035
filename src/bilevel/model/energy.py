"""An energy J_θ(x; y): what the lower level minimises, with derivatives and constants."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from bilevel.ground import rows
from bilevel.ground.checks import check_images
from bilevel.ground.contrast import contrast
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta, bind, derivative, leaves
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.cost import Cost
from bilevel.model.objective import Objective, SmoothObjective, Summand
from bilevel.model.preconditioner import Preconditioner

__all__ = ["Energy", "EnergyObjective", "in_double"]

E = TypeVar("E", bound="Energy")


class Energy(nn.Module):
    """J_θ(x; y), one value a row. Only :meth:`forward` must be written; autograd does the rest.

    What is not overridden is right but slower, and its constants are unknown: solutions then
    carry a residual but no proved distance.

    Example:
        >>> class Ridge(Energy):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.w = nn.Parameter(torch.tensor(1.0))
        ...     def forward(self, x, y):
        ...         return 0.5 * ((x - y) ** 2 + self.w * x**2).flatten(1).sum(1)
        >>> Ridge().grad(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)).item()
        2.0
    """

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """J(x; y): (b, c, h, w), (b, ...) -> (b,), never reduced over rows."""

    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        """∇_x J(x; y), differentiable in θ and y."""
        track = torch.is_grad_enabled()
        with torch.enable_grad():
            point = x if x.requires_grad else x.view_as(x).requires_grad_()
            total = self.forward(point, y).sum()
            return torch.autograd.grad(total, point, create_graph=track)[0]

    def summands(self, y: Tensor) -> tuple[Summand, ...] | None:
        """Pure functions of x whose sum is ∇_x J; None unless all that it takes is known."""
        del y

    def value_and_grad(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """J(x; y) and ∇_x J(x; y); override where both share work."""
        return self.forward(x, y), self.grad(x, y)

    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        """∇²_xx J(x; y), linearised once at x."""
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            slope = self.grad(point, y)

        def apply(v: Tensor) -> Tensor:
            return torch.autograd.grad(slope, point, v, retain_graph=True)[0]

        return LinearMap(apply, lambda index: self.hessian(x[index], y[index]))

    def majoriser(self, x: Tensor, y: Tensor) -> LinearMap:
        """As in :class:`~bilevel.model.objective.Objective`; only energies made of parts have it.

        Raises:
            InputError: the energy gives none.
        """
        del x, y
        raise InputError("this energy gives no quadratic majoriser", advice="use another solver")

    def preconditioner(self, x: Tensor, y: Tensor) -> Preconditioner | None:
        """Approximately the inverse of ∇²_xx J(x; y), for energies where that saves time."""
        del x, y
        return None

    def bounds(self, y: Tensor) -> Bounds:
        """Bounds of ∇²_xx J for all x."""
        del y
        return Bounds.unknown()

    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """How far second derivatives change within ``radius`` (b,) of x."""
        del y, q, radius
        return Variation.unknown(x)

    def smoothness(self, x: Tensor, y: Tensor, radius: Tensor) -> Smoothness:
        """Kinks and the Lipschitz constant of ∇²J within ``radius`` (b,) of x."""
        del y, radius
        return Smoothness.unknown(x)

    def start(self, y: Tensor) -> Tensor:
        """A sensible first x; y itself unless overridden."""
        return y

    def magnitude(self, y: Tensor, bounds: Bounds) -> Magnitude:
        """Size of the terms whose sum is ∇J; ``bounds`` are those of ``y``."""
        zero = self.grad(torch.zeros_like(self.start(y)), y)
        return Magnitude(bounds.lipschitz, rows.norm(zero).double())

    def check(self, y: Tensor) -> None:
        """Raise InputError if ``y`` cannot be data of this energy: shape, dtype, device, NaN."""
        check_images(y, "y")
        for name, tensor in [*self.named_parameters(), *self.named_buffers()]:
            wrong_type = tensor.is_floating_point() and tensor.dtype != y.dtype
            if wrong_type or tensor.device != y.device:
                raise InputError(
                    f"y is {y.dtype} on {y.device}",
                    given=f"an energy whose '{name}' is {tensor.dtype} on {tensor.device}",
                    advice="convert with energy.to(y.dtype), energy.to(y.device) or y.to(...)",
                )

    def settle(self, y: Tensor, contrast: float | None = None) -> None:
        """Give what was left to the data its units: of images of that contrast, or behind ``y``.

        Only the first data count: afterwards, and in energies of one's own, nothing is left.

        Raises:
            InputError: ``y`` cannot be data of this energy.
        """
        del y, contrast

    def contrast(self, y: Tensor) -> float:
        """That of the images behind ``y`` [grey value]; of the start unless overridden."""
        return contrast(self.start(y))

    def stiffness(self, contrast: float) -> float:
        """The unit of ∇J over grey values in images of that contrast; 1 unless overridden."""
        del contrast
        return 1.0

    def at(self, y: Tensor, theta: Theta | None = None, cost: Cost | None = None) -> Objective:
        """The objective x -> J_θ(x; y), row by row, at the energy's own θ or the one given.

        What was left to the data is settled by the first ``y`` (:meth:`settle`).

        Raises:
            InputError: ``y`` or ``theta`` do not fit.
        """
        bound = self if theta is None else bind(self, theta)
        bound.check(y)
        return EnergyObjective(bound, y, Cost() if cost is None else cost)


class EnergyObjective(SmoothObjective):
    """An energy at fixed y and θ; counts what it computes in ``cost``."""

    def __init__(
        self,
        energy: Energy,
        y: Tensor,
        cost: Cost,
        bounds: Bounds | None = None,
        tape: bool = False,
    ) -> None:
        """Use :meth:`Energy.at`, which checks y and θ, and :meth:`taped`."""
        self.energy, self.tape = energy, tape
        self._y, self._cost = y, cost
        self._bounds = bounds
        self._double: EnergyObjective | None = None
        self._magnitude: Magnitude | None = None

    @property
    def y(self) -> Tensor:
        """The data."""
        return self._y

    @property
    def cost(self) -> Cost:
        """The ledger."""
        return self._cost

    @property
    def bounds(self) -> Bounds:
        """Computed once."""
        if self._bounds is None:
            self._bounds = self.energy.bounds(self.y).for_rows(self.y)
        return self._bounds

    def start(self) -> Tensor:
        """The energy's own start."""
        with torch.no_grad():
            return self.energy.start(self.y).detach()

    def value(self, x: Tensor) -> Tensor:
        """J(x), (b,)."""
        self.cost.operator_applications += x.shape[0]
        with self._recording():
            return self.energy.forward(x, self.y)

    def grad(self, x: Tensor) -> Tensor:
        """∇J(x); on a tape, its reverse pass or its tangent counts as one HVP a row."""
        self.cost.count_gradients(len(x))
        with self._recording():
            return self._watched(self.energy.grad(x, self.y))

    def summands(self, x: Tensor) -> tuple[Summand, ...] | None:
        """The energy's; None on a tape, where :meth:`grad` counts what it costs."""
        found = None if self.tape else self._summands
        if found is not None:
            self.cost.count_gradients(len(x))
        return found

    @cached_property
    def _summands(self) -> tuple[Summand, ...] | None:
        """At the θ of the first call, as for the bounds."""
        with torch.no_grad():
            return self.energy.summands(self.y)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """J(x) and ∇J(x)."""
        self.cost.count_gradients(len(x))
        with self._recording():
            value, slope = self.energy.value_and_grad(x, self.y)
            return value, self._watched(slope)

    def _recording(self) -> torch.set_grad_enabled:
        return torch.set_grad_enabled(self.tape and torch.is_grad_enabled())

    def _watched(self, slope: Tensor) -> Tensor:
        if slope.requires_grad:
            slope.register_hook(self._count_hvp)
        if self.tape and forward_ad.unpack_dual(slope).tangent is not None:
            self._count_hvp(slope)
        return slope

    def _count_hvp(self, v: Tensor) -> None:
        self.cost.count_hvps(len(v))

    def hessian(self, x: Tensor) -> LinearMap:
        """∇²J(x); every application counts as one HVP a row."""
        with torch.no_grad():
            counted = self._counted(self.energy.hessian(x, self.y))
        return counted.with_inverse(lambda: self._inverse(x))

    def _inverse(self, x: Tensor) -> LinearMap:
        found = self.preconditioner(x)
        return LinearMap.shared(lambda v: v) if found is None else found.as_map()

    def preconditioner(self, x: Tensor) -> Preconditioner | None:
        """The energy's; it costs about as much as a gradient."""
        with torch.no_grad():
            found = self.energy.preconditioner(x, self.y)
        if found is not None:
            self.cost.operator_applications += 2 * x.shape[0]
        return found

    def majoriser(self, x: Tensor) -> LinearMap:
        """The energy's; every application counts as one HVP a row."""
        with torch.no_grad():
            return self._counted(self.energy.majoriser(x, self.y))

    def _counted(self, inner: LinearMap) -> LinearMap:
        def apply(v: Tensor) -> Tensor:
            self._count_hvp(v)
            with torch.no_grad():
                return inner(v)

        return LinearMap(apply, lambda index: self._counted(inner.rows(index)))

    def rounding(self, x: Tensor) -> Tensor:
        """4 eps times the magnitude of the terms: what the sums that make up ∇J may lose."""
        if self._magnitude is None:
            with torch.no_grad():
                self._magnitude = self.energy.magnitude(self.y, self.bounds)
        terms = self._magnitude.slope * rows.norm(x).double() + self._magnitude.offset
        return 4 * torch.finfo(x.dtype).eps * terms

    @property
    def theta(self) -> Theta:
        """The learnable parameters of the energy, detached."""
        named = self.energy.named_parameters()
        return {name: p.detach() for name, p in named if p.requires_grad}

    def cross_vjp(self, x: Tensor, q: Tensor) -> Theta:
        """Σ_k ∂_θ⟨q_k, ∇J(x_k)⟩ for the learnable θ."""
        self.cost.count_gradients(len(x))
        with torch.enable_grad():
            theta = leaves(self.theta)
            slope = bind(self.energy, theta).grad(x.detach(), self.y)
            return derivative((slope * q).sum(), theta)

    def tangent(self, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Theta]:
        """∇J(x), ∇²J(x) q and Σ_k ∂_θ⟨q_k, ∇J(x_k)⟩ at the price of a gradient and an HVP."""
        self.cost.count_gradients(len(x))
        self.cost.count_hvps(len(x))
        with torch.enable_grad():
            theta, point = leaves(self.theta), x.detach().requires_grad_()
            slope = bind(self.energy, theta).grad(point, self.y)
            found = derivative((slope * q).sum(), {"": point, **theta})
            return slope.detach(), found.pop(""), found

    def theta_grad(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Theta]:
        """J(x) and Σ_k weight_k ∂_θJ(x_k), at the price of one gradient."""
        self.cost.count_gradients(len(x))
        with torch.enable_grad():
            theta = leaves(self.theta)
            value = bind(self.energy, theta).forward(x.detach(), self.y)
            return value.detach(), derivative((value * weight).sum(), theta)

    def taped(self, theta: Theta) -> EnergyObjective:
        """The same energy at ``theta``, without ``no_grad``; its bounds are constants."""
        bounds = replace(self.bounds, mu=self.bounds.mu.detach())
        return EnergyObjective(bind(self.energy, theta), self.y, self.cost, bounds, tape=True)

    def over(self, base: SmoothObjective) -> SmoothObjective:
        """``base`` with the bounds that are known here."""
        return base.with_bounds(self.bounds) if isinstance(base, EnergyObjective) else base

    def with_bounds(self, bounds: Bounds) -> EnergyObjective:
        """The same functions with bounds that are known already."""
        return EnergyObjective(self.energy, self.y, self.cost, bounds, self.tape)

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """From the energy."""
        return self.energy.variation(x, self.y, q, radius)

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """From the energy."""
        with torch.no_grad():
            return self.energy.smoothness(x, self.y, radius)

    def double(self) -> EnergyObjective:
        """The same energy and data in float64, made once."""
        if self._double is None:
            energy = in_double(self.energy)
            self._double = EnergyObjective(energy, self.y.double(), self.cost, self.bounds)
            self._double._magnitude = self._magnitude
        return self._double

    def rows(self, index: Tensor) -> EnergyObjective:
        """The rows ``index`` alone, with the same ledger."""
        bounds = self.bounds.rows(index)
        part = EnergyObjective(self.energy, self.y[index], self.cost, bounds, self.tape)
        part._double = None if self._double is None else self._double.rows(index)
        part._magnitude = rows.take(self._magnitude, index)
        return part


def in_double(energy: E) -> E:
    """A copy in float64."""
    detached = {name: p.detach() for name, p in energy.named_parameters()}
    return copy.deepcopy(bind(energy, detached)).double()

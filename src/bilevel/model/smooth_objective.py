"""The objective of an energy that is smooth, or of the smooth part of one that is not."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cached_property, reduce
from operator import add
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta, bind, derivative, leaves
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Reach, Smoothness, Variation
from bilevel.model.cost import Cost
from bilevel.model.objective import DATA, Curved
from bilevel.model.operators.operator import Shape
from bilevel.model.part import unaccounted
from bilevel.model.preconditioner import Preconditioner
from bilevel.model.smooth import Pull, Smooth, SmoothSum, Summand

if TYPE_CHECKING:
    from bilevel.model.energy import Energy
    from bilevel.model.split import Split

__all__ = ["SmoothObjective", "evaluated", "in_double"]


class SmoothObjective(Curved):
    """The smooth terms of an energy at fixed y and θ; counts what it computes in ``cost``."""

    def __init__(
        self,
        energy: Energy,
        y: Tensor,
        function: Smooth,
        cost: Cost,
        *,
        pulls: tuple[Pull, ...] = (),
        bounds: Bounds | None = None,
        magnitude: Magnitude | None = None,
        tape: bool = False,
        by_data: bool = False,
    ) -> None:
        """Use :meth:`Energy.at`, which checks y and θ, :meth:`taped` and :meth:`with_data`.

        ``function`` is what the terms of ``energy`` are at y; ``bounds`` and ``magnitude`` are
        those of the function, where they are known already.
        """
        self.energy, self.function, self.pulls = energy, function, pulls
        self.tape, self.by_data = tape, by_data
        self._y, self._cost = y, cost
        self._whole = SmoothSum((function, *pulls)) if pulls else function
        self._own_bounds, self._own_magnitude = bounds, magnitude
        self._image_mu: Tensor | None = None
        self._double: SmoothObjective | None = None

    @property
    def y(self) -> Tensor:
        """The data."""
        return self._y

    @property
    def cost(self) -> Cost:
        """The ledger."""
        return self._cost

    @property
    def fitting(self) -> str:
        """Solvers that fit, in words."""
        return "solvers.LBFGS() or solvers.Nesterov()"

    @cached_property
    def _first(self) -> Tensor:
        with torch.no_grad():
            return self.energy.start(self.y[:1])

    @property
    def _shape(self) -> Shape:
        _, *shape = self._first.shape
        return shape[0], shape[1], shape[2]

    @property
    def own_bounds(self) -> Bounds:
        """Those of the energy's terms, computed once."""
        if self._own_bounds is None:
            self._own_bounds = self.function.bounds(self._shape).for_rows(self.y)
        return self._own_bounds

    @property
    def bounds(self) -> Bounds:
        """Those of all terms, one a row."""
        return self._bounds

    @cached_property
    def _bounds(self) -> Bounds:
        further = (pull.bounds(self._shape).for_rows(self.y) for pull in self.pulls)
        total = reduce(add, further, self.own_bounds)
        return total.usable(self.y.dtype) if self.pulls else total

    @property
    def image_mu(self) -> Tensor:
        """Of the energy's terms; where others were added, no more than ``bounds`` tell."""
        if self._image_mu is None:
            own = self.bounds.proved_mu()
            if not self.pulls and self.image(self._first).shape != self._first.shape:
                found = self.energy.image_bounds(self.y).for_rows(self.y)
                own = torch.maximum(own, found.proved_mu())
            self._image_mu = own
        return self._image_mu

    def reach(self, x: Tensor, slope: Tensor) -> Reach:
        """The energy tells."""
        if self.pulls:
            return Reach.unknown(x)
        self.cost.operator_applications += len(x)
        with torch.no_grad():
            return self.energy.reach(x, self.y, slope)

    def start(self) -> Tensor:
        """The energy's own start."""
        with torch.no_grad():
            return self.energy.start(self.y).detach()

    def image(self, x: Tensor) -> Tensor:
        """The energy tells which channels."""
        return self.energy.image(x)

    def value(self, x: Tensor) -> Tensor:
        """J(x), (b,)."""
        self.cost.operator_applications += x.shape[0]
        with self._recording():
            return self._whole.value(x)

    def grad(self, x: Tensor) -> Tensor:
        """∇J(x); on a tape, its reverse pass or its tangent counts as one HVP a row."""
        self.cost.count_gradients(len(x))
        with self._recording():
            return self._watched(self._whole.grad(x))

    def subgradient(self, x: Tensor) -> Tensor:
        """The gradient."""
        return self.grad(x)

    def summands(self, x: Tensor) -> tuple[Summand, ...] | None:
        """∇J = Σ f(·, *arguments), to be compiled with what is done with it, or None.

        Counted as one gradient at points like ``x``. None on a tape, where :meth:`grad` counts
        what it costs.
        """
        found = None if self.tape else self._summands
        if found is not None:
            self.cost.count_gradients(len(x))
        return found

    @cached_property
    def _summands(self) -> tuple[Summand, ...] | None:
        with torch.no_grad():
            return self._whole.summands()

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """J(x) and ∇J(x) at the price of one gradient."""
        self.cost.count_gradients(len(x))
        with self._recording():
            value, slope = self._whole.value_and_grad(x)
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
            counted = self._counted(self._whole.hessian(x))
        return counted.with_inverse(lambda: self._inverse(x))

    def _inverse(self, x: Tensor) -> LinearMap:
        found = self.preconditioner(x)
        return LinearMap.shared(lambda v: v) if found is None else found.as_map()

    def preconditioner(self, x: Tensor) -> Preconditioner | None:
        """Approximately the inverse of ∇²J(x); it costs about as much as a gradient."""
        with torch.no_grad():
            found = self._whole.preconditioner(x)
        if found is not None:
            self.cost.operator_applications += 2 * x.shape[0]
        return found

    def majoriser(self, x: Tensor) -> LinearMap | None:
        """As in :class:`Smooth`; every application counts as one HVP a row."""
        with torch.no_grad():
            found = self._whole.majoriser(x)
        return None if found is None else self._counted(found)

    def _counted(self, inner: LinearMap) -> LinearMap:
        def apply(v: Tensor) -> Tensor:
            self._count_hvp(v)
            with torch.no_grad():
                return inner(v)

        return LinearMap(apply, lambda index: self._counted(inner.rows(index)))

    def rounding(self, x: Tensor) -> Tensor:
        """4 eps times the magnitude of the terms: what the sums that make up ∇J may lose."""
        if self._own_magnitude is None:
            with torch.no_grad():
                found = self.function.magnitude(self._shape)
            self._own_magnitude = found.for_rows(self.y)
        terms = self._own_magnitude.slope * rows.length(x) + self._own_magnitude.offset
        own = 4 * torch.finfo(x.dtype).eps * terms
        return own + sum(pull.rounding(x) for pull in self.pulls)

    @property
    def theta(self) -> Theta:
        """The learnable parameters of the energy, detached; and y where it counts among them."""
        named = self.energy.named_parameters()
        found = {name: p.detach() for name, p in named if p.requires_grad}
        return {**found, DATA: self.y.detach()} if self.by_data else found

    @property
    def accounted(self) -> bool:
        """Whether :meth:`variation` knows all that ∇J depends on in θ."""
        return not self.by_data and not unaccounted(self.energy)

    def moved(self, theta: Theta) -> tuple[Energy, Tensor, Split]:
        """Energy and data at θ, and the energy's terms there."""
        own = {name: value for name, value in theta.items() if name != DATA}
        energy, y = bind(self.energy, own), theta.get(DATA, self.y)
        return energy, y, energy.split(y)

    def cross_vjp(self, x: Tensor, q: Tensor) -> Theta:
        """Σ_k ∂_θ⟨q_k, ∇J(x_k)⟩ for the learnable θ."""
        self.cost.count_gradients(len(x))
        with torch.enable_grad():
            theta = leaves(self.theta)
            slope = self._at(theta).grad(x.detach())
            return derivative((slope * q).sum(), theta)

    def tangent(self, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Theta]:
        """∇J(x), ∇²J(x) q and Σ_k ∂_θ⟨q_k, ∇J(x_k)⟩ at the price of a gradient and an HVP."""
        self.cost.count_gradients(len(x))
        self.cost.count_hvps(len(x))
        with torch.enable_grad():
            theta, point = leaves(self.theta), x.detach().requires_grad_()
            slope = SmoothSum((self._at(theta), *self.pulls)).grad(point)
            found = derivative((slope * q).sum(), {"": point, **theta})
            return slope.detach(), found.pop(""), found

    def theta_grad(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Theta]:
        """J(x) and Σ_k weight_k ∂_θJ(x_k), at the price of one gradient."""
        self.cost.count_gradients(len(x))
        with torch.enable_grad():
            theta = leaves(self.theta)
            value = SmoothSum((self._at(theta), *self.pulls)).value(x.detach())
            return value.detach(), derivative((value * weight).sum(), theta)

    def _at(self, theta: Theta) -> Smooth:
        return self.moved(theta)[2].smooth

    def taped(self, theta: Theta) -> SmoothObjective:
        """The same terms at ``theta``, without ``no_grad``; their bounds are constants."""
        energy, y, split = self.moved(theta)
        return self.recorded(energy, y, split.smooth, self.cost)

    def recorded(self, energy: Energy, y: Tensor, function: Smooth, cost: Cost) -> SmoothObjective:
        """The terms of another θ and y, and the pulls of this one, on a tape."""
        own = replace(self.own_bounds, mu=self.own_bounds.mu.detach())
        return SmoothObjective(energy, y, function, cost, pulls=self.pulls, bounds=own, tape=True)

    def with_data(self) -> SmoothObjective:
        """The same with y among θ."""
        found = self._with(self.energy, self.y, self.function, self.pulls)
        found.by_data = True
        return found

    def plus(self, pull: Pull) -> SmoothObjective:
        """With one more term, which has no parameters."""
        return self._with(self.energy, self.y, self.function, (*self.pulls, pull))

    def _with(
        self, energy: Energy, y: Tensor, function: Smooth, pulls: tuple[Pull, ...]
    ) -> SmoothObjective:
        return SmoothObjective(
            energy,
            y,
            function,
            self.cost,
            pulls=pulls,
            bounds=self._own_bounds,
            magnitude=self._own_magnitude,
            tape=self.tape,
            by_data=self.by_data,
        )

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """From the terms; nothing is known of B where a parameter is not accounted for."""
        found = self._whole.variation(x, q, radius)
        return found if self.accounted else found.without_parameters()

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """From the terms."""
        with torch.no_grad():
            return self._whole.smoothness(x, radius)

    def double(self) -> SmoothObjective:
        """The same energy and data in float64, made once."""
        if self._double is None:
            with torch.inference_mode(False), torch.no_grad():
                y = self.y.double()
                energy = in_double(self.energy, y)
                function = energy.split(y).smooth
            _ = self.own_bounds
            pulls = tuple(pull.double() for pull in self.pulls)
            self._double = self._with(energy, y, function, pulls)
        return self._double

    def rows(self, index: Tensor) -> SmoothObjective:
        """The rows ``index`` alone, with the same ledger."""
        pulls = tuple(pull.rows(index) for pull in self.pulls)
        part = self._with(self.energy.rows(index), self.y[index], self.function.rows(index), pulls)
        part._own_bounds = self.own_bounds.rows(index)
        part._own_magnitude = rows.take(self._own_magnitude, index)
        part._image_mu = rows.take(self._image_mu, index)
        part._double = None if self._double is None else self._double.rows(index)
        return part


def in_double(energy: Energy, y: Tensor) -> Energy:
    """A copy in float64, tried on the first row of its data ``y`` in float64.

    Raises:
        InputError: it holds tensors that ``.double()`` does not reach.
    """
    detached = {name: p.detach() for name, p in energy.named_parameters()}
    twin = copy.deepcopy(bind(energy, detached)).double()
    evaluated(twin, y, "certificates near the rounding of float32 need the energy in float64")
    return twin


def evaluated(energy: Energy, y: Tensor, what: str) -> None:
    """Evaluate the energy at the first row of its data ``y``, which operators of users may not do.

    Raises:
        InputError: it holds tensors of another dtype or device; ``what`` says why that matters.
    """
    try:
        with torch.no_grad():
            first = energy.rows(torch.zeros(1, dtype=torch.int64, device=y.device))
            first.forward(first.start(y[:1]), y[:1])
    except RuntimeError as error:
        advice = (
            "keep the tensors of operators and terms as attributes or parameters, so that "
            ".double() reaches them, or ask for a looser tolerance"
        )
        raise InputError(what, given=str(error).partition("\n")[0], advice=advice) from error

"""An energy J_θ(x; y): what the lower level minimises, with derivatives and constants."""

from __future__ import annotations

import copy
from abc import abstractmethod

import torch
from torch import Tensor, nn

from bilevel.ground import rows
from bilevel.ground.checks import check_images
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta, bind
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Variation
from bilevel.model.cost import Cost
from bilevel.model.objective import Objective

__all__ = ["Energy", "EnergyObjective"]


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
            point = x if x.requires_grad else x.detach().requires_grad_()
            total = self.forward(point, y).sum()
            return torch.autograd.grad(total, point, create_graph=track)[0]

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

    def bounds(self, y: Tensor) -> Bounds:
        """Bounds of ∇²_xx J for all x."""
        del y
        return Bounds.unknown()

    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """How far second derivatives change within ``radius`` (b,) of x."""
        del y, q, radius
        return Variation.unknown(x)

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

    def at(self, y: Tensor, theta: Theta | None = None, cost: Cost | None = None) -> Objective:
        """The objective x -> J_θ(x; y), row by row, at the energy's own θ or the one given.

        Raises:
            InputError: ``y`` or ``theta`` do not fit.
        """
        bound = self if theta is None else bind(self, theta)
        bound.check(y)
        return EnergyObjective(bound, y, Cost() if cost is None else cost)


class EnergyObjective(Objective):
    """An energy at fixed y and θ; counts what it computes in ``cost``."""

    def __init__(self, energy: Energy, y: Tensor, cost: Cost, bounds: Bounds | None = None) -> None:
        """Use :meth:`Energy.at`, which checks y and θ."""
        self.energy, self.y, self.cost = energy, y, cost
        self._bounds = bounds
        self._double: EnergyObjective | None = None
        self._magnitude: Magnitude | None = None

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
        with torch.no_grad():
            return self.energy.forward(x, self.y)

    def grad(self, x: Tensor) -> Tensor:
        """∇J(x)."""
        self._count_gradient(x)
        with torch.no_grad():
            return self.energy.grad(x, self.y)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """J(x) and ∇J(x)."""
        self._count_gradient(x)
        with torch.no_grad():
            return self.energy.value_and_grad(x, self.y)

    def _count_gradient(self, x: Tensor) -> None:
        self.cost.gradient_evaluations += x.shape[0]
        self.cost.operator_applications += 2 * x.shape[0]

    def hessian(self, x: Tensor) -> LinearMap:
        """∇²J(x); every application counts as one HVP a row."""
        with torch.no_grad():
            return self._counted(self.energy.hessian(x, self.y))

    def _counted(self, inner: LinearMap) -> LinearMap:
        def apply(v: Tensor) -> Tensor:
            self.cost.hvps += v.shape[0]
            self.cost.operator_applications += 2 * v.shape[0]
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

    def cross_vjp(self, x: Tensor, q: Tensor) -> Theta:
        """Σ_k ∂_θ⟨q_k, ∇J(x_k)⟩ for the learnable θ."""
        names = [name for name, p in self.energy.named_parameters() if p.requires_grad]
        with torch.enable_grad():
            leaves = dict(self.energy.named_parameters())
            theta = {name: leaves[name].detach().requires_grad_() for name in names}
            slope = bind(self.energy, theta).grad(x.detach(), self.y)
            gradients = torch.autograd.grad(
                (slope * q).sum(), list(theta.values()), allow_unused=True, materialize_grads=True
            )
        self._count_gradient(x)
        return dict(zip(names, gradients, strict=True))

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """From the energy."""
        return self.energy.variation(x, self.y, q, radius)

    def double(self) -> EnergyObjective:
        """The same energy and data in float64, made once."""
        if self._double is None:
            detached = {name: p.detach() for name, p in self.energy.named_parameters()}
            energy = copy.deepcopy(bind(self.energy, detached)).double()
            self._double = EnergyObjective(energy, self.y.double(), self.cost)
        return self._double

    def rows(self, index: Tensor) -> EnergyObjective:
        """The rows ``index`` alone, with the same ledger."""
        part = EnergyObjective(self.energy, self.y[index], self.cost, self.bounds.rows(index))
        part._double = None if self._double is None else self._double.rows(index)
        part._magnitude = rows.take(self._magnitude, index)
        return part

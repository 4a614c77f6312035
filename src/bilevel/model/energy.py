"""An energy J_θ(x; y): what the lower level minimises, with derivatives and constants."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_images
from bilevel.ground.contrast import contrast
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta, bind, frozen
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Reach, Smoothness, Variation
from bilevel.model.composite import CompositeObjective
from bilevel.model.cost import Cost
from bilevel.model.objective import Objective
from bilevel.model.operators.operator import Shape
from bilevel.model.part import Part
from bilevel.model.preconditioner import Preconditioner
from bilevel.model.saddle import SaddleObjective
from bilevel.model.smooth import Smooth
from bilevel.model.smooth_objective import SmoothObjective, evaluated
from bilevel.model.split import Split

__all__ = ["Energy"]


class Energy(Part):
    """J_θ(x; y), one value a row. Only :meth:`forward` must be written; autograd does the rest.

    What is not overridden is right but slower, and its constants are unknown: solutions then
    carry a residual but no proved distance. Who overrides :meth:`variation` says with
    :meth:`accounted` which parameters it knows; where one is missing, no hypergradient is proved.

    Example:
        >>> from torch import nn
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

    def preconditioner(self, x: Tensor, y: Tensor) -> Preconditioner | None:
        """Approximately the inverse of ∇²_xx J(x; y), for energies where that saves time."""
        del x, y

    def bounds(self, y: Tensor) -> Bounds:
        """Bounds of ∇²_xx J for all x."""
        del y
        return Bounds.unknown()

    def image_bounds(self, y: Tensor) -> Bounds:
        """With mu such that f - mu/2 ‖image(x)‖² is convex, f the smooth terms of J.

        They tell of the image where the state has further channels that nothing is proved of.
        """
        del y
        return Bounds.unknown()

    def reach(self, x: Tensor, y: Tensor, slope: Tensor) -> Reach:
        """How far ``slope``, in the shape of x, may lead in its channels beyond the image."""
        del y, slope
        return Reach.unknown(x)

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

    def image(self, x: Tensor) -> Tensor:
        """The channels of the state x that are the image, its first ones; all unless overridden."""
        return x

    def rows(self, index: Tensor) -> Energy:
        """The energy of those rows: itself, unless it has parameters of rows."""
        del index
        return self

    def split(self, y: Tensor) -> Split:
        """Its terms at the data y: smooth, with a proximal map, or dualised."""
        return Split(_Differentiated(self, y))

    def check(self, y: Tensor) -> None:
        """Raise InputError if ``y`` cannot be data of this energy: shape, dtype, device, NaN."""
        check_images(y, "y")
        for name, tensor in self.named_buffers():
            if tensor.requires_grad:
                advice = "make it an nn.Parameter, or detach it"
                raise InputError(f"no gradient would reach the buffer '{name}'", advice=advice)
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

        It keeps copies of y, of θ and of the buffers: what is written into them later, by an
        optimiser for one, changes neither the objective nor what is proved of it. What was left to
        the data is settled by the first ``y`` (:meth:`settle`).

        Raises:
            InputError: ``y`` or ``theta`` do not fit.
        """
        bound = self if theta is None else bind(self, theta)
        bound.check(y)
        if theta is None:
            evaluated(bound, y, f"the energy cannot be evaluated at y in {y.dtype}")
        self.settle(y)
        with torch.inference_mode(False), torch.no_grad():
            own, data = frozen(bound), y.detach().clone()
            split = own.split(data)
            f = SmoothObjective(own, data, split.smooth, Cost() if cost is None else cost)
            if split.dual:
                return SaddleObjective.of(f, split)
            return f if split.proximable is None else CompositeObjective(f, split.proximable)


@dataclass(frozen=True)
class _Differentiated(Smooth):
    """x -> J(x; y) of an energy that answers for itself."""

    energy: Energy
    y: Tensor

    def value(self, x: Tensor) -> Tensor:
        return self.energy.forward(x, self.y)

    def grad(self, x: Tensor) -> Tensor:
        return self.energy.grad(x, self.y)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.energy.value_and_grad(x, self.y)

    def hessian(self, x: Tensor) -> LinearMap:
        return self.energy.hessian(x, self.y)

    def preconditioner(self, x: Tensor) -> Preconditioner | None:
        return self.energy.preconditioner(x, self.y)

    def bounds(self, shape: Shape) -> Bounds:
        return self.energy.bounds(self.y)

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        return self.energy.variation(x, self.y, q, radius)

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        return self.energy.smoothness(x, self.y, radius)

    def magnitude(self, shape: Shape) -> Magnitude:
        """L ‖x‖ and ‖∇J(0)‖."""
        zero = self.energy.grad(torch.zeros_like(self.energy.start(self.y)), self.y)
        bounds = self.energy.bounds(self.y).for_rows(self.y)
        return Magnitude(bounds.lipschitz, rows.length(zero))

    def rows(self, index: Tensor) -> Smooth:
        return _Differentiated(self.energy.rows(index), self.y[index])

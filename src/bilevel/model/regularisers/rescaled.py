"""A regulariser in other units: two numbers carry over what was learned on one kind of data."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Reach, Smoothness, Variation
from bilevel.model.operators.operator import Shape
from bilevel.model.part import Part, Units, accounted_under
from bilevel.model.preconditioner import Stencil
from bilevel.model.regularisers.regulariser import ImageTerm, Regulariser
from bilevel.model.regularisers.scaled import Scaled, in_double

__all__ = ["Rescaled"]


class Rescaled(Scaled):
    """Another regulariser with a weight and a scale of grey values of its own.

    R̃(x) = w s⁻² R(s x), hence ∇R̃(x) = w s⁻¹ ∇R(s x) and ∇²R̃(x) = w ∇²R(s x).

    What was learned for one kind of data serves another once w and s are fitted to it. The
    parameters of R stay learnable as they are: freeze them to fit the two alone. What R leaves to
    the data is what it is for a contrast of 1, which is what R then sees.

    Args:
        regulariser: R, smooth.
        weight: factor w [1].
        scale: factor s of the grey values that R sees [1/grey value].
        learn: names of what is learned; the rest stays as given.

    Source: Hertrich et al. 2025, with w = exp(α) and s = exp(s) there.

    Raises:
        InputError: a weight or scale that is not positive, an unknown name in ``learn``, a
            regulariser without a gradient.

    Example:
        >>> from bilevel.model.regularisers import Tikhonov
        >>> x = torch.ones(1, 1, 2, 2)
        >>> Rescaled(Tikhonov(2.0), weight=3.0, scale=5.0)(x).item()
        12.0
    """

    def __init__(
        self,
        regulariser: ImageTerm,
        weight: float | None = None,
        scale: float | None = None,
        *,
        learn: Collection[str] = ("weight", "scale"),
    ) -> None:
        """For a contrast of 1 of the data w and s are 1 where None is given."""
        super().__init__(weight, scale, learn, ("weight", "scale"))
        if not isinstance(regulariser, Regulariser):
            what = "only a smooth regulariser can be rescaled"
            advice = "give an object derived from Regulariser"
            raise InputError(what, given=type(regulariser).__name__, advice=advice)
        self.regulariser, self.further = regulariser, regulariser.further
        for part in regulariser.modules():
            if isinstance(part, Part):
                part.take_units(Units())

    def options(self) -> dict[str, object]:
        """What builds it again; the values travel as parameters."""
        return {"regulariser": self.regulariser, "learn": self.learned()}

    def check(self, image_shape: Shape) -> None:
        """Images must fit R."""
        self.regulariser.check(image_shape)

    def energy(self, x: Tensor) -> Tensor:
        """That of R."""
        return self.regulariser.forward(x)

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Those of R."""
        return self.regulariser.value_and_grad(x)

    def grad(self, x: Tensor) -> Tensor:
        """w s⁻¹ ∇R(s x)."""
        return self._outer(1) * self.regulariser.grad(self.scale * x)

    def curvature(self, x: Tensor) -> LinearMap:
        """That of R."""
        return self.regulariser.hessian(x)

    def constants(self, image_shape: Shape) -> Bounds:
        """Those of R."""
        return self.regulariser.bounds(image_shape)

    def terms(self, image_shape: Shape) -> Magnitude:
        """Those of R."""
        return self.regulariser.magnitude(image_shape)

    def majoriser(self, x: Tensor) -> LinearMap | None:
        """w times that of R."""
        found = self.regulariser.majoriser(self.scale * x)
        return None if found is None else found.times(self.weight)

    def stencils(self, x: Tensor) -> list[Stencil] | None:
        """w times those of R."""
        found = self.regulariser.stencils(self.scale * x)
        return None if found is None else [part.times(self.weight.detach()) for part in found]

    def reach(self, x: Tensor, slope: Tensor) -> Reach:
        """That of R at s x, whose channels are s times as far apart."""
        own = self.regulariser.reach(self.scale * x, slope)
        return replace(own, offset=own.offset / in_double(self.log_scale))

    def spectrum(self, image_shape: Shape) -> Tensor | None:
        """w times that of R."""
        own = self.regulariser.spectrum(image_shape)
        return None if own is None else in_double(self.log_weight) * own

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """Kinks of R around s x; ∇²R̃ changes w s times as fast as ∇²R does there."""
        with torch.no_grad():
            weight, scale = in_double(self.log_weight), in_double(self.log_scale)
            own = self.regulariser.smoothness(self.scale * x, scale * radius)
            return Smoothness(own.kinks, weight * scale * own.lipschitz)

    def accounted(self) -> frozenset[str]:
        """Both, and what R accounts for."""
        own = accounted_under("regulariser", self.regulariser)
        return own | {"log_weight", "log_scale"}

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """Of R around s x; ∂_log w ∇R̃ = ∇R̃ and ∂_log s ∇R̃ = ∇²R̃ x - ∇R̃.

        Within r of x both change along q by at most a = r (‖∇²R̃ q‖ + e), where e bounds the change
        of ∇²R̃ q, and ∇²R̃ x by (‖x‖ + r) e more.
        """
        with torch.no_grad():
            weight, scale = in_double(self.log_weight), in_double(self.log_scale)
            own = self.regulariser.variation(self.scale * x, q, scale * radius)
            share = weight / scale
            found = Variation(weight * own.hessian, share * own.cross, share * own.cross_norm)
            hessian, slope = self.hessian(x), rows.length(self.grad(x))
            turn = radius * (rows.length(hessian(q)) + found.hessian)
            size = rows.length(x) + radius
            bounds = self.bounds((x.shape[1], x.shape[2], x.shape[3]))
            most = torch.maximum(bounds.lipschitz, -bounds.mu)
            reach = slope + most * radius
            parts = [(found.cross, found.cross_norm)]
            if self.log_weight.requires_grad:
                parts.append((turn, reach))
            if self.log_scale.requires_grad:
                parts.append((2 * turn + size * found.hessian, reach + most * size))
            cross, norm = (
                torch.stack([p.expand(len(x)) for p in side]).square().sum(0).sqrt()
                for side in zip(*parts, strict=True)
            )
            return Variation(found.hessian, cross, norm)

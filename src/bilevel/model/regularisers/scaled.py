"""A weight and a scale of grey values around any function of the image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude
from bilevel.model.operators.operator import Shape
from bilevel.model.part import around, check_learn, positive_parameter, zeros_for
from bilevel.model.regularisers.regulariser import Regulariser
from bilevel.model.sets import Set

__all__ = ["Scaled"]


class Scaled(Regulariser):
    """R(x) = w s⁻² N(s x), hence ∇R(x) = w s⁻¹ ∇N(s x) and ∇²R(x) = w ∇²N(s x).

    Args:
        weight: factor w [1]; for a contrast of 1 of the data 1 if None.
        scale: factor s of the image [1/grey value]; 1 over the contrast of the data if None.
        learn: names of what is learned, among ``names``.
        names: what can be.
    """

    log_weight: Tensor
    log_scale: Tensor

    def __init__(
        self,
        weight: float | None,
        scale: float | None,
        learn: Collection[str],
        names: Collection[str],
    ) -> None:
        super().__init__()
        check_learn(learn, names)
        if scale is None:
            self.leave("log_scale", grey=-1)
        self.log_weight = self.weighted(weight, 1.0, learn, degree=2)
        self.log_scale = positive_parameter(1.0 if scale is None else scale, "scale", learn)

    @abstractmethod
    def energy(self, x: Tensor) -> Tensor:
        """N(x): (b, c, h, w) -> (b,), one value a row."""

    @abstractmethod
    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N(x) and ∇N(x), differentiable in x and the parameters."""

    @abstractmethod
    def curvature(self, x: Tensor) -> LinearMap:
        """∇²N(x)."""

    @abstractmethod
    def constants(self, image_shape: Shape) -> Bounds:
        """Bounds of ∇²N over all images of that shape."""

    def terms(self, image_shape: Shape) -> Magnitude:
        """Size of the terms whose sum is ∇N: at most L ‖x‖ and ‖∇N(0)‖ unless overridden."""
        with torch.no_grad():
            offset = rows.length(self.value_and_slope(zeros_for(self, image_shape))[1])
        return Magnitude(self.constants(image_shape).lipschitz.to(offset), offset)

    def learned(self) -> list[str]:
        """Which of weight and scale are."""
        named = {"weight": self.log_weight, "scale": self.log_scale}
        return [name for name, parameter in named.items() if parameter.requires_grad]

    def sets(self) -> Mapping[str, Set]:
        """A positive weight and scale."""
        return {"log_weight": around(self.log_weight), "log_scale": around(self.log_scale)}

    @property
    def weight(self) -> Tensor:
        """w."""
        return self.log_weight.exp()

    @property
    def scale(self) -> Tensor:
        """s."""
        return self.log_scale.exp()

    def forward(self, x: Tensor) -> Tensor:
        """w s⁻² N(s x): (b, c, h, w) -> (b,)."""
        return self._outer(2).flatten() * self.energy(self.scale * x)

    def grad(self, x: Tensor) -> Tensor:
        """w s⁻¹ ∇N(s x)."""
        return self.value_and_grad(x)[1]

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both at the price of N's."""
        value, slope = self.value_and_slope(self.scale * x)
        return self._outer(2).flatten() * value, self._outer(1) * slope

    def hessian(self, x: Tensor) -> LinearMap:
        """w ∇²N(s x)."""
        return self.curvature(self.scale * x).times(self.weight)

    def bounds(self, image_shape: Shape) -> Bounds:
        """w times those of N."""
        own, weight = self.constants(image_shape), in_double(self.log_weight)
        return replace(own, mu=weight * own.mu, lipschitz=weight * own.lipschitz)

    def magnitude(self, image_shape: Shape) -> Magnitude:
        """That of N at s x, times w s⁻¹."""
        own, weight = self.terms(image_shape), in_double(self.log_weight)
        return Magnitude(weight * own.slope, weight / in_double(self.log_scale) * own.offset)

    def _outer(self, power: int) -> Tensor:
        """w s^-power: one for all rows or one each."""
        return (self.log_weight - power * self.log_scale).exp()


def in_double(log: Tensor) -> Tensor:
    """The positive number of that logarithm, detached."""
    return log.detach().double().exp()

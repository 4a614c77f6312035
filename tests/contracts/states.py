"""Parts that the library does not ship, written with its public bases: what a wall must hold."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from bilevel.ground import rows
from bilevel.linear import LinearMap
from bilevel.model import Bounds, Variation
from bilevel.model.bounds import Smoothness
from bilevel.model.operators import Differences, Operator
from bilevel.model.operators.operator import Interval, Shape
from bilevel.model.regularisers import Regulariser

D = Differences()


class InfimalConvolution(Regulariser):
    """½ w (‖D(u - v)‖² + s ‖D D v‖²) + ½ r ‖(u, v)‖², an image and as many further channels."""

    further = 1

    def __init__(self, weight: float = 0.1, second: float = 4.0, ridge: float = 0.0) -> None:
        super().__init__()
        self.log_weight = nn.Parameter(torch.tensor(weight).log())
        self.second, self.ridge = second, ridge

    def options(self) -> dict[str, object]:
        return {"second": self.second, "ridge": self.ridge}

    def accounted(self) -> frozenset[str]:
        return frozenset({"log_weight"})

    def forward(self, x: Tensor) -> Tensor:
        u, v = x.chunk(2, dim=1)
        first, second = D(u - v), D(D(v))
        square = first.square().flatten(1).sum(1) + self.second * second.square().flatten(1).sum(1)
        return 0.5 * (self.log_weight.exp() * square + self.ridge * rows.inner(x, x))

    def _bend(self, x: Tensor) -> Tensor:
        u, v = x.chunk(2, dim=1)
        first = D.adjoint(D(u - v))
        second = self.second * D.adjoint(D.adjoint(D(D(v))))
        return self.log_weight.exp() * torch.cat([first, second - first], 1)

    def grad(self, x: Tensor) -> Tensor:
        return self._bend(x) + self.ridge * x

    def hessian(self, x: Tensor) -> LinearMap:
        return LinearMap.shared(self.grad)

    def majoriser(self, x: Tensor) -> LinearMap:
        return self.hessian(x)

    def bounds(self, image_shape: tuple[int, int, int]) -> Bounds:
        return Bounds.of(self.ridge, self._most() + self.ridge)

    def _most(self) -> Tensor:
        return self.log_weight.detach().double().exp() * (2 * 8 + self.second * 64)

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """∂∇R/∂log w is linear in x."""
        move, nothing = self._most() * radius, torch.zeros_like(radius, dtype=torch.float64)
        here = rows.norm(self._bend(x).detach()).double()
        return Variation(nothing, move * rows.norm(q), here + move)

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        return Smoothness.quadratic(x)


class ComplexFourier(Operator):
    """m F z of complex images: c real channels, then the c imaginary ones; data likewise."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        z = cast(Tensor, torch.fft.fft2(torch.complex(*x.chunk(2, 1)), norm="ortho"))
        return self.mask * torch.cat([z.real, z.imag], 1)

    def adjoint(self, y: Tensor) -> Tensor:
        z = torch.complex(*(self.mask * y).chunk(2, 1))
        z = cast(Tensor, torch.fft.ifft2(z, norm="ortho"))
        return torch.cat([z.real, z.imag], 1)

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """F is unitary: all m², exactly."""
        squares = self.mask.double().square()
        return Interval(float(squares.min()) / (1 + 1e-12), float(squares.max()) * (1 + 1e-12))

    def options(self) -> dict[str, object]:
        return {"mask": self.mask}


class TwoTaps(Operator):
    """x -> a x + b x shifted by a row, a and b learned; ‖A‖ <= |a| + |b|."""

    def __init__(self, first: float = 1.0, second: float = -0.6) -> None:
        super().__init__()
        self.taps = nn.Parameter(torch.tensor([first, second]))

    def forward(self, x: Tensor) -> Tensor:
        return self.taps[0] * x + self.taps[1] * x.roll(1, 2)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.taps[0] * y + self.taps[1] * y.roll(-1, 2)

    def gram_bounds(self, image_shape: Shape) -> Interval:
        return Interval(0.0, float(self.taps.detach().double().abs().sum()) ** 2 * (1 + 1e-12))

    def options(self) -> dict[str, object]:
        return {}

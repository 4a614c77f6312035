"""Terms that the library does not ship, written with its public bases: what a wall must hold."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bilevel.linear import LinearMap
from bilevel.model import Bounds, Variation
from bilevel.model.operators import Differences
from bilevel.model.regularisers import Regulariser

D = Differences()


class InfimalConvolution(Regulariser):
    """½ w ‖D(u - v)‖² + ½ s w ‖D D v‖² of a state (u, v): image and one further channel each."""

    further = 1

    def __init__(self, weight: float = 0.1, second: float = 4.0) -> None:
        super().__init__()
        self.log_weight = nn.Parameter(torch.tensor(weight).log())
        self.second = second

    def options(self) -> dict[str, object]:
        return {"second": self.second}

    def forward(self, x: Tensor) -> Tensor:
        u, v = x.chunk(2, dim=1)
        first, second = D(u - v), D(D(v))
        square = first.square().flatten(1).sum(1) + self.second * second.square().flatten(1).sum(1)
        return 0.5 * self.log_weight.exp() * square

    def grad(self, x: Tensor) -> Tensor:
        u, v = x.chunk(2, dim=1)
        first = D.adjoint(D(u - v))
        second = self.second * D.adjoint(D.adjoint(D(D(v))))
        return self.log_weight.exp() * torch.cat([first, second - first], 1)

    def hessian(self, x: Tensor) -> LinearMap:
        return LinearMap.shared(self.grad)

    def bounds(self, image_shape: tuple[int, int, int]) -> Bounds:
        weight = self.log_weight.detach().double().exp()
        return Bounds.of(0.0, weight * (2 * 8 + self.second * 64))

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        return Variation.unknown(x)

"""The absolute distance to the data: impulse noise and outliers."""

from __future__ import annotations

from typing import ClassVar, NoReturn

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Variation
from bilevel.model.fidelities.weighted import WeightedFidelity
from bilevel.model.lengths import Lengths
from bilevel.model.operators import Identity
from bilevel.model.operators.operator import Shape
from bilevel.model.simple import Distance, Simple

__all__ = ["L1"]


class L1(WeightedFidelity):
    """Ψ(A x; y) = w ‖A x - y‖₁ (Nikolova 2004); minimised by FISTA or PDHG.

    The weight is fixed at 1 unless ``learn=("weight",)``.

    Raises:
        InputError: a weight that is not positive, an unknown name in ``learn``.

    Example:
        >>> L1()(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)).item()
        4.0
    """

    degree: ClassVar[int] = 1

    def term(self, y: Tensor) -> Simple | Lengths:
        """Simple for denoising, otherwise dual."""
        weight = self.weight
        if isinstance(self.operator, Identity):
            return Simple(distance=Distance(weight, y))
        return Lengths(self.operator, weight, shift=y)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """W ‖A x - y‖₁, (b,)."""
        return self.weight * (self.operator(x) - y).abs().flatten(1).sum(1)

    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        """Refused."""
        self._refuse()

    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        """Refused."""
        self._refuse()

    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """Refused."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        what = "an L1 fidelity is not smooth and has no derivative"
        raise InputError(what, advice="take SquaredL2, or FISTA or PDHG on energy.at(y)")

    def bounds(self, image_shape: Shape, y: Tensor) -> Bounds:
        """Convex, and no more."""
        del image_shape, y
        return Bounds.of(0.0, float("inf"))

    def magnitude(self, image_shape: Shape, y: Tensor) -> Magnitude:
        """Unknown: there is no gradient."""
        del image_shape
        inf = torch.full((len(y),), torch.inf, dtype=torch.float64, device=y.device)
        return Magnitude(inf, inf)

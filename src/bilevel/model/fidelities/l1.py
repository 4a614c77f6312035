"""The absolute distance to the data: impulse noise and outliers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NoReturn

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Variation
from bilevel.model.fidelities.fidelity import Fidelity
from bilevel.model.lengths import Lengths
from bilevel.model.operators import Identity
from bilevel.model.operators.operator import Operator, Shape
from bilevel.model.part import POSITIVE, check_learn, positive_parameter
from bilevel.model.sets import Set
from bilevel.model.simple import Distance, Simple

__all__ = ["L1"]


class L1(Fidelity):
    """Ψ(A x; y) = w ‖A x - y‖₁ (Nikolova 2004); minimised by FISTA or PDHG.

    The weight is fixed at 1 unless ``learn=("weight",)``.

    Raises:
        InputError: a weight that is not positive, an unknown name in ``learn``.

    Example:
        >>> L1()(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)).item()
        4.0
    """

    log_weight: Tensor

    def __init__(
        self,
        operator: Operator | None = None,
        weight: float = 1.0,
        *,
        learn: Collection[str] = (),
    ) -> None:
        """Forward operator A (identity if none) and weight [1]."""
        super().__init__()
        check_learn(learn, ("weight",))
        self.operator = Identity() if operator is None else operator
        self.log_weight = positive_parameter(weight, "weight", learn)

    @property
    def weight(self) -> Tensor:
        """w."""
        return self.log_weight.exp()

    def sets(self) -> Mapping[str, Set]:
        """A positive weight."""
        return {"log_weight": POSITIVE}

    def options(self) -> dict[str, object]:
        """What builds it again; the weight itself travels as a parameter."""
        learn = ("weight",) if self.log_weight.requires_grad else ()
        return {"operator": self.operator, "learn": learn}

    def term(self, y: Tensor) -> Simple | Lengths:
        """Simple for denoising, otherwise dual."""
        weight = self.weight.detach()
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

    def bounds(self, image_shape: Shape) -> Bounds:
        """Convex, and no more."""
        del image_shape
        return Bounds.of(0.0, float("inf"))

    def magnitude(self, image_shape: Shape, y: Tensor) -> Magnitude:
        """Unknown: there is no gradient."""
        del image_shape
        inf = torch.full((len(y),), torch.inf, dtype=torch.float64, device=y.device)
        return Magnitude(inf, inf)

    def start(self, y: Tensor) -> Tensor:
        """Aᵀy over the upper bound of ‖A‖²: y itself for denoising."""
        x = self.operator.adjoint(y)
        upper = self.operator.gram_bounds((x.shape[1], x.shape[2], x.shape[3])).upper
        return x / upper if upper > 0 else x

"""Tikhonov regularisation, the quadratic that makes a problem strongly convex."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Smoothness, Variation
from bilevel.model.operators import Identity
from bilevel.model.operators.operator import Operator, Shape, check_operator
from bilevel.model.operators.turned import turned
from bilevel.model.part import accounted_under, around, check_learn
from bilevel.model.preconditioner import Stencil
from bilevel.model.regularisers.regulariser import Regulariser
from bilevel.model.sets import Set
from bilevel.model.smooth import Summand

__all__ = ["Tikhonov"]


class Tikhonov(Regulariser):
    """weight/2 ‖x‖²: small grey values.

    R(x) = w/2 ‖B x‖², B the identity unless an operator is given.

    Args:
        weight: factor w [1].
        operator: B, the identity if None.
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a weight that is not positive, an unknown name in ``learn``.

    Example:
        >>> Tikhonov(2.0)(torch.ones(1, 1, 2, 2))
        tensor([4.], grad_fn=<MulBackward0>)
    """

    log_weight: Tensor

    def __init__(
        self,
        weight: float | None = None,
        operator: Operator | None = None,
        *,
        learn: Collection[str] = ("weight",),
    ) -> None:
        """Weight, 1e-3 for a contrast of 1 if None, and operator B; ``learn=()`` keeps it fixed."""
        super().__init__()
        check_learn(learn, ("weight",))
        self.operator = Identity() if operator is None else check_operator(operator)
        self.log_weight = self.weighted(weight, 1e-3, learn, degree=2)

    @property
    def weight(self) -> Tensor:
        """w."""
        return self.log_weight.exp()

    def sets(self) -> Mapping[str, Set]:
        """A positive weight."""
        return {"log_weight": around(self.log_weight)}

    def options(self) -> dict[str, object]:
        """What builds it again; the weight itself travels as a parameter."""
        learn = ("weight",) if self.log_weight.requires_grad else ()
        return {"operator": self.operator, "learn": learn}

    def check(self, image_shape: Shape) -> None:
        """The operator must accept the image."""
        self.operator.data_shape(image_shape)

    def forward(self, x: Tensor) -> Tensor:
        """w/2 ‖B x‖²: (b, c, h, w) -> (b,)."""
        return 0.5 * self.weight * self.operator(x).square().flatten(1).sum(1)

    def grad(self, x: Tensor) -> Tensor:
        """w BᵀB x."""
        return self.weight * self._gram(x)

    def summands(self) -> tuple[Summand, ...] | None:
        """w x for the identity."""
        return ((torch.mul, (self.weight,)),) if isinstance(self.operator, Identity) else None

    def _gram(self, x: Tensor) -> Tensor:
        return self.operator.adjoint(self.operator(x))

    def hessian(self, x: Tensor) -> LinearMap:
        """w BᵀB."""
        return LinearMap.shared(self.grad)

    def majoriser(self, x: Tensor) -> LinearMap:
        """The Hessian itself."""
        return self.hessian(x)

    def stencils(self, x: Tensor) -> list[Stencil] | None:
        """For the operators of which one is known."""
        gram = self.operator.gram_stencil(x)
        return None if gram is None else [gram.times(self.weight.detach())]

    def bounds(self, image_shape: Shape) -> Bounds:
        """w times the bounds of BᵀB."""
        gram = self.operator.gram_bounds(image_shape)
        weight = self.log_weight.detach().double().exp()
        return Bounds.of(weight * gram.lower, weight * gram.upper)

    def spectrum(self, image_shape: Shape) -> Tensor | None:
        """w times the spectrum of BᵀB."""
        gram = self.operator.gram_spectrum(image_shape)
        return None if gram is None else self.log_weight.detach().double().exp() * gram

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """Quadratic."""
        return Smoothness.quadratic(x)

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """∇²R is constant; ∂∇R/∂log w = ∇R, and by θ of B as in :func:`turned`."""
        with torch.no_grad():
            total = turned(self.operator, self.weight, x, self.operator(x), q, radius)
            if not self.log_weight.requires_grad:
                return total
            pull, turn = rows.length(self.grad(x)), rows.length(self.grad(q))
            upper = self.bounds((x.shape[1], x.shape[2], x.shape[3])).lipschitz
            nothing = torch.zeros_like(total.hessian)
            return total + Variation(nothing, turn * radius, pull + upper * radius)

    def accounted(self) -> frozenset[str]:
        """The weight, and what the operator has."""
        return accounted_under("operator", self.operator) | {"log_weight"}

"""The sum of absolute values: few pixels that are not zero."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from bilevel.model.part import around, check_learn
from bilevel.model.proximable import Distance, Proximable
from bilevel.model.regularisers.nonsmooth import NonSmoothRegulariser
from bilevel.model.sets import Set

__all__ = ["Sparsity"]


class Sparsity(NonSmoothRegulariser):
    """weight ‖x‖₁: few pixels that are not zero.

    R(x) = w ‖x‖₁.

    Args:
        weight: factor w [1].
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a weight that is not positive, an unknown name in ``learn``.

    Example:
        >>> import torch
        >>> Sparsity(2.0)(-torch.ones(1, 1, 2, 2)).item()
        8.0
    """

    log_weight: Tensor

    def __init__(
        self, weight: float | None = None, *, learn: Collection[str] = ("weight",)
    ) -> None:
        """Weight; 0.1 for a contrast of 1 if None."""
        super().__init__()
        check_learn(learn, ("weight",))
        self.log_weight = self.weighted(weight, 0.1, learn)

    @property
    def weight(self) -> Tensor:
        """w."""
        return self.log_weight.exp()

    def sets(self) -> Mapping[str, Set]:
        """A positive weight."""
        return {"log_weight": around(self.log_weight)}

    def accounted(self) -> frozenset[str]:
        """The weight."""
        return frozenset({"log_weight"})

    def options(self) -> dict[str, object]:
        """What builds it again; the weight itself travels as a parameter."""
        return {"learn": ("weight",) if self.log_weight.requires_grad else ()}

    def term(self) -> Proximable:
        """The distance to 0."""
        weight = self.weight
        return Proximable(distance=Distance(weight, weight.new_zeros(())))

    def forward(self, x: Tensor) -> Tensor:
        """w ‖x‖₁: (b, c, h, w) -> (b,)."""
        return self.weight * x.abs().flatten(1).sum(1)

    def widened(self, y: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """An interval with 0 in it."""
        del y
        return lower.clamp_max(0.0), upper.clamp_min(0.0)

"""The absolute distance to the data: impulse noise and outliers."""

from __future__ import annotations

from torch import Tensor

from bilevel.model.fidelities.weighted import Weighted, around_data
from bilevel.model.group_norm import GroupNorm
from bilevel.model.operators import Identity
from bilevel.model.proximable import Distance, Proximable

__all__ = ["L1"]


class L1(Weighted):
    """weight ‖A x - y‖₁: outliers, impulse noise.

    Ψ(A x; y) = w ‖A x - y‖₁ (Nikolova 2004); minimised by FISTA or PDHG.

    The weight is fixed at 1 unless ``learn=("weight",)``.

    Args:
        operator: A, the identity if None.
        weight: factor w [1].
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a weight that is not positive, an unknown name in ``learn``.

    Example:
        >>> import torch
        >>> L1()(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)).item()
        4.0
    """

    degree = 1

    def at(self, y: Tensor) -> tuple[Proximable | GroupNorm]:
        """With a proximal map for denoising, otherwise dual."""
        weight = self.weight
        if isinstance(self.operator, Identity):
            return (Proximable(distance=Distance(weight, y)),)
        return (GroupNorm(self.operator, weight, shift=y),)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """w ‖A x - y‖₁, (b,)."""
        return self.weight * (self.operator(x) - y).abs().flatten(1).sum(1)

    def accounted(self) -> frozenset[str]:
        """The weight."""
        return frozenset({"log_weight"})

    def widened(self, y: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Around the data, where pixels are seen."""
        return around_data(self.operator, y, lower, upper)

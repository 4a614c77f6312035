"""Total variation itself, without smoothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model.group_norm import GroupNorm
from bilevel.model.operators import Differences
from bilevel.model.operators.operator import Shape
from bilevel.model.part import around, check_learn
from bilevel.model.regularisers.nonsmooth import NonSmoothRegulariser
from bilevel.model.sets import Set

__all__ = ["ExactTotalVariation"]


class ExactTotalVariation(NonSmoothRegulariser):
    """Total variation itself, without smoothing: edges stay sharp.

    R(x) = Σ_i w_i |(D x)_i|, D the forward differences, zero across the last row and column.

    ``isotropic`` takes the length of the two differences of a pixel, otherwise each alone; with
    several channels, each channel by itself (Rudin, Osher, Fatemi 1992), unless they are
    ``coupled``: then the length of the differences of a pixel in all of them.

    Args:
        weight: factor w, one or a map (h, w) [1].
        isotropic: penalise both differences of a pixel together.
        coupled: penalise those of all channels together; isotropic only.
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a weight that is not positive, an unknown name in ``learn``, channels coupled
            though not ``isotropic``.

    Example:
        >>> import torch
        >>> step = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 1, 4, 4)
        >>> round(ExactTotalVariation(0.5)(step).item(), 6)
        2.0
    """

    log_weight: Tensor
    maps: ClassVar[frozenset[str]] = frozenset({"log_weight"})

    def __init__(
        self,
        weight: float | Tensor | None = None,
        *,
        isotropic: bool = True,
        coupled: bool = False,
        learn: Collection[str] = ("weight",),
    ) -> None:
        """Weight: one or a map (h, w), 0.05 for a contrast of 1 if None."""
        super().__init__()
        check_learn(learn, ("weight",))
        if coupled and not isotropic:
            raise InputError("coupled channels need isotropic=True", given="isotropic=False")
        self.isotropic, self.coupled = isotropic, coupled
        self.log_weight = self.weighted(weight, 0.05, learn)
        if self.log_weight.ndim not in (0, 2):
            given = tuple(self.log_weight.shape)
            raise InputError("weight must be a number or a map of shape (h, w)", given=given)

    @property
    def weight(self) -> Tensor:
        """w."""
        return self.log_weight.exp()

    def sets(self) -> Mapping[str, Set]:
        """Positive weights."""
        return {"log_weight": around(self.log_weight)}

    def options(self) -> dict[str, object]:
        """What builds it again; a map keeps its shape, the values travel as parameters."""
        return {
            "weight": self.weight.detach(),
            "isotropic": self.isotropic,
            "coupled": self.coupled,
            "learn": ("weight",) if self.log_weight.requires_grad else (),
        }

    def check(self, image_shape: Shape) -> None:
        """A map of weights must have the size of the image."""
        if self.log_weight.ndim == 2 and tuple(self.log_weight.shape) != image_shape[1:]:
            raise InputError(
                f"the map of weights has shape {tuple(self.log_weight.shape)}",
                given=f"images of {image_shape[1:]}",
                advice="learn a map on images of one size and use it on that size",
            )

    def term(self) -> GroupNorm:
        """GroupNorm of the differences."""
        together = None if self.coupled else 2
        return GroupNorm(Differences(), self.weight, group=together if self.isotropic else 1)

    def forward(self, x: Tensor) -> Tensor:
        """R(x): (b, c, h, w) -> (b,)."""
        term = self.term()
        return term.value(term.forward(x))

    def widened(self, y: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Any interval."""
        del y
        return lower, upper

"""One regulariser at several scales of the image."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.composed import ComposedSmooth
from bilevel.model.operators.block_means import BlockMeans
from bilevel.model.operators.operator import Shape
from bilevel.model.part import accounted_under, around, check_learn, one_or_each, positive_parameter
from bilevel.model.regularisers.composed import check_smooth
from bilevel.model.regularisers.regulariser import Regulariser
from bilevel.model.sets import Set
from bilevel.model.smooth import RowScaled, Smooth, SmoothSum
from bilevel.model.term import BoundTerm

__all__ = ["MultiScale"]


class MultiScale(Regulariser):
    """The same regulariser of the image and of coarser copies: wider structures at little cost.

    R(x) = R_0(x) + Σ_{l=1}^L v_l R_0(S_l x), S_l the means of blocks of 2^l x 2^l pixels, of those
    that are there at the last row and column. ‖S_l‖ is one over the root of the fewest pixels of a
    block: 2^-l where 2^l divides the sides.

    Args:
        regulariser: R_0, a smooth one.
        levels: L >= 1, coarser copies.
        level_weight: factors v of the coarser copies, one or one each [1].
        learn: ``("level_weight",)`` to learn them; what R_0 learns is its own choice.

    Raises:
        InputError: something that is no smooth regulariser, no coarser copy, weights that do not
            fit; by ``check``, images that are smaller than a block.

    Example:
        >>> from bilevel.model.regularisers import Tikhonov
        >>> MultiScale(Tikhonov(2.0, learn=()), 2)(torch.ones(1, 1, 8, 8)).item()
        84.0
    """

    log_level_weight: Tensor

    def __init__(
        self,
        regulariser: Regulariser,
        levels: int = 1,
        level_weight: float | Tensor = 1.0,
        *,
        learn: Collection[str] = ("level_weight",),
    ) -> None:
        super().__init__()
        check_learn(learn, ("level_weight",))
        if not isinstance(levels, int) or not 1 <= levels <= 15:  # pyright: ignore[reportUnnecessaryIsInstance]
            what = "levels must be a whole number from 1 to 15: the coarser copies of the image"
            raise InputError(what, given=levels)
        each = one_or_each(level_weight, levels, "level_weight", "level")
        self.regulariser, self.levels = check_smooth(regulariser), levels
        self.further = regulariser.further
        self.log_level_weight = positive_parameter(each, "level_weight", learn)

    def options(self) -> dict[str, object]:
        """What builds it again; the weights travel as parameters."""
        learn = ("level_weight",) if self.log_level_weight.requires_grad else ()
        return {"regulariser": self.regulariser, "levels": self.levels, "learn": learn}

    def sets(self) -> Mapping[str, Set]:
        """Positive weights."""
        return {"log_level_weight": around(self.log_level_weight)}

    def check(self, image_shape: Shape) -> None:
        """A block must fit into the image, and every copy the regulariser."""
        _, *size = image_shape
        side, least = 2**self.levels, min(size)
        if side > least:
            most = least.bit_length() - 1
            advice = f"take at most {most}" if most else "take the regulariser alone"
            what = f"{self.levels} levels need images of at least {side} pixels a side"
            raise InputError(what, given=f"images (c, h, w) = {image_shape}", advice=advice)
        self.regulariser.check(image_shape)
        for level, term in enumerate(self._copies((size[0], size[1])), start=1):
            try:
                self.regulariser.check(term.operator.data_shape(image_shape))
            except InputError as error:
                what = f"the copy of level {level} does not fit: {error}"
                raise InputError(what, advice="take fewer levels, or larger images") from error

    def _copies(self, size: tuple[int, int]) -> list[ComposedSmooth]:
        """R_0(S_l x), l = 1, ..., L, of images of that size."""
        inner = BoundTerm(self.regulariser)
        return [ComposedSmooth(inner, BlockMeans(2**k, size)) for k in range(1, self.levels + 1)]

    def _term(self, size: tuple[int, int], batch: tuple[int, ...]) -> SmoothSum:
        """R, with weights of that shape: (b,), or () where bounds are asked for."""
        weights = self.log_level_weight.exp()
        scaled: list[Smooth] = [
            RowScaled(term, weight.expand(batch))
            for term, weight in zip(self._copies(size), weights, strict=True)
        ]
        return SmoothSum((BoundTerm(self.regulariser), *scaled))

    def _at(self, x: Tensor) -> SmoothSum:
        return self._term((x.shape[2], x.shape[3]), (len(x),))

    def forward(self, x: Tensor) -> Tensor:
        """R(x): (b, c, h, w) -> (b,)."""
        return self._at(x).value(x)

    def grad(self, x: Tensor) -> Tensor:
        """∇R_0(x) + Σ v_l S_lᵀ ∇R_0(S_l x)."""
        return self._at(x).grad(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both."""
        return self._at(x).value_and_grad(x)

    def hessian(self, x: Tensor) -> LinearMap:
        """The sum of all."""
        return self._at(x).hessian(x)

    def majoriser(self, x: Tensor) -> LinearMap | None:
        """The sum of all, where R_0 has one."""
        return self._at(x).majoriser(x)

    def bounds(self, image_shape: Shape) -> Bounds:
        """The sums of those of all."""
        return self._term(image_shape[1:], ()).bounds(image_shape)

    def magnitude(self, image_shape: Shape) -> Magnitude:
        """The sum of those of all."""
        return self._term(image_shape[1:], ()).magnitude(image_shape)

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """Of all."""
        return self._at(x).smoothness(x, radius)

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """Of all; ∂∇R/∂log v_l = v_l S_lᵀ ∇R_0(S_l x) changes along q by v_l H_l q at most."""
        with torch.no_grad():
            total = self._at(x).variation(x, q, radius)
            if not self.log_level_weight.requires_grad:
                return total
            parts = [
                self._weight_variation(part, x, q, radius.double())
                for part in self._at(x).terms[1:]
            ]
            cross, reach = (torch.stack(k).square().sum(0) for k in zip(*parts, strict=True))
            crossed = (total.cross.square() + cross).sqrt()
            return Variation(total.hessian, crossed, (total.cross_norm.square() + reach).sqrt())

    @staticmethod
    def _weight_variation(
        part: Smooth, x: Tensor, q: Tensor, radius: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Bounds of cross and cross_norm by one log weight, (b,) each."""
        bend = rows.length(part.hessian(x)(q)) + part.variation(x, q, radius).hessian
        shape = x.shape[1], x.shape[2], x.shape[3]
        return radius * bend, rows.length(part.grad(x)) + radius * part.bounds(shape).lipschitz

    def accounted(self) -> frozenset[str]:
        """The weights, and what R_0 accounts for."""
        return accounted_under("regulariser", self.regulariser) | {"log_level_weight"}

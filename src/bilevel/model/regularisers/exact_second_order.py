"""Total generalised variation and infimal convolutions themselves, without smoothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.model.bounds import Reach
from bilevel.model.group_norm import GroupNorm
from bilevel.model.part import around, check_learn, positive_parameter
from bilevel.model.regularisers.regulariser import ImageTerm
from bilevel.model.regularisers.second_order import FORM_OF_ICTV, FORM_OF_TGV, Form
from bilevel.model.regularisers.smooth_second_order import set_of_ratio
from bilevel.model.sets import Set

__all__ = ["ExactInfimalConvolutionTV", "ExactTotalGeneralisedVariation"]

PARAMETERS = ("weight", "ratio")


class _ExactSecondOrder(ImageTerm):
    """α Σ_i |(K₁x)_i| + β Σ_i |(K₂x)_i| of a state x with further channels."""

    form: ClassVar[Form]
    log_weight: Tensor
    log_ratio: Tensor

    def __init__(
        self,
        weight: float | None = None,
        ratio: float = 2.0,
        *,
        coupled: bool = False,
        learn: Collection[str] = PARAMETERS,
    ) -> None:
        """For a contrast of 1 of the data the weight is 0.05 where None is given."""
        super().__init__()
        check_learn(learn, PARAMETERS)
        self.further, self.coupled = self.form.further, coupled
        self.log_weight = self.weighted(weight, 0.05, learn)
        self.log_ratio = positive_parameter(check_positive(ratio, "ratio"), "ratio", learn)

    @property
    def both(self) -> tuple[Tensor, Tensor]:
        """α and β."""
        return self.log_weight.exp(), (self.log_weight + self.log_ratio).exp()

    def sets(self) -> Mapping[str, Set]:
        """A positive weight, and a ratio of use."""
        return {"log_weight": around(self.log_weight), "log_ratio": set_of_ratio(self.log_ratio)}

    def options(self) -> dict[str, object]:
        """What builds it again."""
        return {
            "weight": self.log_weight.exp().item(),
            "ratio": self.log_ratio.exp().item(),
            "coupled": self.coupled,
            "learn": [n for n in PARAMETERS if getattr(self, f"log_{n}").requires_grad],
        }

    def at(self, y: Tensor) -> tuple[GroupNorm, GroupNorm]:
        """Both lengths, whatever the data."""
        del y
        return self.terms()

    def terms(self) -> tuple[GroupNorm, GroupNorm]:
        """A length of two, and one of three parts; of all channels where they are coupled."""
        (alpha, beta), form = self.both, self.form
        first, second = (None, None) if self.coupled else (2, 3)
        return GroupNorm(form.first, alpha, first), GroupNorm(form.second, beta, second)

    def forward(self, x: Tensor) -> Tensor:
        """R(x): (b, (1 + further) c, h, w) -> (b,)."""
        first, second = (term.value(term.forward(x)) for term in self.terms())
        return first + second

    def reach(self, x: Tensor, slope: Tensor) -> Reach:
        """That of the form."""
        first, second = self.terms()
        near = _total(first.sizes(first.forward(x)))
        value = first.weight * near + second.weight * _total(second.sizes(second.forward(x)))
        weights = first.weight.item(), second.weight.item()
        return self.form.reach(
            x, slope, value, near, weights=weights, lag=0.0, coupled=self.coupled
        )


def _total(a: Tensor) -> Tensor:
    return a.sum(-1, dtype=torch.float64).flatten(1).sum(1)


class ExactTotalGeneralisedVariation(_ExactSecondOrder):
    """Total generalised variation of second order itself: edges stay sharp, slopes stay slopes.

    R(u, w) = α Σ_i |(D u - w)_i| + β Σ_i |(E w)_i| (Bredies, Kunisch, Pock 2010), minimised by PDHG
    together with w, two further channels for each of the image u.

    Everything else is as in :class:`~bilevel.model.regularisers.TotalGeneralisedVariation`. PDHG
    is slow here, as J is not strongly convex in w: thousands of steps to a certified image, which
    is asked for a hundredth of the contrast unless told otherwise. The smooth form is the one to
    learn with.

    Args:
        weight: factor α [1].
        ratio: β/α [pixel].
        coupled: penalise those of all channels together.
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: weight or ratio not positive, an unknown name in ``learn``.

    Example:
        >>> import torch
        >>> ramp = torch.arange(4.0).expand(1, 1, 4, 4)
        >>> state = torch.cat([ramp, 0 * ramp, 0 * ramp], 1)
        >>> round(ExactTotalGeneralisedVariation(0.5)(state).item(), 6)
        6.0
    """

    form: ClassVar[Form] = FORM_OF_TGV


class ExactInfimalConvolutionTV(_ExactSecondOrder):
    """The infimal convolution of variations itself: an image with edges plus one with slopes.

    R(u, v) = α Σ_i |(D (u - v))_i| + β Σ_i |(E D v)_i| (Chambolle and Lions 1997), minimised by
    PDHG together with v, one further channel for each of the image u.

    Everything else is as in :class:`~bilevel.model.regularisers.InfimalConvolutionTV`. PDHG is
    slow here, as J is not strongly convex in v: thousands of steps to a certified image, which is
    asked for a hundredth of the contrast unless told otherwise. The smooth form is the one to learn
    with.

    Args:
        weight: factor α [1].
        ratio: β/α [pixel].
        coupled: penalise those of all channels together.
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: weight or ratio not positive, an unknown name in ``learn``.

    Example:
        >>> import torch
        >>> ramp = torch.arange(4.0).expand(1, 1, 4, 4)
        >>> round(ExactInfimalConvolutionTV(0.5)(torch.cat([ramp, 0 * ramp], 1)).item(), 6)
        6.0
    """

    form: ClassVar[Form] = FORM_OF_ICTV

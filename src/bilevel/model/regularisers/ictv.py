"""The infimal convolution of total variations of first and second order, smoothed."""

from __future__ import annotations

from typing import ClassVar

from bilevel.model.regularisers.second_order import FORM_OF_ICTV, Form
from bilevel.model.regularisers.smooth_second_order import SmoothSecondOrder

__all__ = ["InfimalConvolutionTV"]


class InfimalConvolutionTV(SmoothSecondOrder):
    """A sum of edges and slopes: the infimal convolution of first- and second-order variation.

    R(u, v) = α Σ_i φ_ν(|(D (u - v))_i|) + β Σ_i φ_ν(|(E D v)_i|), minimised together with v, one
    further channel for each of the image u (Chambolle and Lions 1997, Section 4).

    The image is u - v, with edges, plus v, with slopes. D and E are those of
    :class:`~bilevel.model.regularisers.TotalGeneralisedVariation`, which is never larger: it is
    this where w = D v. Affine images cost nothing. With several channels, each channel by itself,
    unless they are ``coupled``. α is the weight and β = α times the ratio, both learned, β/α within
    [e⁻³, e⁵]. ∇²R <= (8α + 32β + √(1024β² + 64α²))/ν, since ‖D‖² <= 8 and ‖E‖² <= 8.

    J does not change where a constant is added to v: certificates speak of the image alone
    (:class:`~bilevel.solve.Claim`).

    Args:
        weight: factor α [1].
        ratio: β/α [pixel].
        smoothing: where the potential turns from quadratic to linear, ν [grey value].
        coupled: penalise those of all channels together.
        potential: φ.
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: weight, ratio or smoothing not positive, an unknown potential or name in
            ``learn``.

    Example:
        >>> import torch
        >>> ramp = torch.arange(4.0).expand(1, 1, 4, 4)
        >>> InfimalConvolutionTV(0.1)(torch.cat([ramp, ramp + 3], 1)).item()
        0.0
        >>> ictv = InfimalConvolutionTV(0.1, 1.0, 0.01)
        >>> round(ictv.bounds((2, 256, 256)).lipschitz.item(), 1)
        729.8
    """

    form: ClassVar[Form] = FORM_OF_ICTV

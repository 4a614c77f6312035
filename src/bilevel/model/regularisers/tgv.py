"""Second-order total generalised variation, smoothed by a Huber or Charbonnier function."""

from __future__ import annotations

from typing import ClassVar

from bilevel.model.regularisers.second_order import FORM_OF_TGV, Form
from bilevel.model.regularisers.smooth_second_order import SmoothSecondOrder

__all__ = ["TotalGeneralisedVariation"]


class TotalGeneralisedVariation(SmoothSecondOrder):
    """Edges and slopes: total generalised variation of second order, without stairs on ramps.

    R(u, w) = α Σ_i φ_ν(|(D u - w)_i|) + β Σ_i φ_ν(|(E w)_i|), minimised together with w, two
    further channels for each of the image u (Bredies, Kunisch, Pock 2010).

    D are the forward differences, E w the symmetrised backward differences, whose first and last
    rows or columns are left out, so that affine images cost nothing. Lengths are those of a pixel's
    two differences and of its symmetric matrix; with several channels, each channel by itself,
    unless they are ``coupled``: then of all channels together. α is the weight and β = α times the
    ratio: both are learned, β/α within [e⁻³, e⁵]; for β/α → ∞ what remains is the total variation
    of u less a smooth slope that does not bend. ∇²R <= (9α + 8β + √((7α - 8β)² + 32α²))/(2ν), since
    ‖D‖² <= 8 and ‖E‖² <= 8.

    J is not strongly convex in w: certificates speak of the image alone
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
        >>> state = torch.cat([ramp, 0 * ramp, torch.ones_like(ramp)], 1)
        >>> state[:, 2, :, -1] = 0
        >>> TotalGeneralisedVariation(0.1)(state).item()
        0.0
        >>> tgv = TotalGeneralisedVariation(0.1, 1.0, 0.01)
        >>> round(tgv.bounds((3, 256, 256)).lipschitz.item(), 2)
        113.72
    """

    form: ClassVar[Form] = FORM_OF_TGV

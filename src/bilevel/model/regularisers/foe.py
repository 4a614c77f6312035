"""Fields of experts: learnable filters, weights and potential."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, fold

from bilevel.ground import rows
from bilevel.ground.checks import check_choice, check_kind, numbers
from bilevel.ground.errors import InputError
from bilevel.ground.fused import differentiating
from bilevel.model.bounds import Variation
from bilevel.model.learned_potentials import LearnedPotential, LinearSpline
from bilevel.model.operators.operator import Shape
from bilevel.model.part import accounted_under, check_learn, one_or_each
from bilevel.model.penalties import Penalty, RadialPenalty, SeparablePenalty
from bilevel.model.potentials import POTENTIALS, EvenFunction, potential_of
from bilevel.model.radial_basis import RadialBasis
from bilevel.model.regularisers.filtered import FeatureBall, FilteredRegulariser
from bilevel.model.regularisers.mirror import Margin, folded, gram_norm, mirrored, response_norms
from bilevel.model.regularisers.shifts import add_shifted
from bilevel.model.sets import Set, ZeroMean

__all__ = ["FieldsOfExperts", "dct_filters"]

PARAMETERS = ("filters", "weight", "smoothing")
LEARNED: dict[str, type[LinearSpline | RadialBasis]] = {"spline": LinearSpline, "rbf": RadialBasis}
"""Learned potentials by the names that configurations use."""


def dct_filters(size: int) -> Tensor:
    """The size² - 1 orthonormal DCT-II filters without the constant, (size² - 1, 1, size, size).

    Source: Kunisch and Pock 2013, Section 5.

    Example:
        >>> dct_filters(5).shape
        torch.Size([24, 1, 5, 5])
    """
    if size < 2:
        raise InputError("DCT filters need a size of at least 2", given=size)
    n = torch.arange(size, dtype=torch.float64)
    waves = torch.cos(math.pi / size * (n[None] + 0.5) * n[:, None])
    basis = waves / waves.square().sum(1, keepdim=True).sqrt()
    filters = torch.einsum("ia,jb->ijab", basis, basis).reshape(size * size, 1, size, size)
    return filters[1:].to(torch.get_default_dtype())


class FieldsOfExperts(FilteredRegulariser):
    """Responses to many small filters, learned from a discrete cosine transform on.

    R(x) = Σ_j w_j Σ_i φ_ν((k_j * x)_i) over all places of the image, which goes on as its mirror
    image where the filter sees beyond its border; or with ``boundary="valid"`` over those places
    where the filter fits into it, so that pixels near the border are seen by fewer responses.

    Filters are kept at mean zero; the potential is "huber", "charbonnier", "log-cosh", the
    non-convex "student-t" (∇²R >= -1/8 of its upper bound), or "power", which grows like |t|^p and
    is convex from p = 1 on; the 5x5 DCT with ``learn=("weight",)`` is the model of Kunisch and
    Pock. Or it is learned, one for each filter:
    "spline" for a :class:`LinearSpline` that begins as "charbonnier" and "rbf" for a
    :class:`RadialBasis`, or such a part with other options. With several channels each filter has
    as many and sums over them, unless they are ``coupled``: then every filter has one channel,
    responds to each channel of the image, and φ_ν is of the length of these responses. For real
    and imaginary parts that is the modulus of the response, whatever the phase.

    Args:
        filters: (m, c, k, k'), (m, 1, k, k') with coupled channels; the 5x5 DCT if None.
        weight: first factor of every filter, or one each [1].
        smoothing: where the potential turns from quadratic to linear, ν [grey value].
        coupled: penalise the responses of all channels together.
        potential: φ.
        exponent: p of the potential "power", in (0, 2]; 1/2 if None [1].
        boundary: how images go on outside; "valid": responses end where nothing is assumed.
        learn: names of what is learned; the rest stays as given. Potentials say that themselves.

    Source: Roth and Black 2009; Kunisch and Pock 2013, (1.3); Chen, Ranftl, Pock 2014, whose
    Σ_j a_j log(1 + (k_j * x)²) is that of "student-t" with ν = 1 and w_j = 2 a_j. Their filters
    B β_j in the DCT basis B without the constant are those of mean zero, and B is orthonormal.

    Raises:
        InputError: filters that are not (m, c, k, k'), or of several channels where these are
            coupled, weights or potentials of each filter that do not fit, unknown names.

    Example:
        >>> foe = FieldsOfExperts(dct_filters(3), weight=0.01, potential="log-cosh")
        >>> foe(torch.ones(1, 1, 8, 8)).item() < 1e-6
        True
    """

    before: ClassVar[Mapping[str, object]] = {"boundary": "valid"}
    filters: Tensor

    def __init__(
        self,
        filters: Tensor | None = None,
        weight: float | Tensor | None = None,
        smoothing: float | None = None,
        *,
        coupled: bool = False,
        potential: Literal[
            "charbonnier", "huber", "log-cosh", "power", "student-t", "spline", "rbf"
        ]
        | LearnedPotential = "charbonnier",
        exponent: float | None = None,
        boundary: Literal["reflecting", "valid"] = "reflecting",
        learn: Collection[str] = ("filters", "weight"),
    ) -> None:
        """Filters (m, c, k, k'), the 5x5 DCT if none; weight: one or m; ν [grey value].

        For a contrast of 1 of the data the weight is 0.01 and ν 0.05 where None is given.
        """
        super().__init__()
        check_learn(learn, PARAMETERS)
        check_choice(boundary, ("reflecting", "valid"), "boundary")
        bank = dct_filters(5) if filters is None else numbers(filters, "filters")
        if bank.ndim != 4:
            raise InputError("filters must have shape (m, c, k, k')", given=tuple(bank.shape))
        each = one_or_each(0.01 if weight is None else weight, len(bank), "weight", "filter")
        if coupled and bank.shape[1] != 1:
            what = "filters that couple channels have one channel, and respond to each"
            raise InputError(what, given=tuple(bank.shape))
        self.coupled, self.boundary = coupled, boundary
        self.potential = _chosen(potential, len(bank))
        self.exponent = exponent
        present = _present(self.potential, exponent)
        self.penalty = RadialPenalty(present) if coupled else SeparablePenalty(present)
        centred = ZeroMean().project(bank).clone()
        self.filters = nn.Parameter(centred, requires_grad="filters" in learn)
        self.log_weight = self.weighted(None if weight is None else each, each, learn)
        self.log_smoothing = self.smoothed(smoothing, 0.05, learn)

    def options(self) -> dict[str, object]:
        """What builds it again."""
        owners = {
            "filters": self.filters,
            "weight": self.log_weight,
            "smoothing": self.log_smoothing,
        }
        return {
            "filters": self.filters.detach(),
            "coupled": self.coupled,
            "potential": self.potential,
            "exponent": self.exponent,
            "boundary": self.boundary,
            "learn": [name for name, parameter in owners.items() if parameter.requires_grad],
        }

    def sets(self) -> Mapping[str, Set]:
        """Filters of mean zero, positive weights and smoothing."""
        return {**super().sets(), "filters": ZeroMean()}

    def check(self, image_shape: Shape) -> None:
        """Channels must match and the filters fit into the image."""
        channels, *size = self.filters.shape[1:]
        if (channels != image_shape[0] and not self.coupled) or any(
            k > n for k, n in zip(size, image_shape[1:], strict=True)
        ):
            expected = f"filters of {channels} channel(s) and {tuple(size)} pixels do not fit"
            raise InputError(expected, given=f"images (c, h, w) = {image_shape}")

    @property
    def weight(self) -> Tensor:
        """One weight a filter, (m, 1, 1)."""
        return self.log_weight.exp()[:, None, None]

    @property
    def _margin(self) -> Margin:
        """How far images go on."""
        high, wide = self.filters.shape[2:]
        return ((high - 1) // 2, (wide - 1) // 2) if self.boundary == "reflecting" else (0, 0)

    def features(self, x: Tensor) -> Tensor:
        """All filter responses: (b, c, h, w) -> (b, m, h, w), less a row or column for even sides.

        Coupled channels: (b, c, m, h, w). Where the boundary is valid, h - k + 1 rows and so on.
        """
        wide = mirrored(x, self._margin)
        if not self.coupled:
            return conv2d(wide, self.filters)
        responses = conv2d(wide.flatten(0, 1)[:, None], self.filters)
        return responses.view(*x.shape[:2], *responses.shape[1:])

    def features_adjoint(self, p: Tensor, image_shape: Shape) -> Tensor:
        """The transposed filters, summed.

        As a matrix product and a sum of patches: on CPUs two to three times faster than a
        transposed convolution to a single channel. ``bmm``, as ``@`` with a parameter copies p.
        """
        p = p.flatten(0, 1) if self.coupled else p
        taps, size = self.filters.flatten(1).T, self.filters.shape[1:]
        shares = torch.bmm(taps.expand(len(p), -1, -1), p.flatten(2))
        (high, wide), (r, s) = image_shape[1:], self._margin
        extended = high + 2 * r, wide + 2 * s
        if differentiating():
            x = fold(shares, extended, size[1:])
        else:
            x = p.new_zeros(len(p), size[0], *extended)
            add_shifted(x, shares.view(len(p), *size, *p.shape[2:]).permute(0, 2, 3, 1, 4, 5))
        return folded(x, self._margin).reshape(-1, *image_shape)

    def gram_bound(self, scale: Tensor, image_shape: Shape) -> Tensor:
        """From the transfer functions of the filters, :func:`gram_norm`."""
        _, h, w = image_shape
        return gram_norm(self.filters, scale, (h, w), self._margin)

    def feature_norm(self) -> Tensor:
        """The norms of the filters, or more where they see pixels twice, (m, 1, 1)."""
        return response_norms(self.filters, self._margin)[:, None, None]

    def accounted(self) -> frozenset[str]:
        """All three, and what a learned potential has."""
        learned = self._learned
        own = frozenset[str]() if learned is None else accounted_under("potential", learned)
        return super().accounted() | {"filters"} | own

    def drawn(self) -> tuple[Tensor, Tensor] | None:
        """Arguments s (n,) and a learned potential ψ there, (1, n), or (m, n) for each filter."""
        learned = self._learned
        if learned is None:
            return None
        each = learned.parameter.shape[:-1].numel()
        s = torch.arange(-330, 331).to(learned.parameter) * (learned.reach / 300)
        with torch.no_grad():
            return s, learned.potential.value(s.expand(1, each, 1, -1))[0, :, 0]

    @property
    def _learned(self) -> LearnedPotential | None:
        return self.potential if isinstance(self.potential, LearnedPotential) else None

    def renewed(self, penalty: Penalty) -> Penalty:
        """With the potential at its present coefficients."""
        return replace(penalty, potential=_present(self.potential, self.exponent))

    def potential_variation(self, ball: FeatureBall, x: Tensor, norm: Tensor) -> Variation:
        """Of the coefficients c of ψ' = Σ_k c_k φ_k.

        For δ of norm 1, Σ_k δ_k φ_k(t/ν) t/|t| is κ/ν-Lipschitz in t, κ as in ``basis_lipschitz``,
        and its size at most ‖φ(t/ν)‖; with one ψ for each filter, filter by filter.
        """
        learned = self._learned
        if learned is None or not learned.parameter.requires_grad:
            return Variation.zero(x)
        each = () if learned.parameter.ndim == 1 else ball.weight.shape
        stiff = ball.weight * learned.basis_lipschitz / self.smoothing
        size = self.penalty.size(ball.t) / self.smoothing
        cross = rows.grouped_norm(stiff * self.penalty.size(ball.u), each) * ball.move
        reach = rows.grouped_norm(ball.weight * learned.basis_norm(size), each)
        reach = norm * (reach + stiff.max() * ball.move)
        return Variation(torch.zeros_like(cross), cross, reach)

    def filter_variation(self, ball: FeatureBall, x: Tensor, q: Tensor, bend: Tensor) -> Variation:
        """Of B δ = Σ_j δK_jᵀ w_j φ'_j + K_jᵀ w_j φ''_j δK_j x, with ‖δK v‖ <= ‖δ‖ √taps ‖v‖.

        A pixel is seen by so many taps at most, its mirror images counted.
        """
        if not self.filters.requires_grad:
            return Variation.zero(x)
        taps = math.sqrt(self.filters[0, 0].numel())
        image, adjoint = taps * rows.length(x), taps * rows.length(q)
        steep = ball.weight * self.penalty.potential.constants.scale_lipschitz
        stiff = (steep / self.smoothing).max()
        turn = rows.length(steep * ball.u) / self.smoothing
        cross = adjoint * stiff * ball.move + image * bend + taps * ball.radius * turn
        force = ball.weight * self.penalty.force(ball.t, self.smoothing)
        norm = self._norm(x)
        reach = taps * (rows.length(force) + stiff * ball.move)
        reach = reach + norm * stiff * (image + taps * ball.radius)
        return Variation(torch.zeros_like(cross), cross, reach)


def _chosen(potential: str | LearnedPotential, filters: int) -> str | LearnedPotential:
    """The name of a potential without parameters, or one that is learned.

    Raises:
        InputError: an unknown name, one for each of another number of filters.
    """
    if isinstance(potential, str):
        check_choice(potential, (*POTENTIALS, *LEARNED), "potential")
        return (
            LEARNED[potential].like("charbonnier", filters) if potential in LEARNED else potential
        )
    advice = "give a name, e.g. 'huber', a LinearSpline or a RadialBasis"
    check_kind(potential, LearnedPotential, "potential", advice)
    shape = potential.parameter.shape
    if len(shape) > 1 and shape[0] != filters:
        what = f"the potential has coefficients for {shape[0]} filters"
        raise InputError(what, given=f"{filters} filters", advice="give one for all, or one each")
    return potential


def _present(potential: str | LearnedPotential, exponent: float | None) -> EvenFunction:
    if isinstance(potential, str):
        return potential_of(potential, exponent)
    if exponent is not None:
        what, advice = "a learned potential has no exponent", "leave exponent out"
        raise InputError(what, given=exponent, advice=advice)
    return potential.potential

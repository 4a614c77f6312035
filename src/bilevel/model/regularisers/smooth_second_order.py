"""Total generalised variation and infimal convolutions, smoothed: what does not depend on which."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor

from bilevel.ground.checks import check_choice, check_positive
from bilevel.ground.fused import fused
from bilevel.linear import LinearMap
from bilevel.model.bounds import Reach, Variation
from bilevel.model.operators.operator import Operator, Shape
from bilevel.model.part import check_learn, positive_parameter
from bilevel.model.penalties import RadialPenalty
from bilevel.model.potentials import POTENTIALS, EvenFunction
from bilevel.model.preconditioner import Stencil
from bilevel.model.regularisers.filtered import FeatureBall, FilteredRegulariser
from bilevel.model.regularisers.second_order import Form
from bilevel.model.sets import Box, Set
from bilevel.model.smooth import Summand

__all__ = ["RATIOS", "SmoothSecondOrder", "set_of_ratio"]

PARAMETERS = ("weight", "ratio", "smoothing")
LAGS = {"huber": 0.5, "charbonnier": 1.0}
"""sup |s| - ψ(s) of the potentials."""
RATIOS = -3.0, 5.0
"""Between which ln(β/α) is learned: below nothing is smoothed, above no slope bends."""

Profile = tuple[Tensor, Tensor, Tensor, EvenFunction, Operator, Operator, bool]


class SmoothSecondOrder(FilteredRegulariser):
    """α Σ_i φ_ν(|(K₁x)_i|) + β Σ_i φ_ν(|(K₂x)_i|) of a state x with further channels.

    α is the weight and β the weight times the ratio: so the admissible set of (ln α, ln β), in
    which β/α has bounds that hold for every unit of grey values, is a box, and α alone is how
    strong the whole is.
    """

    form: ClassVar[Form]
    log_ratio: Tensor

    def __init__(
        self,
        weight: float | None = None,
        ratio: float = 2.0,
        smoothing: float | None = None,
        *,
        coupled: bool = False,
        potential: Literal["huber", "charbonnier"] = "huber",
        learn: Collection[str] = PARAMETERS,
    ) -> None:
        """For a contrast of 1 of the data the weight is 0.05 and ν 0.01 where None is given."""
        super().__init__()
        check_learn(learn, PARAMETERS)
        check_choice(potential, ("huber", "charbonnier"), f"potential of {type(self).__name__}")
        self.penalty = RadialPenalty(POTENTIALS[potential])
        self.further, self.coupled, self.potential = self.form.further, coupled, potential
        self.log_weight = self.weighted(weight, 0.05, learn)
        self.log_ratio = positive_parameter(check_positive(ratio, "ratio"), "ratio", learn)
        self.log_smoothing = self.smoothed(smoothing, 0.01, learn)

    @property
    def both(self) -> tuple[Tensor, Tensor]:
        """α and β."""
        return self.log_weight.exp(), (self.log_weight + self.log_ratio).exp()

    @property
    def weight(self) -> Tensor:
        """α and β as (2, 1, 1, 1), as the features stand."""
        return torch.stack(self.both)[:, None, None, None]

    def sets(self) -> Mapping[str, Set]:
        """Positive and bounded, so that L stays finite."""
        return {**super().sets(), "log_ratio": set_of_ratio(self.log_ratio)}

    def accounted(self) -> frozenset[str]:
        """All three."""
        return super().accounted() | {"log_ratio"}

    def options(self) -> dict[str, object]:
        """What builds it again."""
        return {
            "weight": self.log_weight.exp().item(),
            "ratio": self.log_ratio.exp().item(),
            "smoothing": self.smoothing.item(),
            "coupled": self.coupled,
            "potential": self.potential,
            "learn": [n for n in PARAMETERS if getattr(self, f"log_{n}").requires_grad],
        }

    def features(self, x: Tensor) -> Tensor:
        """Both features side by side, (b, 3, 2, c, h, w), the first with a part of zeros.

        With coupled channels (b, 3c, 2, 1, h, w).
        """
        first, second = (
            self._grouped(t, g) for t, g in zip(self.form.features(x), (2, 3), strict=True)
        )
        missing = torch.zeros_like(second[:, : second.shape[1] - first.shape[1]])
        return torch.stack([torch.cat([first, missing], 1), second], 2)

    def features_adjoint(self, p: Tensor, image_shape: Shape) -> Tensor:
        """Back to states."""
        del image_shape
        parts = p.shape[1] // 3 * 2
        return self.form.adjoint(p[:, :parts, 0].flatten(1, 2), p[:, :, 1].flatten(1, 2))

    def _grouped(self, t: Tensor, parts: int) -> Tensor:
        return t.unsqueeze(2) if self.coupled else cast(Tensor, t.unflatten(1, (parts, -1)))

    def gram_bound(self, scale: Tensor, image_shape: Shape) -> Tensor:
        """That of the form, for a scale of each operator."""
        alpha, beta = scale.double().flatten()
        return self.form.joint_bound(alpha, beta, image_shape) * (1 + 1e-12)

    def feature_norm(self) -> Tensor:
        """Those of the rows of both operators."""
        norms = torch.tensor(self.form.row_norms(), dtype=torch.float64)
        return norms.to(self.log_weight.device)[:, None, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """R(x): (b, (1 + further) c, h, w) -> (b,)."""
        return _value(x, *self._profile())

    def grad(self, x: Tensor) -> Tensor:
        """K₁ᵀ(α φ'(K₁x)) + K₂ᵀ(β φ'(K₂x))."""
        return _gradient(x, *self._profile())

    def summands(self) -> tuple[Summand, ...]:
        """One."""
        return ((_gradient, self._profile()),)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with the features computed once."""
        return _value_and_gradient(x, *self._profile())

    def _profile(self) -> Profile:
        alpha, beta = self.both
        potential, form = self.penalty.potential, self.form
        return alpha, beta, self.smoothing, potential, form.first, form.second, self.coupled

    def hessian(self, x: Tensor) -> LinearMap:
        """K₁ᵀ α ∇²φ(K₁x) K₁ + K₂ᵀ β ∇²φ(K₂x) K₂ with the curvature kept."""
        return self._curved(self.form.features(x))

    def _curved(self, features: tuple[Tensor, Tensor]) -> LinearMap:
        curves = [
            self.penalty.curvature(self._grouped(t, parts), weight, self.smoothing)
            for t, parts, weight in zip(features, (2, 3), self.both, strict=True)
        ]

        def bend(v: Tensor, parts: int, curve: Callable[..., Tensor]) -> Tensor:
            return curve(self._grouped(v, parts)).flatten(1, 2)

        def apply(v: Tensor) -> Tensor:
            pairs = zip(self.form.features(v), (2, 3), curves, strict=True)
            return self.form.adjoint(*[bend(*pair) for pair in pairs])

        def restrict(index: Tensor) -> LinearMap:
            return self._curved((features[0][index], features[1][index]))

        return LinearMap(apply, restrict)

    def stencils(self, x: Tensor) -> list[Stencil]:
        """Both, with the weights of the majoriser."""
        potential, images = self.penalty.potential, x.shape[1] // (1 + self.further)
        found: list[Stencil] = []
        for t, parts, weight, filters in zip(
            self.form.features(x), (2, 3), self.both, self.form.filters, strict=True
        ):
            square = _squares(t, parts, self.coupled, self.smoothing)
            scale = weight / self.smoothing * potential.ratio_of_square(square)
            scale = scale.expand(-1, images, -1, -1).repeat(1, parts, 1, 1)
            eye = torch.eye(images, dtype=x.dtype, device=x.device)[..., None, None]
            wide = torch.kron(filters.to(x).contiguous(), eye)
            found.append(Stencil(wide, scale.detach()))
        return found

    def reach(self, x: Tensor, slope: Tensor) -> Reach:
        """That of the form."""
        alpha, beta = self.both
        value, near = _value_and_near(x, *self._profile())
        return self.form.reach(
            x,
            slope,
            value,
            near,
            weights=(alpha.item(), beta.item()),
            lag=LAGS[self.potential] * self.smoothing.item(),
            coupled=self.coupled,
        )

    def _weight_variation(self, ball: FeatureBall, x: Tensor, norm: Tensor) -> Variation:
        """Of both forces for α, of the second for the ratio."""
        shape = x.shape[1], x.shape[2], x.shape[3]
        force = self.penalty.force(ball.t, self.smoothing)
        second = force * force.new_tensor([0.0, 1.0])[:, None, None, None]
        total, steep = Variation.zero(x), self.penalty.potential.constants.scale_lipschitz
        for parameter, pull in ((self.log_weight, force), (self.log_ratio, second)):
            if parameter.requires_grad:
                own = self._parameter_variation(parameter, pull, steep, ball, norm, shape)
                cross = torch.hypot(total.cross, own.cross.double())
                cross_norm = torch.hypot(total.cross_norm, own.cross_norm.double())
                total = replace(total, cross=cross, cross_norm=cross_norm)
        return total


def set_of_ratio(log_ratio: Tensor) -> Box:
    """Where ln(β/α) is learned: around what is given, if that lies outside."""
    now = log_ratio.item()
    return Box(min(RATIOS[0], now), max(RATIOS[1], now))


def _squares(t: Tensor, parts: int, coupled: bool, smoothing: Tensor) -> Tensor:
    """(|t_i|/ν)², (b, 1 or c, h, w)."""
    square = (t / smoothing).square()
    if coupled:
        return square.sum(1, keepdim=True)
    first, *others = square.chunk(parts, dim=1)
    for part in others:
        first = first + part
    return first


def _forced(t: Tensor, scale: Tensor, parts: int, coupled: bool) -> Tensor:
    """Each group times its scale."""
    return scale * t if coupled else scale.repeat(1, parts, 1, 1) * t


def _total(a: Tensor) -> Tensor:
    return a.sum(-1).flatten(1).sum(1)


@fused
def _value(
    x: Tensor,
    alpha: Tensor,
    beta: Tensor,
    smoothing: Tensor,
    potential: EvenFunction,
    first: Operator,
    second: Operator,
    coupled: bool,
) -> Tensor:
    t, s = first.forward(x), second.forward(x)
    value = alpha * _total(potential.value_of_square(_squares(t, 2, coupled, smoothing)))
    further = beta * _total(potential.value_of_square(_squares(s, 3, coupled, smoothing)))
    return smoothing * (value + further)


@fused
def _value_and_near(
    x: Tensor,
    alpha: Tensor,
    beta: Tensor,
    smoothing: Tensor,
    potential: EvenFunction,
    first: Operator,
    second: Operator,
    coupled: bool,
) -> tuple[Tensor, Tensor]:
    """R(x) and Σ |(K₁x)_i|, float64."""
    t, s = first.forward(x), second.forward(x)
    square, other = _squares(t, 2, coupled, smoothing), _squares(s, 3, coupled, smoothing)
    value = alpha.double() * _exactly(potential.value_of_square(square))
    value = value + beta.double() * _exactly(potential.value_of_square(other))
    return smoothing.double() * value, smoothing.double() * _exactly(square.sqrt())


def _exactly(a: Tensor) -> Tensor:
    return a.sum(-1, dtype=torch.float64).flatten(1).sum(1)


@fused
def _gradient(
    x: Tensor,
    alpha: Tensor,
    beta: Tensor,
    smoothing: Tensor,
    potential: EvenFunction,
    first: Operator,
    second: Operator,
    coupled: bool,
) -> Tensor:
    t, s = first.forward(x), second.forward(x)
    steep = alpha / smoothing * potential.ratio_of_square(_squares(t, 2, coupled, smoothing))
    bent = beta / smoothing * potential.ratio_of_square(_squares(s, 3, coupled, smoothing))
    pull = first.adjoint(_forced(t, steep, 2, coupled))
    return pull + second.adjoint(_forced(s, bent, 3, coupled))


@fused
def _value_and_gradient(
    x: Tensor,
    alpha: Tensor,
    beta: Tensor,
    smoothing: Tensor,
    potential: EvenFunction,
    first: Operator,
    second: Operator,
    coupled: bool,
) -> tuple[Tensor, Tensor]:
    t, s = first.forward(x), second.forward(x)
    square, other = _squares(t, 2, coupled, smoothing), _squares(s, 3, coupled, smoothing)
    value = alpha * _total(potential.value_of_square(square))
    value = smoothing * (value + beta * _total(potential.value_of_square(other)))
    steep = alpha / smoothing * potential.ratio_of_square(square)
    bent = beta / smoothing * potential.ratio_of_square(other)
    pull = first.adjoint(_forced(t, steep, 2, coupled))
    return value, pull + second.adjoint(_forced(s, bent, 3, coupled))

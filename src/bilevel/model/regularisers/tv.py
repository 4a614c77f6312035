"""Total variation, smoothed by a Huber or Charbonnier function; one weight or a map of weights."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from bilevel.ground.checks import check_choice, check_positive
from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.maps import Between, Grid
from bilevel.model.operators import Differences
from bilevel.model.operators.operator import Shape
from bilevel.model.part import Units, around, check_learn
from bilevel.model.penalties import RadialPenalty, SeparablePenalty
from bilevel.model.potentials import POTENTIALS, EvenFunction
from bilevel.model.regularisers import stencil
from bilevel.model.regularisers.filtered import FilteredRegulariser
from bilevel.model.sets import Box, Set
from bilevel.model.smooth import Summand

__all__ = ["TotalVariation"]

PARAMETERS = ("weight", "smoothing")
DIFFERENCES = Differences()


class TotalVariation(FilteredRegulariser):
    """Few edges, flat regions: the smoothed length of the differences of neighbouring pixels.

    R(x) = Σ_i w_i φ_ν((D x)_i), D the forward differences (zero across the last row and column).

    ``isotropic`` penalises the length of the two differences of a pixel, otherwise each alone;
    with several channels, each channel by itself, unless they are ``coupled``: then the length of
    the differences of a pixel in all of them, for colours, whose edges lie together, or for real
    and imaginary parts, whose common phase then does not matter. φ_ν(t) tends to |t| - const for
    |t| >> ν. ‖D‖² <= 8 (Chambolle 2004, Theorem 3.1), hence ∇²R <= 8 max(w)/ν in either case. The
    loss is often nearly flat in ν towards exact TV while the condition number grows without bound,
    so ν is learned above ``least_smoothing``.

    Args:
        weight: factor w, one or a map (h, w); with a grid one or a value a knot (gh, gw) [1].
        grid: rows and columns of knots that carry the weights of images of any size; no knots if
            None.
        between: what lies between the knots, of log w.
        smoothing: where the potential turns from quadratic to linear, ν [grey value].
        least_smoothing: below which ν is not learned [grey value]; ν/10 if None.
        isotropic: penalise both differences of a pixel together.
        coupled: penalise those of all channels together; isotropic only.
        potential: φ.
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: weight or smoothing not positive, an unknown potential or name in ``learn``,
            channels coupled though not ``isotropic``.

    Example:
        >>> tv = TotalVariation(weight=0.1, smoothing=0.01)
        >>> [round(float(b), 3) for b in (tv.bounds((1, 8, 8)).mu, tv.bounds((1, 8, 8)).lipschitz)]
        [0.0, 76.955]
    """

    maps: ClassVar[frozenset[str]] = frozenset({"log_weight"})

    def __init__(
        self,
        weight: float | Tensor | None = None,
        smoothing: float | None = None,
        *,
        grid: Sequence[int] | None = None,
        between: Between = "bilinear",
        least_smoothing: float | None = None,
        isotropic: bool = True,
        coupled: bool = False,
        potential: Literal["charbonnier", "huber"] = "charbonnier",
        learn: Collection[str] = PARAMETERS,
    ) -> None:
        """Weight: one or a map (h, w); smoothing ν and its least, ν/10 if None [grey value].

        For a contrast of 1 of the data the weight is 0.05 and ν 0.01 where None is given.
        """
        super().__init__()
        check_learn(learn, PARAMETERS)
        check_choice(potential, ("huber", "charbonnier"), "potential of total variation")
        penalty = RadialPenalty if isotropic else SeparablePenalty
        self.penalty = penalty(POTENTIALS[potential])
        if coupled and not isotropic:
            raise InputError("coupled channels need isotropic=True", given="isotropic=False")
        self.isotropic, self.coupled, self.potential = isotropic, coupled, potential
        if least_smoothing is not None and smoothing is None:
            advice = "give smoothing too"
            raise InputError("least_smoothing needs a smoothing", advice=advice)
        first = 0.01 if smoothing is None else check_positive(smoothing, "smoothing")
        least = first / 10 if least_smoothing is None else least_smoothing
        if not 0 < least <= first:
            raise InputError(f"least_smoothing must lie in (0, {smoothing}]", given=least)
        self.least_smoothing = least
        self.grid, usual = Grid.of(grid, between), torch.tensor(0.05)
        if self.grid is not None:
            usual = self.grid.filled(usual, "weight")
            weight = None if weight is None else self.grid.filled(weight, "weight")
        self.log_weight = self.weighted(weight, usual, learn)
        self.log_smoothing = self.smoothed(smoothing, 0.01, learn)
        if self.log_weight.ndim not in (0, 2):
            given = tuple(self.log_weight.shape)
            raise InputError("weight must be a number or a map of shape (h, w)", given=given)

    def broadcasts(self) -> frozenset[str]:
        """Both, but for coupled channels, whose features stand in another order."""
        return frozenset[str]() if self.coupled else frozenset({"log_weight", "log_smoothing"})

    def sets(self) -> Mapping[str, Set]:
        """Positive and bounded, so that L stays finite."""
        smooth = Box(math.log(self.least_smoothing), around(self.log_smoothing).upper)
        return {"log_weight": around(self.log_weight), "log_smoothing": smooth}

    def take_units(self, units: Units) -> None:
        """The least smoothing with the smoothing."""
        if "log_smoothing" in self.left:
            self.least_smoothing *= units.grey
        super().take_units(units)

    def options(self) -> dict[str, object]:
        """What builds it again; a map keeps its shape, the values travel as parameters."""
        return {
            "weight": self.weight.detach(),
            "grid": None if self.grid is None else self.grid.knots,
            "between": "bilinear" if self.grid is None else self.grid.between,
            "smoothing": self.smoothing.item(),
            "least_smoothing": min(self.least_smoothing, self.smoothing.item()),
            "isotropic": self.isotropic,
            "coupled": self.coupled,
            "potential": self.potential,
            "learn": [n for n in PARAMETERS if getattr(self, f"log_{n}").requires_grad],
        }

    def check(self, image_shape: Shape) -> None:
        """A map of weights must have the size of the image, a grid at most as many knots."""
        if self.grid is not None:
            self.grid.check(image_shape[1:])
        elif self.log_weight.ndim == 2 and tuple(self.log_weight.shape) != image_shape[1:]:
            raise InputError(
                f"the map of weights has shape {tuple(self.log_weight.shape)}",
                given=f"images of {image_shape[1:]}",
                advice="use a map on images of its size, or learn a grid, which fits any",
            )

    def grad(self, x: Tensor) -> Tensor:
        """In one pass where it is compiled."""
        return stencil.gradient(x, *self._profile(self._on(x)))

    def summands(self) -> tuple[Summand, ...] | None:
        """One: the stencil; none on a grid, where the weights depend on the size of x."""
        return None if self.grid else ((stencil.gradient, self._profile(self.weight)),)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """In one pass where it is compiled."""
        return stencil.value_and_gradient(x, *self._profile(self._on(x)))

    def hessian(self, x: Tensor) -> LinearMap:
        """Dᵀ w ∇²φ(D x) D with the curvature of every pixel kept."""
        if self.coupled:
            return super().hessian(x)
        weight, smoothing, potential, isotropic, _ = self._profile(self._on(x))
        return _curved(stencil.curvature(x, weight, smoothing, potential, isotropic))

    def weights(self, image_shape: Shape) -> Tensor:
        """Interpolated where they lie on a grid."""
        if self.grid is None:
            return self.weight
        return self.grid.spread(self.log_weight, image_shape[1:]).exp()

    def spreading(self, image_shape: Shape) -> float:
        """‖P‖ of the grid."""
        return 1.0 if self.grid is None else self.grid.norm(image_shape[1:])

    def _on(self, x: Tensor) -> Tensor:
        return self.weights((x.shape[1], x.shape[2], x.shape[3]))

    def _profile(self, weight: Tensor) -> tuple[Tensor, Tensor, EvenFunction, bool, bool]:
        potential = self.penalty.potential
        return weight, self.smoothing, potential, self.isotropic, self.coupled

    def features(self, x: Tensor) -> Tensor:
        """D x: (b, c, h, w) -> (b, 2, c, h, w), or (b, 2c, 1, h, w) with coupled channels."""
        return DIFFERENCES(x).unflatten(1, (-1, 1) if self.coupled else (2, -1))

    def features_adjoint(self, p: Tensor, image_shape: Shape) -> Tensor:
        """Dᵀ p, the negative divergence, back to (b, c, h, w)."""
        del image_shape
        return DIFFERENCES.adjoint(p.flatten(1, 2))

    def gram_bound(self, scale: Tensor, image_shape: Shape) -> Tensor:
        """max(scale) ‖D‖², with the exact norm of the differences."""
        return scale.max().double() * DIFFERENCES.gram_bounds(image_shape).upper

    def feature_norm(self) -> Tensor:
        """√3 for the two differences of a pixel together, √2 for one; coupled channels or not.

        Each channel of a group is seen by its own differences alone: the blocks are the same.
        """
        return self.log_weight.new_tensor(3.0 if self.isotropic else 2.0).double().sqrt()


def _curved(curve: stencil.Curvature) -> LinearMap:
    def restrict(index: Tensor) -> LinearMap:
        below, beside, mixed = curve
        return _curved((below[index], beside[index], mixed[index]))

    return LinearMap(lambda v: stencil.hessian_product(v, curve), restrict)

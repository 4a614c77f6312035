"""The tables [fidelity], [regulariser], [ridge] and [box]: what the lower level minimises."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from bilevel.cli.settings.base import Count, Learner, Names, Positive, Seed, Settings, Unfit
from bilevel.ground.randomness import generator
from bilevel.model import fidelities, regularisers
from bilevel.model.operators import Operator, Shape
from bilevel.model.regularisers import Regulariser

__all__ = [
    "L1",
    "Box",
    "ExactTotalVariation",
    "FidelitySettings",
    "FieldsOfExperts",
    "KullbackLeibler",
    "RegulariserSettings",
    "Ridge",
    "RidgeRegulariser",
    "Sparsity",
    "SquaredL2",
    "Tikhonov",
    "TotalVariation",
]

Smoothing = Annotated[
    Positive | None,
    Field(description="where the potential turns linear [grey value]; from the contrast if none"),
]
Weight = Annotated[
    Positive | None, Field(description="first factor; the usual one at the data's contrast if none")
]


class FidelitySettings(Learner):
    """How well an image explains the data."""

    degree: ClassVar[int]
    """Ψ(c A x; c y) = c^degree Ψ(A x; y)."""

    @abstractmethod
    def build(self, operator: Operator) -> fidelities.Fidelity:
        """The fidelity with that operator."""


class SquaredL2(FidelitySettings):
    """weight/2 ‖A x - y‖²: Gaussian noise."""

    degree = fidelities.SquaredL2.degree
    weight: Positive = Field(default=1.0, description="factor")

    def build(self, operator: Operator) -> fidelities.Fidelity:
        """The squared distance."""
        return fidelities.SquaredL2(operator, self.weight, learn=self.learn)


class L1(FidelitySettings):
    """weight ‖A x - y‖₁: outliers, impulse noise."""

    degree = fidelities.L1.degree
    weight: Positive = Field(default=1.0, description="factor")

    def build(self, operator: Operator) -> fidelities.Fidelity:
        """The sum of absolute differences."""
        return fidelities.L1(operator, self.weight, learn=self.learn)


class KullbackLeibler(FidelitySettings):
    """weight times the Kullback-Leibler divergence of A x + background: Poisson noise."""

    degree = fidelities.KullbackLeibler.degree
    weight: Positive = Field(default=1.0, description="factor")
    background: Positive = Field(description="that of the noise [grey value]")

    def build(self, operator: Operator) -> fidelities.Fidelity:
        """The divergence."""
        return fidelities.KullbackLeibler(operator, self.background, self.weight, learn=self.learn)


class RegulariserSettings(Learner):
    """What is known of images beforehand."""

    usual: ClassVar[float]
    """The weight at a contrast of 1 of the data."""
    degree: ClassVar[int] = 1
    """R(c x) = c^degree R(x) once smoothed at that contrast."""
    weight: Weight = None

    @abstractmethod
    def build(self, shape: Shape) -> Regulariser:
        """The regulariser for images (c, h, w)."""

    def first_weight(self, contrast: float, fidelity: int) -> float:
        """That of the regulariser, beside a fidelity of that degree, at that contrast."""
        return self.weight or self.usual * contrast ** (fidelity - self.degree)

    @property
    def smallest(self) -> int:
        """Side of the smallest image that it takes [pixel]."""
        return 1


class WeightedDifferences(RegulariserSettings):
    """What smoothed and exact total variation have in common."""

    usual = 0.05
    isotropic: bool = Field(
        default=True, description="penalise both differences of a pixel together"
    )
    map: bool = Field(default=False, description="one weight a pixel instead of a single one")

    @model_validator(mode="after")
    def _check(self) -> WeightedDifferences:
        if self.map and "weight" not in self.learn:
            advice = 'set map = false or learn = ["weight"]'
            raise Unfit("map", "a map of weights that is not learned is no map", advice=advice)
        return self

    def weights(self, shape: Shape) -> float | Tensor | None:
        """One weight, or a map of the size of the image; None leaves it to the data."""
        return torch.full(shape[1:], self.weight or self.usual) if self.map else self.weight

    def left(self, part: Regulariser) -> Regulariser:
        """With the weights of a map left to the data, unless one is given."""
        if self.map and self.weight is None:
            part.leave("log_weight", fidelity=1, grey=-1)
        return part


class TotalVariation(WeightedDifferences):
    """Few edges, flat regions: the smoothed length of the differences of neighbouring pixels."""

    smoothing: Smoothing = None
    potential: Literal["charbonnier", "huber"] = "charbonnier"
    learnable = ("weight", "smoothing")
    learn: Names = ("weight", "smoothing")

    def build(self, shape: Shape) -> Regulariser:
        """One weight, or a map of the size of the image."""
        tv = regularisers.TotalVariation(
            self.weights(shape),
            self.smoothing,
            isotropic=self.isotropic,
            potential=self.potential,
            learn=self.learn,
        )
        return self.left(tv)


class ExactTotalVariation(WeightedDifferences):
    """Total variation itself, without smoothing: edges stay sharp."""

    learn: Names = ("weight",)

    def build(self, shape: Shape) -> Regulariser:
        """One weight, or a map of the size of the image."""
        tv = regularisers.ExactTotalVariation(
            self.weights(shape), isotropic=self.isotropic, learn=self.learn
        )
        return self.left(tv)


class FieldsOfExperts(RegulariserSettings):
    """Responses to many small filters, learned from a discrete cosine transform on."""

    size: Annotated[int, Field(ge=2)] = Field(default=5, description="side of the filters [pixel]")
    count: Count | None = Field(
        default=None, description="filters, lowest frequencies first; all if none"
    )
    usual = 0.01
    smoothing: Smoothing = None
    potential: Literal["charbonnier", "huber", "log-cosh", "student-t"] = "charbonnier"
    learnable = ("filters", "weight", "smoothing")
    learn: Names = ("filters", "weight")

    def build(self, shape: Shape) -> Regulariser:
        """Filters of one channel."""
        if shape[0] != 1:
            advice = "set grey = true in [data]"
            raise Unfit("name", "fields of experts are for grey images", advice=advice)
        bank = regularisers.dct_filters(self.size)
        if self.count is not None and self.count > len(bank):
            most = f"{self.size}x{self.size} pixels give at most {len(bank)} filters"
            raise Unfit("count", most, given=self.count)
        frequency = torch.arange(1, self.size**2)
        order = (frequency // self.size + frequency % self.size).argsort(stable=True)
        return regularisers.FieldsOfExperts(
            bank[order[: self.count]],
            self.weight,
            self.smoothing,
            potential=self.potential,
            learn=self.learn,
        )

    @property
    def smallest(self) -> int:
        """The side of the filters."""
        return self.size


class RidgeRegulariser(RegulariserSettings):
    """A cascade of filters with a learned profile: convex, or weakly convex."""

    channels: Annotated[tuple[Count, ...], Field(strict=False, min_length=1)] = Field(
        default=(4, 8, 32), description="of each layer of the cascade"
    )
    size: Count = Field(default=5, description="odd side of the filters [pixel]")
    weakly_convex: bool = Field(default=False, description="let large responses cost no more")
    usual, degree = 0.5, 2
    sharpness: Annotated[float, Field(ge=1)] = Field(
        default=50.0, description="how sharply the profile turns at 0"
    )
    scaling: Positive | None = Field(
        default=None, description="first scale of every channel; 5 over the contrast if none"
    )
    seed: Seed = Field(default=0, description="of the first filters")
    learnable = ("filters", "scaling", "weight", "sharpness")
    learn: Names = ("filters", "scaling", "weight", "sharpness")

    @model_validator(mode="after")
    def _check(self) -> RidgeRegulariser:
        if self.size % 2 == 0:
            raise Unfit("size", "filters of a cascade have an odd side", given=self.size)
        return self

    def build(self, shape: Shape) -> Regulariser:
        """Random filters, a proved norm of 1."""
        rng = generator(self.seed, "ridge")
        widths = (shape[0], *self.channels)
        banks = [
            torch.randn(m, c, self.size, self.size, generator=rng)
            for c, m in zip(widths, self.channels, strict=False)
        ]
        ridge = regularisers.RidgeRegulariser(
            banks,
            self.weight or self.usual,
            self.sharpness,
            self.scaling or 5.0,
            weakly_convex=self.weakly_convex,
            learn=self.learn,
        )
        if self.weight is None:
            ridge.leave("log_weight", fidelity=1, grey=-2)
        if self.scaling is None:
            ridge.leave("log_scaling", grey=-1)
        return ridge


class Tikhonov(RegulariserSettings):
    """weight/2 ‖x‖²: small grey values."""

    usual, degree = 1e-3, 2
    learn: Names = ("weight",)

    def build(self, shape: Shape) -> Regulariser:
        """The squared norm."""
        del shape
        return regularisers.Tikhonov(self.weight, learn=self.learn)


class Sparsity(RegulariserSettings):
    """weight ‖x‖₁: few pixels that are not zero."""

    usual = 0.1
    learn: Names = ("weight",)

    def build(self, shape: Shape) -> Regulariser:
        """The sum of absolute values."""
        del shape
        return regularisers.Sparsity(self.weight, learn=self.learn)


class Box(Settings):
    """lower <= x <= upper for every pixel; one of them is enough."""

    lower: float | None = Field(default=None, description="least grey value")
    upper: float | None = Field(default=None, description="greatest grey value")

    @model_validator(mode="after")
    def _check(self) -> Box:
        if self.lower is None and self.upper is None:
            raise Unfit("lower", "a box needs a bound", advice="add e.g. lower = 0.0")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise Unfit("upper", f"must exceed lower = {self.lower}", given=self.upper)
        return self

    def build(self) -> Regulariser:
        """The constraint."""
        return regularisers.Box(self.lower, self.upper)


class Ridge(Settings):
    """weight/2 ‖x‖² beside the regulariser: makes the energy strongly convex.

    Distances to the exact minimiser can be proved only then; where the operator alone does not
    see to it (any but the identity and mild blurs), a small ridge does.
    """

    weight: Weight = None
    learn: bool = Field(default=False, description="learn the weight too")

    def first_weight(self, contrast: float, fidelity: int) -> float:
        """Beside a fidelity of that degree, at that contrast."""
        return self.weight or 1e-3 * contrast ** (fidelity - 2)

    def build(self) -> Regulariser:
        """The squared norm."""
        return regularisers.Tikhonov(self.weight, learn=("weight",) if self.learn else ())

"""The tables [loss], [algorithm] and [budget]: how parameters are learned."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Any

from pydantic import Field, model_validator

from bilevel.cli.settings.base import Count, Fraction, Positive, Seed, Settings, Unfit
from bilevel.learn import Accuracy, Algorithm, Budget, algorithms, schedules
from bilevel.model import losses

__all__ = [
    "MAID",
    "PSNR",
    "AcceleratedMAID",
    "AccurateSettings",
    "Adaptive",
    "AlgorithmSettings",
    "Automatic",
    "BudgetSettings",
    "Constant",
    "DynamicSampling",
    "Geometric",
    "LossSettings",
    "Polynomial",
    "ScheduleSettings",
    "SquaredError",
]


class LossSettings(Settings):
    """The distance of a reconstruction to the truth."""

    peak: Positive | None = Field(
        default=None,
        description="what PSNR takes for white [grey value]; 1 for images in [0, 1], else the "
        "range of the images, if none",
    )

    @abstractmethod
    def build(self) -> losses.Loss:
        """The loss itself."""


class SquaredError(LossSettings):
    """The mean squared error, of which PSNR is the logarithm."""

    def build(self) -> losses.Loss:
        """The mean squared error."""
        return losses.SquaredError(self.peak)


class PSNR(LossSettings):
    """Minus the PSNR, so that easy images count as much as hard ones."""

    def build(self) -> losses.Loss:
        """Minus the PSNR."""
        return losses.PSNR(self.peak)


class ScheduleSettings(Settings):
    """The accuracy of the lower level over the outer steps."""

    @abstractmethod
    def build(self) -> schedules.Schedule:
        """The schedule itself."""


class Constant(ScheduleSettings):
    """ε_t = epsilon."""

    epsilon: Positive = Field(description="accuracy, rms [grey value]")

    def build(self) -> schedules.Schedule:
        """Always the same accuracy."""
        return schedules.Constant(self.epsilon)


class Geometric(ScheduleSettings):
    """ε_t = ε_0 factor^t."""

    factor: Fraction = Field(default=schedules.Geometric.factor, description="of each step")

    def build(self) -> schedules.Schedule:
        """Geometric decrease."""
        return schedules.Geometric(self.factor)


class Polynomial(ScheduleSettings):
    """ε_t = ε_0 (t + 1)^-power."""

    power: Positive = Field(
        default=schedules.Polynomial.power, description="above 1 it is summable"
    )

    def build(self) -> schedules.Schedule:
        """Polynomial decrease."""
        return schedules.Polynomial(self.power)


class Adaptive(ScheduleSettings):
    """ε_t is halved whenever the gradient's error is a large part of its norm."""

    fraction: Positive = Field(
        default=schedules.Adaptive.fraction, description="which part is large"
    )

    def build(self) -> schedules.Schedule:
        """As accurate as the gradient needs."""
        return schedules.Adaptive(self.fraction)


class AlgorithmSettings(Settings):
    """An algorithm of the upper level."""

    @abstractmethod
    def build(self) -> Algorithm[Any]:
        """The algorithm itself."""


class Floored(AlgorithmSettings):
    """One that asks for accuracies of the lower level of its choice, down to a floor."""

    floor: Positive | None = Field(
        default=None,
        description="smallest accuracy asked for [grey value]; 1e-7 of the contrast if none",
    )

    def arguments(self, *without: str) -> dict[str, Any]:
        """All keys but these, with one accuracy in the place of its numbers."""
        found = self.model_dump(exclude=set(without))
        accuracy = Accuracy(found.pop("first_accuracy", None), found.pop("floor"))
        return {"accuracy": accuracy, **found}


class Accurate(Floored):
    """One that begins with an accuracy of its choice."""

    first_accuracy: Positive | None = Field(
        default=None, description="ε_0, rms [grey value]; 2 % of the first distance if none"
    )


class AccurateSettings(Accurate):
    """One that solves the lower level to accuracies of its choice."""

    first_change: Positive = Field(
        default=algorithms.MAID.first_change, description="how far the first step moves a parameter"
    )
    tol: Positive = Field(
        default=algorithms.MAID.tol, description="gradient relative to the loss at which to stop"
    )


class Automatic(AccurateSettings):
    """Whatever fits the problem; says what it chose and why."""

    first_change: Positive = Field(
        default=algorithms.LBFGS.first_change, description="how far the first step moves"
    )

    def build(self) -> Algorithm[Any]:
        """Chosen for the problem."""
        return algorithms.Automatic(**self.arguments())


class MAID(AccurateSettings):
    """Adaptive inexact descent: accuracy and step size are found on the way."""

    certified: bool = Field(
        default=algorithms.MAID.certified, description="rely on proved bounds alone"
    )
    shrink: Fraction = Field(
        default=algorithms.MAID.shrink, description="factor of the step in a search"
    )
    grow: Annotated[float, Field(gt=1)] = Field(
        default=algorithms.MAID.grow, description="factor of the step after a success"
    )
    tighten: Fraction = Field(
        default=algorithms.MAID.tighten, description="factor of the accuracy after a failure"
    )
    relax: Annotated[float, Field(gt=1)] = Field(
        default=algorithms.MAID.relax, description="factor of the accuracy after a success"
    )
    eta: Fraction = Field(
        default=algorithms.MAID.eta, description="the gradient's error may be 1 - eta of its norm"
    )
    decrease: Fraction = Field(
        default=algorithms.MAID.decrease, description="of the sufficient decrease; less than eta"
    )

    @model_validator(mode="after")
    def _check(self) -> MAID:
        if self.decrease >= self.eta:
            raise Unfit("decrease", f"must be less than eta = {self.eta}", given=self.decrease)
        return self

    def build(self) -> Algorithm[Any]:
        """MAID, plain."""
        return self._build(accelerated=False)

    def _build(self, *, accelerated: bool) -> Algorithm[Any]:
        return algorithms.MAID(accelerated=accelerated, **self.arguments())


class AcceleratedMAID(MAID):
    """MAID with Barzilai-Borwein steps: usually two to three times faster."""

    def build(self) -> Algorithm[Any]:
        """MAID, accelerated."""
        return self._build(accelerated=True)


class LBFGS(AccurateSettings):
    """Projected L-BFGS: for many parameters that matter very unequally."""

    memory: Count = Field(default=algorithms.LBFGS.memory, description="pairs kept")
    first_change: Positive = Field(
        default=algorithms.LBFGS.first_change, description="how far the first step moves"
    )
    tighten: Fraction = Field(
        default=algorithms.LBFGS.tighten, description="factor of the accuracy after a failure"
    )

    def build(self) -> Algorithm[Any]:
        """L-BFGS."""
        return algorithms.LBFGS(**self.arguments())


class DynamicSampling(LBFGS):
    """L-BFGS on a sample of the images that grows: for hundreds of them."""

    first: Annotated[int, Field(ge=2)] = Field(
        default=algorithms.DynamicSampling.first, description="images at the start"
    )
    growth: Annotated[float, Field(gt=1)] = Field(
        default=algorithms.DynamicSampling.growth, description="factor of their number"
    )
    theta: Positive = Field(
        default=algorithms.DynamicSampling.theta,
        description="how large the noise may be relative to the gradient",
    )
    seed: Seed = Field(default=0, description="of the order of the images")

    def build(self) -> Algorithm[Any]:
        """Dynamic sampling."""
        return algorithms.DynamicSampling(**self.arguments())


class BudgetSettings(Settings):
    """What learning may cost; the first limit that is reached ends it."""

    seconds: Positive | None = Field(default=None, description="of the learning itself")
    steps: Count | None = Field(default=None, description="outer steps")
    gradient_evaluations: Count | None = Field(default=None, description="of one image's energy")

    @model_validator(mode="after")
    def _check(self) -> BudgetSettings:
        if not self.model_dump(exclude_none=True):
            raise Unfit("seconds", "a budget needs a limit", advice="add e.g. seconds = 60")
        return self

    def build(self) -> Budget:
        """The budget itself; what is not given is unlimited."""
        limits = (self.seconds, self.steps, self.gradient_evaluations)
        return Budget(*(math.inf if limit is None else limit for limit in limits))

"""The table [algorithm]: projected gradients, HOAG, Gauss-Newton, trust region, torch's own."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from bilevel.cli.settings.base import Choice, Count, Fraction, Positive, Seed, Unfit
from bilevel.cli.settings.learning import (
    Accurate,
    AccurateSettings,
    Geometric,
    Polynomial,
    ScheduleSettings,
)
from bilevel.ground.errors import InputError
from bilevel.learn import Algorithm, algorithms

__all__ = ["HOAG", "GaussNewton", "ProjectedGradient", "TorchOptimiser", "TrustRegion"]


class ProjectedGradient(AccurateSettings):
    """Projected gradient with a schedule of the lower level's accuracy."""

    schedule: Annotated[ScheduleSettings, Choice("schedules")] = Geometric()
    step_size: Positive | None = Field(default=None, description="searched in every step if none")
    accelerated: bool = Field(
        default=algorithms.ProjectedGradient.accelerated, description="with momentum"
    )
    batch_size: Count | None = Field(
        default=None, description="images a step; needs a step_size or growth"
    )
    growth: Annotated[float, Field(ge=1)] = Field(
        default=algorithms.ProjectedGradient.growth,
        description="factor of the images from step to step, up to all",
    )
    seed: Seed = Field(default=0, description="of the batches")

    @model_validator(mode="after")
    def _check(self) -> ProjectedGradient:
        if self.batch_size is None and self.growth > 1:
            raise Unfit("growth", "needs a batch_size", advice="add e.g. batch_size = 8")
        if self.batch_size is not None and self.step_size is None and self.growth == 1:
            advice = "add e.g. step_size = 10.0 or growth = 2.0, or leave batch_size out"
            raise Unfit("batch_size", "needs a step_size", advice=advice)
        return self

    def build(self) -> Algorithm[Any]:
        """Algorithm 1."""
        return algorithms.ProjectedGradient(
            schedule=self.schedule.build(), **self.arguments("schedule")
        )


class HOAG(AccurateSettings):
    """One evaluation a step; accuracy follows a schedule, the step size what the loss did."""

    schedule: Annotated[ScheduleSettings, Choice("schedules")] = Polynomial()
    step_size: Positive | None = Field(default=None, description="the first one")
    longest: Positive = Field(
        default=algorithms.HOAG.longest, description="how far a step may move a parameter"
    )
    constant: Positive = Field(
        default=algorithms.HOAG.constant, description="C, how an error changes the loss"
    )
    guarded: bool = Field(
        default=algorithms.HOAG.guarded, description="take back growth that errors do not explain"
    )
    shrink: Fraction = Field(
        default=algorithms.HOAG.shrink, description="factor of 1/step after a success"
    )
    reject: Annotated[float, Field(gt=1)] = Field(
        default=algorithms.HOAG.reject, description="growth of the loss at which to step back"
    )

    def build(self) -> Algorithm[Any]:
        """HOAG."""
        return algorithms.HOAG(schedule=self.schedule.build(), **self.arguments("schedule"))


class GaussNewton(Accurate):
    """Gauss-Newton with damping: the fewest steps for a few parameters of a smooth energy."""

    damping: Positive = Field(
        default=algorithms.GaussNewton.damping, description="first one, relative to the curvature"
    )
    longest: Positive = Field(
        default=algorithms.GaussNewton.longest, description="how far a step may move a parameter"
    )
    tighten: Fraction = Field(
        default=algorithms.GaussNewton.tighten, description="factor of the accuracy"
    )
    tol: Positive = Field(
        default=algorithms.GaussNewton.tol,
        description="gradient relative to the loss at which to stop",
    )

    def build(self) -> Algorithm[Any]:
        """Gauss-Newton."""
        return algorithms.GaussNewton(**self.arguments())


class TrustRegion(AccurateSettings):
    """Quadratic models, then several gradients at once: for exact TV, whose loss has kinks."""

    last_radius: Positive = Field(
        default=algorithms.TrustRegion.last_radius,
        description="within which gradients must cancel each other at a kink",
    )
    memory: Annotated[int, Field(ge=2)] = Field(
        default=algorithms.TrustRegion.memory, description="curvatures and gradients kept"
    )
    tighten: Fraction = Field(
        default=algorithms.TrustRegion.tighten, description="factor of the accuracy"
    )

    def build(self) -> Algorithm[Any]:
        """The trust region."""
        return algorithms.TrustRegion(**self.arguments())


class TorchOptimiser(Accurate):
    """An optimiser of torch.optim, e.g. Adam, and a schedule of the accuracy."""

    optimiser: str = Field(
        default=algorithms.TorchOptimiser.optimiser, description="a class of torch.optim"
    )
    lr: Positive = Field(default=algorithms.TorchOptimiser.lr, description="learning rate")
    options: dict[str, float | bool] = Field(
        default={}, description="of the optimiser, e.g. { momentum = 0.9 }"
    )
    schedule: Annotated[ScheduleSettings, Choice("schedules")] = Geometric()
    tol: Positive = Field(
        default=algorithms.TorchOptimiser.tol,
        description="gradient relative to the loss at which to stop",
    )

    @model_validator(mode="after")
    def _check(self) -> TorchOptimiser:
        try:
            self.build()
        except InputError as error:
            raise Unfit("optimiser", str(error)) from None
        return self

    def build(self) -> Algorithm[Any]:
        """The optimiser at the upper level."""
        rest = self.arguments("schedule")
        return algorithms.TorchOptimiser(schedule=self.schedule.build(), **rest)

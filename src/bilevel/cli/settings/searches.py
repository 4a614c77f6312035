"""The table [algorithm]: algorithms that use no gradient."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from bilevel.cli.settings.base import Count, Fraction, Positive, Seed, Unfit
from bilevel.cli.settings.learning import Accurate, AlgorithmSettings
from bilevel.ground.errors import InputError
from bilevel.learn import Algorithm, algorithms

__all__ = ["DFOLS", "Grid", "OptunaSearch", "RandomSearch"]

Interval = Annotated[tuple[float, float], Field(strict=False)]


class _Search(AlgorithmSettings):
    """What all searches have in common."""

    box: dict[str, Interval] = Field(
        description='lowest and highest, e.g. { "regulariser.log_weight" = [-7, 0] }'
    )
    accuracy: Positive | None = Field(
        default=None,
        description="of the lower level, rms [grey value]; 1e-3 of the contrast if none",
    )

    @model_validator(mode="after")
    def _check(self) -> _Search:
        try:
            self.build()
        except InputError as error:
            raise Unfit("box", str(error)) from None
        return self


class Grid(_Search):
    """All points of a regular grid."""

    points: Annotated[int, Field(ge=2)] = Field(
        default=algorithms.Grid.points, description="for each parameter"
    )

    def build(self) -> Algorithm[Any]:
        """Grid search."""
        return algorithms.Grid(**self.model_dump())


class RandomSearch(_Search):
    """Points drawn uniformly from a box."""

    trials: Count = Field(default=algorithms.RandomSearch.trials, description="how many points")
    seed: Seed = Field(default=algorithms.RandomSearch.seed, description="of the points")

    def build(self) -> Algorithm[Any]:
        """Random search."""
        return algorithms.RandomSearch(**self.model_dump())


class OptunaSearch(_Search):
    """Bayesian search by the package optuna."""

    trials: Count = Field(default=algorithms.OptunaSearch.trials, description="how many points")
    startup: Count = Field(
        default=algorithms.OptunaSearch.startup, description="the first ones, drawn at random"
    )
    seed: Seed = Field(default=algorithms.OptunaSearch.seed, description="of the sampler")

    def build(self) -> Algorithm[Any]:
        """Bayesian search."""
        return algorithms.OptunaSearch(**self.model_dump())


class DFOLS(Accurate):
    """Derivative-free least squares by the package DFO-LS, for a few parameters."""

    radius: Positive = Field(default=algorithms.DFOLS.radius, description="first trust region")
    last_radius: Positive = Field(
        default=algorithms.DFOLS.last_radius, description="trust region at which to stop"
    )
    shrink: Fraction = Field(
        default=algorithms.DFOLS.shrink, description="factor of the trust region in one step"
    )
    evaluations: Annotated[int, Field(ge=2)] = Field(
        default=algorithms.DFOLS.evaluations, description="at most so many a step and parameter"
    )

    @model_validator(mode="after")
    def _check(self) -> DFOLS:
        try:
            self.build()
        except InputError as error:
            raise Unfit("last_radius", str(error)) from None
        return self

    def build(self) -> Algorithm[Any]:
        """DFO-LS."""
        return algorithms.DFOLS(**self.arguments())

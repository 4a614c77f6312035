"""The table [algorithm] for algorithms that look at batches: single loops and ISGD."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from bilevel.cli.settings.base import Count, Positive, Seed
from bilevel.cli.settings.learning import Accurate, Floored
from bilevel.learn import Algorithm, algorithms

__all__ = [
    "BOME",
    "F2SA",
    "ISGD",
    "MASOBA",
    "SABA",
    "SOBA",
    "SRBA",
    "AmIGO",
    "SingleLoopSettings",
    "StocBiO",
]

Power = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Preconditioner = Literal["none", "adam"]


class SingleLoopSettings(Floored):
    """An algorithm that moves reconstructions, adjoints and parameters together."""

    batch_size: Count = Field(default=1, description="images an iteration, at most")
    inner_step: Positive | None = Field(
        default=None, description="of reconstructions, in units of 1/L; 1 if none"
    )
    outer_step: Positive | None = Field(
        default=None, description="of the parameters; found by first_change if none"
    )
    first_change: Positive | None = Field(
        default=None, description="how far the first epoch moves a parameter; 1/2 if none"
    )
    decay: Power = Field(default=0.0, description="power of the epochs by which steps shrink")
    iterations: Count | None = Field(default=None, description="in a record; an epoch if none")
    precondition: Preconditioner = Field(default="none", description="none, or adam")
    tol: Positive = Field(
        default=algorithms.SOBA.tol, description="gradient relative to the loss at which to stop"
    )
    seed: Seed = Field(default=0, description="of the batches")


class AcceleratedSettings(SingleLoopSettings):
    """One that takes several accelerated steps of the former before one of the latter."""

    inner_steps: Count | None = Field(
        default=None, description="of reconstructions and adjoints before the parameters; 8 if none"
    )


class SOBA(AcceleratedSettings):
    """Plain stochastic steps that decrease."""

    decay: Power = Field(
        default=algorithms.SOBA.decay, description="power of the epochs by which steps shrink"
    )

    def build(self) -> Algorithm[Any]:
        """SOBA."""
        return algorithms.SOBA(**self.arguments())


class MASOBA(SOBA):
    """SOBA with a moving average of the gradients."""

    average: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="share of the newest gradient; 4/epoch if none"
    )

    def build(self) -> Algorithm[Any]:
        """MA-SOBA."""
        return algorithms.MASOBA(**self.arguments())


class SABA(AcceleratedSettings):
    """Constant steps, with a memory of the gradients of all batches."""

    def build(self) -> Algorithm[Any]:
        """SABA."""
        return algorithms.SABA(**self.arguments())


class SRBA(AcceleratedSettings):
    """Constant steps, with gradients estimated recursively."""

    period: Count | None = Field(
        default=None, description="iterations between looks at all images; an epoch if none"
    )

    def build(self) -> Algorithm[Any]:
        """SRBA."""
        return algorithms.SRBA(**self.arguments())


class AmIGO(SingleLoopSettings):
    """A few steps of reconstructions and adjoints before each of the parameters."""

    inner_steps: Count = Field(
        default=algorithms.AmIGO.inner_steps, description="of reconstructions, and of adjoints"
    )

    def build(self) -> Algorithm[Any]:
        """AmIGO."""
        return algorithms.AmIGO(**self.arguments())


class StocBiO(SingleLoopSettings):
    """As amigo, with adjoints from zero in each iteration."""

    inner_steps: Count = Field(
        default=algorithms.StocBiO.inner_steps, description="of reconstructions, and of adjoints"
    )

    def build(self) -> Algorithm[Any]:
        """StocBiO."""
        return algorithms.StocBiO(**self.arguments())


class F2SA(SingleLoopSettings):
    """First derivatives alone: the loss enters the energy, divided by a penalty that grows."""

    decay: Power = Field(
        default=algorithms.F2SA.decay, description="power of the epochs by which steps shrink"
    )
    first_change: Positive | None = Field(
        default=algorithms.F2SA.first_change,
        description="how far the first epoch moves a parameter",
    )
    penalty: Positive = Field(
        default=algorithms.F2SA.penalty, description="the first, in units of the Lipschitz ratio"
    )
    growth: Power = Field(
        default=algorithms.F2SA.growth, description="power of the epochs by which it grows"
    )

    def build(self) -> Algorithm[Any]:
        """F²SA."""
        return algorithms.F2SA(**self.arguments())


class BOME(SingleLoopSettings):
    """First derivatives alone: descent of the loss, with a barrier around least energies."""

    first_change: Positive | None = Field(
        default=algorithms.BOME.first_change,
        description="how far the first epoch moves a parameter",
    )
    inner_steps: Count = Field(
        default=algorithms.BOME.inner_steps, description="of reconstructions, to the least energy"
    )
    barrier: Positive = Field(
        default=algorithms.BOME.barrier, description="rate at which the energy approaches its least"
    )
    penalty: Positive = Field(
        default=algorithms.BOME.penalty, description="the first, in units of the Lipschitz ratio"
    )

    def build(self) -> Algorithm[Any]:
        """BOME."""
        return algorithms.BOME(**self.arguments())


class ISGD(Accurate):
    """Minibatches of implicit gradients whose accuracy grows."""

    batch_size: Count = Field(default=algorithms.ISGD.batch_size, description="images a step")
    step_size: Positive | None = Field(
        default=None, description="first step; found by first_change if none"
    )
    first_change: Positive = Field(
        default=algorithms.ISGD.first_change, description="how far the first step moves a parameter"
    )
    accuracy_power: Power = Field(
        default=algorithms.ISGD.accuracy_power, description="p in ε_k = ε_0 k^-p"
    )
    step_power: Power = Field(default=algorithms.ISGD.step_power, description="q in α_k = α_0 k^-q")
    precondition: Preconditioner = Field(default="none", description="none, or adam")
    seed: Seed = Field(default=0, description="of the batches")

    def build(self) -> Algorithm[Any]:
        """ISGD."""
        return algorithms.ISGD(**self.arguments())

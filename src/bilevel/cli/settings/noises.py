"""The [noise] table: what disturbs the data."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated

from pydantic import Field

from bilevel import data
from bilevel.cli.settings.base import Level, Positive, Settings

__all__ = ["Gaussian", "NoNoise", "NoiseSettings", "Poisson"]


class NoiseSettings(Settings):
    """A noise model."""

    @abstractmethod
    def build(self) -> data.Noise:
        """The noise model itself."""


class NoNoise(NoiseSettings):
    """No noise at all."""

    def build(self) -> data.Noise:
        """Nothing."""
        return data.NoNoise()


class Gaussian(NoiseSettings):
    """Independent normal noise on every value of the data."""

    sigma: Level = Field(description='standard deviation [grey value]; also "25/255"')

    def build(self) -> data.Noise:
        """Normal noise."""
        return data.GaussianNoise(self.sigma)


class Poisson(NoiseSettings):
    """Photon counts, scaled back to grey values."""

    peak: Positive = Field(description="mean number of photons at grey value 1")
    background: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="added before counting [grey value]"
    )

    def build(self) -> data.Noise:
        """Counting noise."""
        return data.PoissonNoise(self.peak, self.background)

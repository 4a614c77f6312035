"""The [noise] table: what disturbs the data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from bilevel import data
from bilevel.cli.settings.base import Level, Positive, Settings

__all__ = ["Gaussian", "NoNoise", "NoiseSettings", "Poisson"]


class NoiseSettings(Settings):
    """A noise model."""

    rules: ClassVar[tuple[str, str]] = ("gcv", "gcv")
    """What chooses a weight unless another rule is asked for: in denoising, and otherwise."""

    @abstractmethod
    def build(self) -> data.Noise:
        """The noise model itself."""

    @property
    def fidelity(self) -> Mapping[str, object]:
        """The table [fidelity] that fits such noise."""
        return {"name": "squared-l2"}


class NoNoise(NoiseSettings):
    """No noise at all."""

    def build(self) -> data.Noise:
        """Nothing."""
        return data.NoNoise()


class Gaussian(NoiseSettings):
    """Independent normal noise on every value of the data."""

    rules: ClassVar[tuple[str, str]] = ("sure", "predicted-risk")
    sigma: Level = Field(description='standard deviation [grey value]; also "25/255"')

    def build(self) -> data.Noise:
        """Normal noise."""
        return data.GaussianNoise(self.sigma)


class Poisson(NoiseSettings):
    """Photon counts, scaled back to grey values."""

    rules: ClassVar[tuple[str, str]] = ("pure", "pure")
    peak: Positive = Field(description="mean number of photons at grey value 1")
    background: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="added before counting [grey value]"
    )

    def build(self) -> data.Noise:
        """Counting noise."""
        return data.PoissonNoise(self.peak, self.background)

    @property
    def fidelity(self) -> Mapping[str, object]:
        """The divergence that counts call for."""
        return {"name": "kullback-leibler", "background": self.background}

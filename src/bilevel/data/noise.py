"""Noise models: from clean data to one noisy draw."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.checks import check_nonnegative, check_positive
from bilevel.ground.errors import InputError

__all__ = ["GaussianNoise", "NoNoise", "Noise", "PoissonNoise"]


class Noise(ABC):
    """How data are disturbed; drawn in float64, so that float32 and float64 data get the same."""

    @abstractmethod
    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """One noisy draw of ``clean``, of the same shape, dtype and device."""


@dataclass(frozen=True)
class NoNoise(Noise):
    """No noise at all.

    The data as they are.
    """

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """``clean`` itself."""
        del generator
        return clean


@dataclass(frozen=True)
class GaussianNoise(Noise):
    """Independent normal noise on every value of the data.

    Independent normal noise of standard deviation ``sigma`` [unit of the data].

    Args:
        sigma: standard deviation [grey value].

    Raises:
        InputError: ``sigma`` negative, infinite or NaN.

    Example:
        >>> GaussianNoise(0.0).sample(torch.ones(1, 1, 1, 2), torch.Generator())
        tensor([[[[1., 1.]]]])
    """

    sigma: float

    def __post_init__(self) -> None:
        check_nonnegative(self.sigma, "the noise level sigma")

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """``clean`` + sigma n with n standard normal."""
        n = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
        return clean + (self.sigma * n).to(clean)


@dataclass(frozen=True)
class PoissonNoise(Noise):
    """Photon counts, scaled back to grey values.

    Photon counts with mean ``peak`` (clean + ``background``), scaled back: variance mean / peak.

    A draw is counts / peak - background, so that its mean is the clean data.

    Args:
        peak: mean number of photons at grey value 1; the lower, the noisier.
        background: grey value added before counting.

    Raises:
        InputError: a peak that is not positive, or a negative background.
    """

    peak: float
    background: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self.peak, "the photon number peak")
        check_nonnegative(self.background, "the background")

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """One draw of the counts, scaled back.

        Raises:
            InputError: clean + background negative beyond rounding.
        """
        mean = clean.detach().double().cpu() + self.background
        lowest = float(mean.min())
        if lowest < -1e-5 * float(mean.abs().max()):
            raise InputError(
                "Poisson noise needs clean data that are not negative",
                given=f"a mean of {lowest:.3g}",
                advice="choose a larger background or Gaussian noise",
            )
        counts = torch.poisson(self.peak * mean.clamp_min(0), generator=generator)
        return (counts / self.peak - self.background).to(clean)

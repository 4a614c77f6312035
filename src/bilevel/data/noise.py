"""Noise models: from clean data to one noisy draw."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.ground.checks import check_nonnegative, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.given import Typed

__all__ = [
    "GaussianNoise",
    "NoNoise",
    "Noise",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "not_negative",
]


class Noise(Typed, ABC):
    """How data are disturbed; drawn in float64, so that float32 and float64 data get the same."""

    of_positive: ClassVar[bool] = False
    """Whether clean data must not be negative."""

    @abstractmethod
    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """One noisy draw of ``clean``, of the same shape, dtype and device."""

    def in_unit(self, unit: float) -> Noise:
        """The same noise of data that are divided by ``unit``.

        Example:
            >>> GaussianNoise(10.0).in_unit(255.0).sigma * 255
            10.0
        """
        return self if unit == 1 else _InUnit(self, unit)


@dataclass(frozen=True)
class _InUnit(Noise):
    """That of data which were divided by a unit."""

    noise: Noise
    unit: float

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """A draw in the old unit, divided by it."""
        return self.noise.sample(self.unit * clean, generator) / self.unit


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

    Independent normal noise of standard deviation ``sigma`` [unit of the data]. With two levels
    every sample draws its own, uniformly between them, from its generator before the noise: the
    level of a sample, too, depends on seed and id alone.

    Args:
        sigma: standard deviation [grey value]; two for levels drawn between them.

    Raises:
        InputError: ``sigma`` negative, infinite or NaN, or two levels that do not grow.

    Example:
        >>> GaussianNoise(0.0).sample(torch.ones(1, 1, 1, 2), torch.Generator())
        tensor([[[[1., 1.]]]])
        >>> noise, rng = GaussianNoise((0.05, 0.15)), torch.Generator()
        >>> 0.05 <= noise.level(rng.manual_seed(0)) < 0.15
        True
    """

    sigma: float | tuple[float, float]

    def __post_init__(self) -> None:
        levels = self.sigma if isinstance(self.sigma, tuple) else (self.sigma,)
        for level in levels:
            check_nonnegative(level, "the noise level sigma")
        if len(levels) == 2 and not levels[0] < levels[1]:
            raise InputError("two levels sigma are the least and the greatest", given=levels)

    def in_unit(self, unit: float) -> GaussianNoise:
        """With levels in that unit."""
        if isinstance(self.sigma, tuple):
            return GaussianNoise((self.sigma[0] / unit, self.sigma[1] / unit))
        return GaussianNoise(self.sigma / unit)

    def level(self, generator: torch.Generator) -> float:
        """The level of one sample: the one there is, or that which its generator draws."""
        if not isinstance(self.sigma, tuple):
            return self.sigma
        low, high = self.sigma
        return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """``clean`` + sigma n with n standard normal."""
        sigma = self.level(generator)
        n = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
        return clean + (sigma * n).to(clean)


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

    of_positive: ClassVar[bool] = True
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
        counts = _counted(clean, self.background, self.peak, generator)
        return (counts / self.peak - self.background).to(clean)


@dataclass(frozen=True)
class PoissonGaussianNoise(Noise):
    """Photon counts read by a camera: Poisson and Gaussian noise, an offset, an end of the range.

    offset + gain Poisson(clean/gain) + a normal deviate of standard deviation ``read_noise``, all
    [unit of the data]; values beyond ``saturation`` become it. Its variance is
    read_noise² + gain clean. Of a :class:`~bilevel.data.Camera` the light has this noise.

    Args:
        gain: grey value of one photon; the larger, the noisier.
        read_noise: standard deviation of what the electronics add [grey value].
        offset: grey value of no light.
        saturation: greatest grey value; no end if none.

    Raises:
        InputError: a gain that is not positive, a negative read noise, an offset that is not
            finite, a saturation that is not above it.
    """

    of_positive: ClassVar[bool] = True
    gain: float
    read_noise: float
    offset: float = 0.0
    saturation: float | None = None

    def __post_init__(self) -> None:
        check_positive(self.gain, "the gain")
        check_nonnegative(self.read_noise, "the read noise")
        check_nonnegative(abs(self.offset), "the size of the offset")
        if self.saturation is not None and not self.saturation > self.offset:
            what = f"saturation must lie above the offset, {self.offset:g}"
            raise InputError(what, given=self.saturation)

    @property
    def shifted(self) -> PoissonNoise:
        """Poisson noise of the same mean and variance, with a background of read_noise²/gain.

        The law of the data without their offset is nearly that one (Snyder, Hammoud, White 1993).

        Raises:
            InputError: there is no read noise, and so no background.
        """
        if not self.read_noise:
            what = "without read noise there is no background, which the divergence of counts needs"
            raise InputError(what, advice="give the read noise, at least that of rounding: 0.3")
        return PoissonNoise(1 / self.gain, self.read_noise**2 / self.gain)

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """One draw.

        Raises:
            InputError: clean data that are negative beyond rounding.
        """
        counts = _counted(clean, 0.0, 1 / self.gain, generator)
        n = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
        found = self.offset + self.gain * counts + self.read_noise * n
        return (found if self.saturation is None else found.clamp_max(self.saturation)).to(clean)


def _counted(clean: Tensor, background: float, peak: float, generator: torch.Generator) -> Tensor:
    """Poisson counts of mean peak (clean + background), float64 on the CPU."""
    mean = not_negative(clean, background, "Poisson noise")
    return torch.poisson(peak * mean, generator=generator)


def not_negative(clean: Tensor, background: float, name: str) -> Tensor:
    """clean + background without what rounding left below 0, float64 on the CPU.

    Raises:
        InputError: it is negative beyond rounding.
    """
    mean = clean.detach().double().cpu() + background
    lowest = float(mean.min())
    if lowest < -1e-5 * float(mean.abs().max()):
        raise InputError(
            f"{name} needs clean data that are not negative",
            given=f"a mean of {lowest:.3g}",
            advice="choose a larger background or Gaussian noise",
        )
    return mean.clamp_min(0)

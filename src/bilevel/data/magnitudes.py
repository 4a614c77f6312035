"""Noise of magnitudes and intensities: Rician, and speckle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.data.noise import Noise, not_negative
from bilevel.ground.checks import check_nonnegative, check_positive
from bilevel.ground.randomness import numpy_generator

__all__ = ["RicianNoise", "SpeckleNoise"]


@dataclass(frozen=True)
class RicianNoise(Noise):
    """Magnitudes of complex data with Gaussian noise, as scanners of MRI give them.

    √((clean + n₁)² + n₂²) with n₁ and n₂ independent and normal, of standard deviation ``sigma``:
    dark data come out too bright.

    The fidelity that fits is :class:`~bilevel.model.fidelities.Rician` of the same sigma.

    Args:
        sigma: standard deviation of real and of imaginary part [grey value].

    Raises:
        InputError: a negative sigma.

    Example:
        >>> y = RicianNoise(0.1).sample(torch.zeros(1, 1, 99, 99), torch.Generator().manual_seed(0))
        >>> float(y.min()) > 0, round(float(y.mean()), 2)  # √(π/2) sigma
        (True, 0.13)
    """

    of_positive: ClassVar[bool] = True
    sigma: float

    def __post_init__(self) -> None:
        check_nonnegative(self.sigma, "the noise level sigma")

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """One draw.

        Raises:
            InputError: clean data that are negative beyond rounding.
        """
        mean = not_negative(clean, 0.0, "Rician noise")
        real, imaginary = self.sigma * torch.randn(
            2, *clean.shape, generator=generator, dtype=torch.float64
        )
        return torch.hypot(mean + real, imaginary).to(clean)


@dataclass(frozen=True)
class SpeckleNoise(Noise):
    """Multiplicative Gamma noise: intensities of coherent light, radar or ultrasound.

    (clean + ``background``) g - ``background`` with g independent, of the Gamma law of mean 1 and
    variance 1/``looks``, as if intensities were averaged over so many looks.

    The fidelity that fits is :class:`~bilevel.model.fidelities.Speckle` of the same background and
    weight ``looks``.

    Args:
        looks: over which intensities are averaged, > 0; the fewer, the noisier [1].
        background: intensity that is always there [grey value].

    Raises:
        InputError: looks that are not positive, or a negative background.

    Example:
        >>> y = SpeckleNoise(1.0).sample(torch.ones(1, 1, 1, 3), torch.Generator().manual_seed(0))
        >>> bool((y > 0).all())
        True
    """

    of_positive: ClassVar[bool] = True
    looks: float
    background: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self.looks, "looks")
        check_nonnegative(self.background, "the background")

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """One draw.

        Raises:
            InputError: clean + background negative beyond rounding.
        """
        mean = not_negative(clean, self.background, "speckle")
        gamma = numpy_generator(generator).standard_gamma(self.looks, tuple(clean.shape))
        return (mean * torch.from_numpy(gamma) / self.looks - self.background).to(clean)

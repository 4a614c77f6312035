"""Noise with outliers: impulses beside Gaussian noise, and heavy tails."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bilevel.data.noise import Noise
from bilevel.ground.checks import check_choice, check_nonnegative, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import numpy_generator

__all__ = ["ImpulseNoise", "StudentTNoise"]


@dataclass(frozen=True)
class ImpulseNoise(Noise):
    """Impulses in some of the data, and Gaussian noise in all others.

    Every datum is lost with probability ``share``: it becomes ``low`` or ``high`` with the same
    probability (salt and pepper), or any value between them, uniformly (random-valued). All others
    get independent normal noise of standard deviation ``sigma``.

    The fidelity that fits is :class:`~bilevel.model.fidelities.GaussianImpulse`, or without
    Gaussian noise :class:`~bilevel.model.fidelities.L1`, exact or smoothed.

    Args:
        share: of the data that are lost, in [0, 1].
        sigma: standard deviation of the Gaussian noise [grey value].
        values: what impulses are.
        low: least value of an impulse [grey value].
        high: greatest value of an impulse [grey value].

    Raises:
        InputError: a share outside of [0, 1], a negative sigma, an unknown name, values that are
            not finite or do not grow.

    Example:
        >>> noise = ImpulseNoise(1.0, low=0.0, high=255.0)
        >>> y = noise.sample(torch.full((1, 1, 9, 9), 7.0), torch.Generator().manual_seed(0))
        >>> y.unique()
        tensor([  0., 255.])
    """

    share: float
    sigma: float = 0.0
    values: Literal["salt-and-pepper", "random-valued"] = "salt-and-pepper"
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError("the share of impulses must lie in [0, 1]", given=self.share)
        check_nonnegative(self.sigma, "the noise level sigma")
        check_choice(self.values, ("salt-and-pepper", "random-valued"), "values of impulses")
        if not -math.inf < self.low < self.high < math.inf:
            given = f"low = {self.low:g} and high = {self.high:g}"
            raise InputError("impulses need finite values, low < high", given=given)

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """One draw."""
        n = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
        place, value = torch.rand(2, *clean.shape, generator=generator, dtype=torch.float64)
        if self.values == "salt-and-pepper":
            value = (value >= 0.5).double()
        impulse = (self.low + (self.high - self.low) * value).to(clean)
        lost = (place < self.share).to(clean.device)
        return torch.where(lost, impulse, clean + (self.sigma * n).to(clean))


@dataclass(frozen=True)
class StudentTNoise(Noise):
    """Heavy tails: Student's t of few degrees of freedom.

    clean + sigma t with t independent, of Student's law with ``degrees`` degrees of freedom: the
    fewer, the more outliers; for many it is Gaussian noise. Its variance is
    sigma² degrees/(degrees - 2), infinite for up to two degrees.

    The fidelity that fits is :class:`~bilevel.model.fidelities.StudentT` with scale
    sigma √degrees.

    Args:
        sigma: scale of the law [grey value].
        degrees: of freedom, > 0 [1].

    Raises:
        InputError: a negative sigma, or degrees that are not positive.
    """

    sigma: float
    degrees: float = 3.0

    def __post_init__(self) -> None:
        check_nonnegative(self.sigma, "the noise level sigma")
        check_positive(self.degrees, "degrees")

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """``clean`` + sigma t."""
        t = numpy_generator(generator).standard_t(self.degrees, tuple(clean.shape))
        return clean + (self.sigma * torch.from_numpy(t)).to(clean)

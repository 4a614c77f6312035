"""What a camera does to light: an offset, a gain, read noise, and an end of its range."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.data.noise import PoissonGaussianNoise
from bilevel.ground.checks import check_finite, check_nonnegative, check_positive
from bilevel.ground.errors import InputError

__all__ = ["Camera"]


@dataclass(frozen=True)
class Camera:
    """From the numbers of a camera to light and back.

    numbers = offset + gain Poisson(light/gain) + read noise, cut off at ``saturation`` (Foi,
    Trimeche, Katkovnik, Egiazarian 2008): the light is measured in numbers above the offset, or,
    with a ``unit``, in grey values of so many numbers each. All but the unit are in the numbers of
    the camera.

    Args:
        offset: the number that no light gives.
        gain: numbers a photon (electron).
        read_noise: standard deviation of what the electronics add.
        saturation: the number at which the camera ends: pixels there tell nothing but "at least".
        unit: numbers above the offset that are grey value 1.

    Raises:
        InputError: numbers that are not finite, a gain or unit that is not positive, a negative
            read noise, a saturation that is not above the offset.

    Example:
        >>> camera = Camera(offset=100.0, gain=2.0, read_noise=4.0, saturation=4095.0)
        >>> numbers = torch.tensor([100.0, 300.0, 4095.0])
        >>> camera.light(numbers), camera.variance(camera.light(numbers))
        (tensor([   0.,  200., 3995.]), tensor([  16.,  416., 8006.]))
        >>> camera.saturated(numbers)
        tensor([False, False,  True])
    """

    offset: float = 0.0
    gain: float = 1.0
    read_noise: float = 0.0
    saturation: float | None = None
    unit: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_finite(torch.tensor(self.offset, dtype=torch.float64), "the offset of the camera")
        check_positive(self.gain, "the gain of the camera")
        check_nonnegative(self.read_noise, "the read noise of the camera")
        check_positive(self.unit, "the unit of the camera")
        if self.saturation is not None and not self.saturation > self.offset:
            what = f"saturation must lie above the offset, {self.offset:g}"
            raise InputError(what, given=self.saturation)

    def light(self, numbers: Tensor) -> Tensor:
        """Numbers without the offset, in grey values; read noise makes some of them negative."""
        return (numbers - self.offset) / self.unit

    def numbers(self, light: Tensor) -> Tensor:
        """What the camera says of light on average, cut off at the saturation."""
        found = self.offset + self.unit * light
        return found if self.saturation is None else found.clamp_max(self.saturation)

    def saturated(self, numbers: Tensor) -> Tensor:
        """Pixels at the end of the range, bool: their light is unknown."""
        if self.saturation is None:
            return torch.zeros_like(numbers, dtype=torch.bool)
        return numbers >= self.saturation

    def variance(self, light: Tensor) -> Tensor:
        """Of the noise [grey value squared]: read_noise² + gain max(light, 0), in its unit."""
        read, gain = self.read_noise / self.unit, self.gain / self.unit
        return read**2 + gain * light.clamp_min(0.0)

    @property
    def noise(self) -> PoissonGaussianNoise:
        """That of the light [grey value]."""
        end = None if self.saturation is None else (self.saturation - self.offset) / self.unit
        return PoissonGaussianNoise(self.gain / self.unit, self.read_noise / self.unit, 0.0, end)

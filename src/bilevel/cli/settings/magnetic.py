"""The [operator] table of Fourier data: masks drawn, read or learned."""

from __future__ import annotations

import math
from typing import Annotated, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from bilevel.cli.settings.arrays import black_and_white
from bilevel.cli.settings.base import Seed, Unfit
from bilevel.cli.settings.forward import OperatorSettings
from bilevel.cli.settings.kinds import FidelitySettings
from bilevel.data import Pairs, kspace
from bilevel.model import operators
from bilevel.model.fidelities import DataTerm, SampledL2, SquaredL2
from bilevel.model.operators import Operator, Shape
from bilevel.model.operators.fourier import line_mask

__all__ = ["FourierMask"]

_DECAY = 3.0


class FourierMask(OperatorSettings):
    """Some vertical lines of the Fourier transform are seen: single-coil magnetic resonance.

    Measured data say themselves which of them were sampled: the others are 0.
    """

    decisive = "acceleration"
    acceleration: Annotated[float, Field(ge=1, le=256)] = Field(
        default=2.0, description="one of so many lines, or points, is seen"
    )
    centre_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.08,
        description="part of the lines, around frequency zero, that is seen in any case",
    )
    seed: Seed = Field(default=0, description="of the lines drawn")
    mask: str | None = Field(
        default=None,
        description="picture of what is seen, frequency zero in the middle, in place of "
        "acceleration, centre_fraction and seed",
    )
    learn: Annotated[tuple[Literal["mask"], ...], Field(strict=False)] = Field(
        default=(),
        description='["mask"]: which lines or points to take; data are then fully sampled, and '
        "acceleration is the budget",
    )
    by: Literal["lines", "points"] = Field(
        default="lines", description="what a learned mask is made of"
    )
    binarise: bool = Field(
        default=True,
        description="a learned mask becomes one of 0 and 1, by the largest weights and by "
        "exchanges; the rest is learned anew with it",
    )

    centred: bool = Field(
        default=False,
        description="frequency zero of the data of complex images lies in the middle, "
        "fftshift(fft2(ifftshift(x))); otherwise first, fft2(x)",
    )
    norm: Literal["ortho", "backward"] = Field(
        default="ortho",
        description="of the transform behind the data; backward has no factor, as numpy.fft.fft2",
    )

    @model_validator(mode="after")
    def _fits(self) -> FourierMask:
        drawn = [k for k in ("acceleration", "centre_fraction", "seed") if self._asked_for(k)]
        if self.mask is not None and (drawn or self.learn):
            what = "a mask is read from a file, drawn or learned"
            others = [*drawn, *(["learn"] if self.learn else [])]
            raise Unfit("mask", what, given=f"mask and {' and '.join(others)}")
        for key in ("by", "binarise"):
            if not self.learn and self._asked_for(key):
                advice = 'add learn = ["mask"]'
                raise Unfit(key, "only a learned mask has this", advice=advice)
        return self

    def _asked_for(self, key: str) -> bool:
        return getattr(self, key) != type(self).model_fields[key].default

    @property
    def size_taken(self) -> tuple[int, int] | None:
        """That of the picture."""
        if self.mask is None:
            return None
        h, w = black_and_white("mask", self.mask).shape
        return h, w

    @property
    def smallest(self) -> int:
        """A width at which some lines are kept."""
        return 4 * math.ceil(self.acceleration)

    @property
    def left_open(self) -> str | None:
        """The mask, if it is learned."""
        return "learn" if self.learn else None

    @property
    def binarises(self) -> bool:
        """Of a learned mask, if it is asked for."""
        return bool(self.learn) and self.binarise

    def build(self, shape: Shape) -> Operator:
        """Lines drawn anew for every size, the same ones for all images of a size."""
        return self.seeing(shape, self._arranged(self._mask(shape)))

    def seeing(self, shape: Shape, seen: Tensor) -> Operator:
        """Of real images, or of complex ones, which have two channels.

        Raises:
            Unfit: centred data of real images.
        """
        if shape[0] == 2:
            return operators.MultiCoil(seen, self._maps(shape), centred=self.centred)
        if self.centred:
            advice = "set complex = true in [data], or leave centred out"
            raise Unfit("centred", "centred data are those of complex images", advice=advice)
        return operators.FourierMask(seen)

    def _maps(self, shape: Shape) -> Tensor | None:
        """The sensitivities of the coils, of which there is one."""
        del shape

    def unit(self, data_shape: Shape) -> float:
        """√(h w) for a transform without factor: computing is orthonormal."""
        return 1.0 if self.norm == "ortho" else math.sqrt(data_shape[1] * data_shape[2])

    def sampled(self, y: Tensor) -> Tensor:
        """The data that are not 0.

        Raises:
            Unfit: data of several coils.
        """
        if y.shape[1] > 2 and y.shape[1] % 2 == 0:
            advice = 'take name = "multi-coil"'
            what = "data of several coils need the sensitivities of these"
            raise Unfit("name", what, given=f"{y.shape[1] // 2} coils", advice=advice)
        return kspace.sampled(y, centred=self.centred)

    def _mask(self, shape: Shape) -> Tensor:
        """What is seen, frequency zero first; all of it where the mask is learned.

        Raises:
            Unfit: a picture that cannot be read, is not black and white, or of another size.
        """
        size = shape[1], shape[2]
        if self.mask is None:
            drawn = line_mask(size, self.acceleration, self.centre_fraction, self.seed)
            return torch.ones_like(drawn) if self.learn else drawn
        seen = black_and_white("mask", self.mask)
        if seen.shape != size:
            given = f"an image of {size[0]}x{size[1]}"
            what = f"the mask is for images of {seen.shape[0]}x{seen.shape[1]} pixels"
            raise Unfit("mask", what, given=given)
        return cast(Tensor, torch.fft.ifftshift(seen))

    def fidelity(self, chosen: FidelitySettings, operator: Operator, shape: Shape) -> DataTerm:
        """With the mask as its weights, where it is learned.

        Raises:
            Unfit: another fidelity than squared-l2.
        """
        if not self.learn:
            return super().fidelity(chosen, operator, shape)
        if chosen.stands_for is not SquaredL2:
            advice = "leave [fidelity] out, or learn in [operator]"
            raise Unfit("name", "masks are learned with squared-l2", advice=advice)
        if chosen.data_taken is not None:
            what = "weights of the data are what a learned mask is"
            raise Unfit("name", what, advice="leave the file of weights or variances out")
        profile, kept, budget = self._budget(shape[1], shape[2])
        options = chosen.model_dump()
        learn = ("mask", *options["learn"])
        profile, kept = (self._arranged(part) for part in (profile, kept))
        return SampledL2(operator, profile, kept, budget, options["weight"], learn=learn)

    def accompanied(
        self, fidelity: DataTerm, pairs: Pairs, seen: Tensor | None
    ) -> tuple[DataTerm, Pairs]:
        """As for others; but a mask is learned from all of k-space.

        Raises:
            Unfit: data that were not all taken, and a mask to be learned.
        """
        if self.learn and seen is not None and not bool(seen.all()):
            given = f"{pairs.ids[0]} with zeros in {int((~seen).sum())} of {seen.numel()} places"
            what = "a mask is learned from data that are fully sampled"
            raise Unfit("learn", what, given=given)
        return super().accompanied(fidelity, pairs, seen)

    def _arranged(self, mask: Tensor) -> Tensor:
        """A mask with frequency zero first as the operator has it."""
        return kspace.centred_mask(mask) if self.centred else mask

    def _budget(self, h: int, w: int) -> tuple[Tensor, Tensor, float]:
        """First weights that decay with the frequency, those that are kept, and how many in all."""
        if self.by == "lines":
            frequency = _frequency(w)[None]
            kept = _nearest(w, round(w * self.centre_fraction))[None]
        else:
            frequency = torch.hypot(_frequency(h)[:, None], _frequency(w)[None])
            part = self.centre_fraction**0.5
            kept = _nearest(h, round(h * part))[:, None] & _nearest(w, round(w * part))[None]
        profile = (1 - frequency).clamp_min(0.0) ** _DECAY
        return profile, kept, float(round(profile.numel() / self.acceleration))


def _frequency(count: int) -> Tensor:
    """Of each line, 0 to 1, frequency zero first."""
    return 2 * cast(Tensor, torch.fft.fftfreq(count, dtype=torch.float64)).abs()


def _nearest(count: int, kept: int) -> Tensor:
    """So many lines around frequency zero."""
    found = torch.zeros(count, dtype=torch.bool)
    found[_frequency(count).argsort(stable=True)[:kept]] = True
    return found

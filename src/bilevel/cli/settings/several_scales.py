"""Tables of regularisers at several scales: wavelets, any other rescaled or of coarser copies."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bilevel.cli.settings.base import Choice
from bilevel.cli.settings.differing import CoupledSettings, coupled_in
from bilevel.cli.settings.kinds import RegulariserSettings
from bilevel.model.operators import Shape
from bilevel.model.regularisers import ImageTerm

__all__ = ["Bands", "ChannelledBands", "Rescaling", "Scales"]


class Bands(CoupledSettings):
    """Wavelets of images whose channels may be coupled."""

    coupled: bool | None = Field(
        default=None,
        description="penalise the coefficients of all channels together; those of complex images "
        "alone if none",
    )

    @property
    def smallest(self) -> int:
        """Wavelets double so often."""
        levels: int = self.model_dump()["levels"]
        return 2**levels


class ChannelledBands(Bands):
    """Of a number of channels that must be known."""

    given_elsewhere = ("operator", "channels")

    def build(self, shape: Shape) -> ImageTerm:
        """For the channels of the image."""
        return self.make(coupled=coupled_in(self.coupled, shape), channels=shape[0])


class Rescaling(RegulariserSettings):
    """Any smooth regulariser in other units, chosen in a table of its own."""

    given_elsewhere = ("regulariser",)
    of: Annotated[RegulariserSettings, Choice("regularisers")] = Field(
        description="the regulariser that is rescaled, a table"
    )

    def build(self, shape: Shape) -> ImageTerm:
        """With the regulariser for images of that shape."""
        return self.make(regulariser=self.of.build(shape))

    def trial(self) -> None:
        """With the regulariser of the smallest image."""
        self.build((1, self.smallest, self.smallest))

    @property
    def smallest(self) -> int:
        """That of the regulariser."""
        return self.of.smallest

    @property
    def size_taken(self) -> tuple[int, int] | None:
        """That of its maps."""
        return self.of.size_taken


class Scales(Rescaling):
    """Of the image and of coarser copies."""

    of: Annotated[RegulariserSettings, Choice("regularisers")] = Field(
        description="the regulariser of the image and of its coarser copies, a table"
    )

    def first_weight(self, contrast: float, degree: int) -> float:
        """That of the regulariser."""
        return self.of.first_weight(contrast, degree)

    @property
    def smallest(self) -> int:
        """So that its coarsest copy is large enough."""
        levels: int = self.model_dump()["levels"]
        return self.of.smallest * 2**levels

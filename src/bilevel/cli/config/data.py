"""The table [data]: sharp images to simulate from, or measurements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from bilevel import data
from bilevel.cli.config.files import named
from bilevel.cli.settings.base import Count, Seed, Settings, Unfit
from bilevel.ground.errors import InputError

__all__ = ["EMBEDDED", "DataSettings", "sought"]

EMBEDDED = "embedded"
Sources = str | list[str]


class DataSettings(Settings):
    """The sharp images that data are simulated from, or what was measured."""

    images: Sources = Field(
        default=EMBEDDED,
        min_length=1,
        description='"embedded" for the pictures in the package, or folders',
    )
    measured: Sources | None = Field(
        default=None,
        min_length=1,
        description="data in place of simulated ones: folders, files or patterns",
    )
    target: Sources | None = Field(
        default=None,
        min_length=1,
        description="the images that the data are of, matched by file name, in stacks by number",
    )
    grey: bool = Field(default=True, description="one channel; false for three")
    complex: bool = Field(
        default=False, description="images have real and imaginary parts, two channels"
    )
    layout: data.Layout | None = Field(
        default=None,
        description='what arrays of three dimensions are, where in doubt: "stack" of slices, '
        '"colour", or complex data of "coils"',
    )
    mask: str | None = Field(
        default=None,
        description="picture that is white where the data exist (dead and saturated pixels are "
        "black), or a folder with one for each file",
    )
    missing: Literal["nan"] | None = Field(
        default=None,
        description='"nan": NaN stands for data that do not exist; otherwise it is an error',
    )
    size: Annotated[int, Field(ge=1, le=2**14)] | None = Field(
        default=None, description="side of random crops [pixel]; whole images if none"
    )
    count: Count | None = Field(
        default=None, description="images (or crops) to learn from; all if none"
    )
    held_out: Annotated[int, Field(ge=0)] = Field(
        default=0, description="images (or crops) kept for the report, from other files"
    )
    seed: Seed = Field(default=0, description="of the choice of images, of crops and of noise")

    @property
    def channels(self) -> int:
        """Of every image."""
        return 2 if self.complex else 1 if self.grey else 3

    @property
    def image_layout(self) -> data.Layout | None:
        """Of the images: those that coils saw are slices."""
        return "stack" if self.layout == "coils" else self.layout

    @model_validator(mode="after")
    def _check(self) -> DataSettings:
        if self.measured is not None and self.images != EMBEDDED:
            what = "data are measured, or simulated from images, not both"
            raise Unfit("measured", what, advice="delete images, or measured")
        if self.target is not None and self.measured is None:
            advice = "name the data as measured, or the images as images to simulate from"
            raise Unfit("target", "a target is what measured data are of", advice=advice)
        for key in ("mask", "missing"):
            if getattr(self, key) is not None and self.measured is None:
                what = "data that are simulated exist everywhere"
                advice = 'take name = "mask" in [operator], or name measured data'
                raise Unfit(key, what, advice=advice)
        if self.complex and self.measured is None and self.images == EMBEDDED:
            what = "the pictures in the package are real"
            raise Unfit("complex", what, advice="name a folder of complex arrays as images")
        if self.complex and not self.grey:
            what = "complex images have real and imaginary part, and no colours"
            raise Unfit("complex", what, advice="leave grey out")
        return self


def sought(sources: Sources, key: str, beside: Path, folder: str | None) -> list[Path]:
    """The files of ``data.key``, sought beside the configuration, then inside the data folder.

    Raises:
        InputError: there are none.
    """
    larger = data.find_data(folder)
    found: list[Path] = []
    for name in [sources] if isinstance(sources, str) else sources:
        named(f"data.{key}", name)
        found += _first(name, [beside / name] + ([] if larger is None else [larger / name]))
    return found


def _first(name: str, places: Sequence[Path]) -> list[Path]:
    """What lies in the first place that has something."""
    wrong: InputError | None = None
    for place in places:
        try:
            return data.places(place)
        except InputError as error:
            wrong = wrong or error
    advice = "give --data DIR or set BILEVEL_DATA to the folder that holds it"
    if len(places) > 1 or places[0].is_dir():
        advice = "name an existing file or folder, or a pattern that fits some"
    raise InputError(f"no image is found as '{name}' ({wrong})", advice=advice)

"""Measurements of a camera: their numbers become light before anything else sees them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel import data
from bilevel.cli.config import Configuration
from bilevel.cli.config.validation import Problem, validate
from bilevel.cli.images import about_file
from bilevel.cli.options import keys_of
from bilevel.cli.settings.differing import CameraSettings, CameraTable
from bilevel.data import ImageFile
from bilevel.ground.errors import InputError
from bilevel.report.words import plural

__all__ = ["Shot", "camera_of", "taken"]

ROUNDED = 1 + 1e-12
"""Numbers that were grey values for a while may lie an eps below what they were."""


@dataclass(frozen=True, eq=False)
class Shot:
    """A file in grey values, and what its camera says of them.

    ``saturated`` pixels, of unknown light, hold no data.
    """

    file: ImageFile
    camera: data.Camera | None
    saturated: int = 0

    @property
    def about(self) -> str | None:
        """What happened to the values that their user may not expect; None if nothing did."""
        if self.camera is None:
            return about_file(self.file)
        camera, storage = self.camera, self.file.storage
        noise = f"gain {camera.gain:g} and read noise {camera.read_noise:g}"
        words = f"{camera.offset:g} taken off, {noise}; results are in numbers above that offset"
        if self.saturated:
            words += f"; {plural(self.saturated, 'saturated pixel')}, of unknown light"
        return f"{self.file.path.name}: {'; '.join((*storage.notes, words))}"


def camera_of(
    option: str | None, configuration: Configuration, *, simulate: bool
) -> CameraSettings | None:
    """That of an option, else that of the configuration; none for data that are simulated.

    Raises:
        InputError: an option that is no camera, or one for data that are simulated.
    """
    if simulate:
        if option is not None:
            raise InputError("--camera is for measured data, and --simulate makes its own")
        return None
    if option is None:
        return configuration.camera
    problems: list[Problem] = []
    found = validate(CameraTable, keys_of(option, "--camera"), problems, ("camera",))
    if not isinstance(found, CameraSettings):
        raise InputError(problems[0].message)
    return found


def taken(file: ImageFile, settings: CameraSettings | None) -> Shot:
    """A file as the light that the camera saw, if there is one; results go back in its numbers."""
    if settings is None:
        return Shot(file, None)
    camera, unit = settings.build(file.storage.unit), file.storage.unit
    numbers = [page * unit for page in file.pages]
    marks = [camera.saturated(page * ROUNDED).any(1)[0] for page in numbers]
    seen = tuple(_without(known, mark) for known, mark in zip(file.seen, marks, strict=True))
    pages = tuple(
        light if known is None else torch.where(known, light, torch.zeros_like(light))
        for light, known in zip(map(camera.light, numbers), seen, strict=True)
    )
    storage = replace(file.storage, unit=camera.unit)
    saturated = sum(int(mark.sum()) for mark in marks)
    return Shot(replace(file, pages=pages, storage=storage, seen=seen), camera, saturated)


def _without(known: Tensor | None, saturated: Tensor) -> Tensor | None:
    """Which pixels hold data, (h, w) bool; None where all do."""
    if not bool(saturated.any()):
        return known
    return ~saturated if known is None else known & ~saturated

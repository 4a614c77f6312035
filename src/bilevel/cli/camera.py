"""Measurements of a camera: their numbers become light before anything else sees them."""

from __future__ import annotations

from dataclasses import dataclass, replace

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

    ``saturated`` marks pixels of unknown light, (1, c, h, w) bool a page; None without any.
    """

    file: ImageFile
    camera: data.Camera | None
    saturated: tuple[Tensor | None, ...]

    @property
    def about(self) -> str | None:
        """What happened to the values that their user may not expect; None if nothing did."""
        if self.camera is None:
            return about_file(self.file)
        camera, storage = self.camera, self.file.storage
        noise = f"gain {camera.gain:g} and read noise {camera.read_noise:g}"
        words = f"{camera.offset:g} taken off, {noise}; results are in numbers above that offset"
        count = sum(int(part.sum()) for part in self.saturated if part is not None)
        if count:
            words += f"; {plural(count, 'saturated pixel')}, of unknown light"
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
        return Shot(file, None, (None,) * len(file.pages))
    camera, unit = settings.build(file.storage.unit), file.storage.unit
    numbers = [page * unit for page in file.pages]
    marks = [camera.saturated(page * ROUNDED) for page in numbers]
    saturated = tuple(mark if bool(mark.any()) else None for mark in marks)
    pages = tuple(camera.light(page) for page in numbers)
    storage = replace(file.storage, unit=camera.unit)
    return Shot(replace(file, pages=pages, storage=storage), camera, saturated)

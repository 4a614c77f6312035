"""The table of a regulariser that was learned before."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path

from pydantic import Field

from bilevel.cli.settings.base import Unfit
from bilevel.cli.settings.kinds import RegulariserSettings
from bilevel.ground.errors import InputError
from bilevel.learn import load
from bilevel.model import Variational
from bilevel.model.operators import Shape
from bilevel.model.regularisers import ImageTerm
from bilevel.model.term import parts_of

__all__ = ["Learned"]

_KEPT = 2


class Learned(RegulariserSettings):
    """The regulariser of a fit, without its [ridge] and [box]: for other data, or to learn on."""

    fit: str = Field(description="folder that `bilevel learn` wrote")
    learn: bool = Field(
        default=False, description="learn on what was learned; otherwise all stays as it is"
    )

    def build(self, shape: Shape) -> ImageTerm:
        """A copy.

        Raises:
            Unfit: no fit, or one of an energy of its own.
        """
        del shape
        try:
            part = copy.deepcopy(_regulariser(self.fit, _changed(self.fit)))
        except InputError as error:
            raise Unfit("fit", str(error)) from error
        return part if self.learn else part.requires_grad_(False)

    def first_weight(self, contrast: float, degree: int) -> float:
        """1: what is chosen is a factor of its own weights."""
        del contrast, degree
        return 1.0


def _changed(folder: str) -> int:
    """When any of its files was written last."""
    files = Path(folder).glob("fit.*")
    return max((file.stat().st_mtime_ns for file in files), default=0)


@lru_cache(maxsize=_KEPT)
def _regulariser(folder: str, changed: int) -> ImageTerm:
    del changed
    fit = load(folder)
    if not isinstance(fit.energy, Variational) or not fit.configuration:
        advice = "use a folder that `bilevel learn` wrote"
        raise InputError(f"the fit in '{folder}' has an energy of its own", advice=advice)
    return parts_of(fit.energy.regulariser)[0]  # what [ridge] and [box] add comes after it

"""The [fidelity] and [loss] tables of squared distances whose entries have weights of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from bilevel.cli.settings.arrays import ARRAYS, array_in, black_and_white, shape_of
from bilevel.cli.settings.base import Unfit
from bilevel.cli.settings.kinds import FidelitySettings, LossSettings
from bilevel.data import Place
from bilevel.model.fidelities import DataTerm, SquaredL2
from bilevel.model.operators import Identity, Operator, Shape

__all__ = ["SquaredL2Settings", "WeightedErrorSettings"]

_DIMENSIONS = (2, 3)


class SquaredL2Settings(FidelitySettings):
    """The weights come from a file, as they are or as variances of the noise."""

    set_apart = ("weights",)
    weights: str | None = Field(
        default=None,
        description="file of an array (h, w) or (c, h, w): the weight of every datum, 0 where it "
        "does not count",
    )
    variance: str | None = Field(
        default=None,
        description="file of an array (h, w) or (c, h, w): the variance of the noise of every "
        "datum [grey value squared], in place of weights; inf where there is none",
    )

    @property
    def data_taken(self) -> tuple[int, ...] | None:
        """The shape of the file."""
        if self._file is None:
            return None
        shape = shape_of(*self._file)
        if len(shape) not in _DIMENSIONS:
            key, file = self._file
            array_in(key, file, "fiub", _DIMENSIONS)
        return shape

    def fits(self, data_shape: Shape) -> None:
        """Raise Unfit for data of another size than the file."""
        taken = self.data_taken
        if taken is not None and data_shape[-len(taken) :] != taken and self._file is not None:
            what = f"every datum needs a weight, and {Path(self._file[1]).name} holds"
            raise Unfit(self._file[0], f"{what} {_size(taken)}", given=_size(data_shape))

    @property
    def _file(self) -> tuple[str, str] | None:
        """The key and the file."""
        for key in ("weights", "variance"):
            if (file := getattr(self, key)) is not None:
                return key, file
        return None

    def build(self, operator: Operator, unit: float = 1.0) -> DataTerm:
        """The fidelity with that operator, of data divided by ``unit``, variances too."""
        return self.make(operator=operator, weights=self._values(unit))

    def trial(self) -> None:
        """With the identity, and one file at most."""
        if self.weights is not None and self.variance is not None:
            what = "weights of the data are given as they are, or by variances"
            raise Unfit("variance", what, advice="leave one of them out")
        self.build(Identity())

    def _values(self, unit: float) -> Tensor | None:
        """The weights of the data, divided by ``unit``; None if all are 1."""
        if self._file is None:
            return None
        array = array_in(*self._file, "fiub", _DIMENSIONS).astype(np.float64)
        values = torch.from_numpy(array)
        return values if self.variance is None else SquaredL2.of_variance(values / unit**2).weights


class WeightedErrorSettings(LossSettings):
    """The weights come from a file: an array, or a picture in black and white."""

    set_apart = ("factor", "plus", "weights")
    weights: str = Field(
        description="file of an array (h, w) or (c, h, w): the weight of every pixel; or a black "
        "and white picture: what is white is judged"
    )

    def make(self, **given: object) -> Any:
        """With the weights of the file."""
        if Place.of(self.weights).suffix not in ARRAYS:
            return super().make(weights=black_and_white("weights", self.weights), **given)
        array = array_in("weights", self.weights, "fiub", _DIMENSIONS)
        return super().make(weights=torch.from_numpy(array), **given)


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))

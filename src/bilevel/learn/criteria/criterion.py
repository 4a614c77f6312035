"""What learning without ground truth minimises: a loss of A x against data, row by row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.given import Typed
from bilevel.model import Variational
from bilevel.model.losses import Scale

__all__ = ["Criterion", "DataLoss", "Prepared", "Quadratic"]


class DataLoss(ABC):
    """ℓ_k(A x_k), one function for each row of the data."""

    @abstractmethod
    def value(self, v: Tensor) -> Tensor:
        """ℓ_k(v_k): (b, c', h', w') -> (b,)."""

    @abstractmethod
    def grad(self, v: Tensor) -> Tensor:
        """∇ℓ_k(v_k)."""

    @abstractmethod
    def lipschitz(self, v: Tensor, radius: Tensor) -> Tensor:
        """Proved Lipschitz constants of ∇ℓ within ``radius`` (b,) of ``v``: (b,) float64."""

    @abstractmethod
    def rows(self, index: Tensor) -> DataLoss:
        """Those of the rows ``index``."""

    @abstractmethod
    def double(self) -> DataLoss:
        """The same in float64."""


@dataclass(frozen=True)
class Quadratic(DataLoss):
    """Σ_i a_i (v_i - d_i)² + g_i v_i + constant, ``curvature`` a >= 0, ``centre`` d, ``pull`` g.

    Shapes (b, c', h', w') or (b, 1, 1, 1); ``constant`` (b,).
    """

    curvature: Tensor
    centre: Tensor
    pull: Tensor
    constant: Tensor

    def value(self, v: Tensor) -> Tensor:
        """Of each row."""
        terms = self.curvature * (v - self.centre).square() + self.pull * v
        return terms.flatten(1).sum(1) + self.constant

    def grad(self, v: Tensor) -> Tensor:
        """2 a (v - d) + g."""
        return 2 * self.curvature * (v - self.centre) + self.pull

    def lipschitz(self, v: Tensor, radius: Tensor) -> Tensor:
        """2 max a, exactly and everywhere."""
        del v, radius
        return 2 * self.curvature.double().flatten(1).amax(1)

    def rows(self, index: Tensor) -> Quadratic:
        """Those of the rows ``index``."""
        parts = (self.curvature, self.centre, self.pull, self.constant)
        return Quadratic(*rows.take(parts, index))

    def double(self) -> Quadratic:
        """The same in float64."""
        parts = (self.curvature, self.centre, self.pull, self.constant)
        return Quadratic(*(part.double() for part in parts))


@dataclass(frozen=True)
class Prepared:
    """What a criterion makes of data: the rows to be reconstructed and the loss of each.

    The mean of the losses over all rows is the mean of the criterion over the images given.
    """

    energy: Variational
    y: Tensor
    loss: DataLoss
    names: tuple[str, ...]
    """Of the copies of the images, which follow each other in ``y``."""


class Criterion(Scale, Typed, ABC):
    """A frozen dataclass that needs no ground truth."""

    @abstractmethod
    def prepare(self, energy: Variational, y: Tensor) -> Prepared:
        """Rows and losses for the data y (K, c', h', w').

        Raises:
            InputError: the criterion does not apply to such data.
        """

    def reached(self, value: float) -> bool:
        """Whether learning should go no further."""
        del value
        return False

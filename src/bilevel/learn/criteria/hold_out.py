"""Data that are kept from the reconstruction judge it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bilevel.learn.criteria.criterion import Criterion, Prepared, Quadratic
from bilevel.model import Variational
from bilevel.risk.held import check_part, held_out, left

__all__ = ["HoldOut"]


@dataclass(frozen=True)
class HoldOut(Criterion):
    """Mean of (A x - y)² over a random part of the data, x reconstructed from the rest.

    Where the noise of different data is independent and has mean zero, its expectation is the mean
    squared error of A x there plus the variance of the noise, neither of which need be known
    (cross-validation; Noise2Self, Batson and Royer 2019). The same data are held out of all images.
    Reconstructions with the learned θ use all data; with a ``part`` as small as usual, their best
    θ is nearly the same.

    The energy of the problem is a copy that does not see the data held out, that of the fit is the
    one given.

    Args:
        part: of the data that are held out, 0 < part < 1.
        seed: which.

    Raises:
        InputError: a part outside of (0, 1), or one that leaves nothing on either side.

    Example:
        >>> HoldOut(0.05).seed
        0
    """

    part: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the part."""
        check_part(self.part)

    def prepare(self, energy: Variational, y: Tensor) -> Prepared:
        """The data that are left, and an energy that sees these alone."""
        held = held_out(energy, y, self.part, self.seed)
        weight = held.to(y) / held.sum().to(y)
        zero = y.new_zeros(1, 1, 1, 1).expand(len(y), 1, 1, 1)
        loss = Quadratic(weight.expand(len(y), -1, -1, -1), y, zero, y.new_zeros(len(y)))
        return Prepared(left(energy, y, held), (~held).to(y) * y, loss, ("",))

"""What the tables of operators have in common: what data are simulated with, what is assumed."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar, cast

from torch import Tensor

from bilevel.cli.settings.base import Unfit
from bilevel.cli.settings.kinds import FidelitySettings, Table
from bilevel.data import Pairs
from bilevel.model.fidelities import DataTerm, Fidelity, Masked
from bilevel.model.operators import Mask, Operator, Shape

__all__ = ["OperatorSettings", "of_operator"]


@contextmanager
def of_operator() -> Generator[None]:
    """What does not fit inside is a key of [operator]."""
    try:
        yield
    except Unfit as error:
        raise Unfit(f"operator.{error.key}", str(error)) from error


class OperatorSettings(Table):
    """A forward operator for images of any size; masks are drawn for the size at hand.

    Data are simulated with what :meth:`build` gives; reconstructions begin with what is
    :meth:`assumed`, which may be learned, or come from the data (:meth:`shown_by`).
    """

    decisive: ClassVar[str] = "name"
    """The key to change when the operator does not fit an image."""
    for_complex: ClassVar[bool | None] = None
    """Whether images must be complex, or must not be; None where both will do."""

    def build(self, shape: Shape) -> Operator:
        """The operator for images (c, h, w)."""
        del shape
        return self.make()

    def assumed(self, shape: Shape) -> Operator:
        """What is known of it at first, with its learnable parameters; all unless overridden."""
        return self.build(shape)

    @property
    def of_samples(self) -> bool:
        """Whether each sample has an operator of its own, which goes by its name."""
        return False

    def shared(self) -> OperatorSettings:
        """The same without what every sample has of its own."""
        return self

    def check_measured(self) -> None:
        """Raise Unfit if measured data cannot be compared with targets."""

    def shown_by(self, y: Tensor, operator: Operator, ids: Sequence[str]) -> Operator:
        """``operator`` with what the data y, or their names, show of it; as it is by default."""
        del y, ids
        return operator

    def accompanied(
        self, fidelity: DataTerm, pairs: Pairs, seen: Tensor | None
    ) -> tuple[DataTerm, Pairs]:
        """Fidelity and pairs to learn from, where samples bring along what they do not share.

        Args:
            fidelity: of what they share.
            pairs: data and targets.
            seen: which data exist, (h', w') for all samples or (k, h', w'); all if None.
        """
        if seen is None or seen.ndim == 2:
            return fidelity, pairs
        masked = Masked(cast(Fidelity, fidelity))  # it refuses any other
        return masked, replace(pairs, y=Masked.data(pairs.y, seen[:, None]))

    def sampled(self, y: Tensor) -> Tensor | None:
        """Which data (h', w') were taken, where measured ones tell by themselves; None if all.

        Raises:
            InputError: data that cannot be those of this operator.
        """
        del y

    def unit(self, data_shape: Shape) -> float:
        """The number in data (c', h', w') as they are given that is 1 in those of the operator."""
        del data_shape
        return 1.0

    def seeing(self, shape: Shape, seen: Tensor) -> Operator:
        """What is assumed for images (c, h, w) of whose data only those ``seen`` (h', w') exist."""
        return Mask(seen) @ self.assumed(shape)

    def aligned(self, pairs: Pairs, operator: Operator) -> Pairs:
        """Pairs simulated with ``operator``, in the terms of what its data show of it."""
        del operator
        return pairs

    def fidelity(self, chosen: FidelitySettings, operator: Operator, shape: Shape) -> DataTerm:
        """The fidelity of the configuration with that operator."""
        data_shape = operator.data_shape(shape)
        chosen.fits(data_shape)
        return chosen.build(operator, self.unit(data_shape))

    @property
    def left_open(self) -> str | None:
        """The key by which the operator is learned or estimated; None where it is known."""
        return None

    @property
    def varying(self) -> Collection[str]:
        """Options of the operator that are not those of :meth:`assumed` after learning."""
        return ()

    @property
    def binarises(self) -> bool:
        """Whether a learned mask becomes one of 0 and 1, and the rest is learned anew."""
        return False

    @property
    def size_taken(self) -> tuple[int, int] | None:
        """The one size (h, w) of images that it takes [pixel]; None if it takes many."""
        return None

    @property
    def smallest(self) -> int:
        """Side of the smallest image that it takes [pixel]."""
        return 1

    @property
    def multiples(self) -> tuple[int, int]:
        """What height and width of an image must be multiples of [pixel]."""
        return 1, 1

    @property
    def remark(self) -> str | None:
        """What to know of it before it is used; None if there is nothing."""
        return None

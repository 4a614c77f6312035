"""Operators side by side, added and scaled; one after the other is ``Composition``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from bilevel.ground.errors import InputError
from bilevel.model.operators.operator import Interval, Operator, Shape, check_operator
from bilevel.model.part import accounted_under

__all__ = ["Added", "Scaled", "Stacked", "side_by_side"]

_SLACK = 1 + 1e-12


class _Several(Operator):
    """Operators on the same images."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        super().__init__()
        if not operators:
            raise InputError("at least one operator is needed", given=0)
        self.operators = nn.ModuleList([check_operator(one) for one in operators])

    def __iter__(self) -> Iterator[Operator]:
        """One after the other."""
        return iter(cast(Sequence[Operator], self.operators))

    @property
    def roundings(self) -> float:
        """The most of all, and one for each sum."""
        return max(one.roundings for one in self) + len(self.operators) - 1

    def sensitivity(self, image_shape: Shape) -> float:
        """The sum of all: by the triangle inequality, as all may move at once."""
        return sum(one.sensitivity(image_shape) for one in self) * _SLACK

    def accounted(self) -> frozenset[str]:
        """What all have."""
        known = (accounted_under(f"operators.{k}", one) for k, one in enumerate(self))
        return frozenset[str]().union(*known)

    def image_shape(self, data_shape: Shape) -> Shape:
        """That of the first; see the class."""
        return next(iter(self)).image_shape(data_shape)

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        return {"operators": list(self)}


class Stacked(_Several):
    """Several measurements of one image.

    A x = (A_1 x, A_2 x, ...): channels after channels where all data have the same sides, else
    one line (1, 1, m) of all entries.

    Args:
        operators: the A_j, on the same images.
        image_shape: (c, h, w) of the images.

    Raises:
        InputError: none, something that is no operator, or one that does not take these images.

    Example:
        >>> from bilevel.model.operators import Downsampling, Identity
        >>> both = Stacked([Identity(), Downsampling(2)], (1, 4, 4))
        >>> both(torch.ones(1, 1, 4, 4)).shape
        torch.Size([1, 1, 1, 20])
    """

    def __init__(self, operators: Sequence[Operator], image_shape: Shape) -> None:
        super().__init__(operators)
        self._image_shape = image_shape
        self._shapes = [one.data_shape(image_shape) for one in self]
        self._side_by_side = len({shape[1:] for shape in self._shapes}) == 1

    def forward(self, x: Tensor) -> Tensor:
        """A x: (b, c, h, w) -> (b, c', h', w')."""
        self.data_shape((x.shape[1], x.shape[2], x.shape[3]))
        return side_by_side([one.forward(x) for one in self])

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y = Σ_j A_jᵀ y_j."""
        self.check_data(y)
        if self._side_by_side:
            parts = list(torch.split(y, [shape[0] for shape in self._shapes], 1))
        else:
            lines = torch.split(y.flatten(1), [prod(shape) for shape in self._shapes], 1)
            parts = [p.reshape(-1, *s) for p, s in zip(lines, self._shapes, strict=True)]
        found = [one.adjoint(part) for one, part in zip(self, parts, strict=True)]
        return torch.stack(found).sum(0)

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """Sums of the bounds: AᵀA = Σ A_jᵀA_j."""
        self.data_shape(image_shape)
        bounds = [one.gram_bounds(image_shape) for one in self]
        lower, upper = sum(b.lower for b in bounds), sum(b.upper for b in bounds)
        return Interval(lower / _SLACK, upper * _SLACK)

    def gram_spectrum(self, image_shape: Shape) -> Tensor | None:
        """The sum, if all are diagonal."""
        return _sum([one.gram_spectrum(image_shape) for one in self])

    def image_shape(self, data_shape: Shape) -> Shape:
        """The one given at construction."""
        del data_shape
        return self._image_shape

    def data_shape(self, image_shape: Shape) -> Shape:
        """Of all; raises InputError for images of another shape than at construction."""
        if tuple(image_shape) != tuple(self._image_shape):
            what = f"these operators act on images (c, h, w) = {self._image_shape}"
            raise InputError(what, given=tuple(image_shape))
        if self._side_by_side:
            _, h, w = self._shapes[0]
            return (sum(shape[0] for shape in self._shapes), h, w)
        return (1, 1, sum(map(prod, self._shapes)))

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        return {**super().options(), "image_shape": self._image_shape}


class Added(_Several):
    """The sum of operators, also written ``a + b``.

    A x = A_1 x + A_2 x + ...

    Raises:
        InputError: none, or something that is no operator.

    Example:
        >>> from bilevel.model.operators import Identity
        >>> (Identity() + Identity())(torch.ones(1, 1, 1, 1))
        tensor([[[[2.]]]])
    """

    def forward(self, x: Tensor) -> Tensor:
        """A x: (b, c, h, w) -> (b, c', h', w')."""
        self.data_shape((x.shape[1], x.shape[2], x.shape[3]))
        return torch.stack([one.forward(x) for one in self]).sum(0)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y = Σ_j A_jᵀ y."""
        self.check_data(y)
        return torch.stack([one.adjoint(y) for one in self]).sum(0)

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """From 0 to the square of the sum of norms: proved, not sharp."""
        norms = sum(one.gram_bounds(image_shape).upper ** 0.5 for one in self)
        return Interval(0.0, norms**2 * _SLACK)

    def data_shape(self, image_shape: Shape) -> Shape:
        """That of each; raises InputError if they differ."""
        shapes = [one.data_shape(image_shape) for one in self]
        if len(set(shapes)) > 1:
            given = " and ".join(map(str, dict.fromkeys(shapes)))
            raise InputError("operators that are added must give data of one shape", given=given)
        return shapes[0]


class Scaled(Operator):
    """An operator times a number, also written ``2.0 * a``.

    A x = factor · B x.

    Args:
        operator: B.
        factor: any finite number but 0.

    Raises:
        InputError: something that is no operator, or a factor that is 0 or not finite.

    Example:
        >>> from bilevel.model.operators import Identity
        >>> (-2.0 * Identity())(torch.ones(1, 1, 1, 1))
        tensor([[[[-2.]]]])
    """

    def __init__(self, operator: Operator, factor: float) -> None:
        super().__init__()
        self.operator, self.factor = check_operator(operator), float(factor)
        if not 0 < abs(self.factor) < float("inf"):
            raise InputError("the factor of an operator must be finite and not 0", given=factor)

    def forward(self, x: Tensor) -> Tensor:
        """A x: (b, c, h, w) -> (b, c', h', w')."""
        return self.factor * self.operator.forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y."""
        return self.factor * self.operator.adjoint(y)

    @property
    def roundings(self) -> float:
        """One more."""
        return self.operator.roundings + 1

    def accounted(self) -> frozenset[str]:
        """What B has."""
        return accounted_under("operator", self.operator)

    def window(self, image_shape: Shape) -> tuple[slice, slice]:
        """That of B."""
        return self.operator.window(image_shape)

    def sensitivity(self, image_shape: Shape) -> float:
        """|factor| times."""
        return abs(self.factor) * self.operator.sensitivity(image_shape) * _SLACK

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """factor² times."""
        bounds, square = self.operator.gram_bounds(image_shape), self.factor**2
        return Interval(square * bounds.lower / _SLACK, square * bounds.upper * _SLACK)

    def gram_spectrum(self, image_shape: Shape) -> Tensor | None:
        """factor² times, where there is one."""
        spectrum = self.operator.gram_spectrum(image_shape)
        return None if spectrum is None else self.factor**2 * spectrum

    def image_shape(self, data_shape: Shape) -> Shape:
        """That of B."""
        return self.operator.image_shape(data_shape)

    def data_shape(self, image_shape: Shape) -> Shape:
        """That of B."""
        return self.operator.data_shape(image_shape)

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        return {"operator": self.operator, "factor": self.factor}


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Channels after channels if all have the same sides, else one line (b, 1, 1, m) of all.

    Example:
        >>> side_by_side([torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 3)]).shape
        torch.Size([1, 1, 1, 7])
    """
    if len({part.shape[2:] for part in parts}) == 1:
        return torch.cat(list(parts), 1)
    return torch.cat([part.flatten(1) for part in parts], 1)[:, None, None]


def _sum(spectra: Sequence[Tensor | None]) -> Tensor | None:
    found = [s for s in spectra if s is not None]
    return torch.stack(found).sum(0) if len(found) == len(spectra) else None

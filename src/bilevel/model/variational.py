"""The energy of most users: fidelity plus regulariser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce
from operator import add

import torch
from torch import Tensor

from bilevel.ground.checks import check_kind
from bilevel.ground.contrast import contrast
from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Reach, Smoothness, Variation
from bilevel.model.channels import on_channels
from bilevel.model.energy import Energy
from bilevel.model.fidelities.fidelity import DataTerm
from bilevel.model.operators.operator import Shape
from bilevel.model.part import Part, Units, accounted_under
from bilevel.model.preconditioner import Preconditioner
from bilevel.model.regularisers.regulariser import ImageTerm
from bilevel.model.smooth import Smooth, SmoothSum
from bilevel.model.split import Split
from bilevel.model.term import Function, Term, named_parts, parts_of

__all__ = ["Variational"]


class Variational(Energy):
    """J_θ(x; y) = Ψ_θ2(A x; y) + R_θ1(x).

    Example:
        >>> from bilevel.model.fidelities import SquaredL2
        >>> from bilevel.model.regularisers import TotalVariation
        >>> energy = Variational(SquaredL2(), TotalVariation(weight=0.05, smoothing=0.01))
        >>> [name for name, _ in energy.named_parameters()]
        ['fidelity.log_weight', 'regulariser.log_weight', 'regulariser.log_smoothing']
    """

    def __init__(self, fidelity: DataTerm, regulariser: ImageTerm) -> None:
        """The two terms; add fidelities to one another, and regularisers, with ``+``.

        Raises:
            InputError: anything else in the place of either.
        """
        super().__init__()
        _check_term(fidelity, DataTerm, "fidelity", "fidelities")
        _check_term(regulariser, ImageTerm, "regulariser", "regularisers")
        self.fidelity, self.regulariser = fidelity, regulariser

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum of both terms: (b, c, h, w), (b, c', h', w') -> (b,)."""
        return self.split(y).value(x)

    @property
    def further(self) -> int:
        """Channels of the state for each channel of the image, beyond the image."""
        return sum(part.further for part in parts_of(self.regulariser))

    def image(self, x: Tensor) -> Tensor:
        """The first channels."""
        return x if self.further == 0 else x[:, : x.shape[1] // (1 + self.further)]

    def split(self, y: Tensor) -> Split:
        """Its terms by what they can do."""
        return self.split_by(y, lambda _, part: part.at(y))

    def split_by(self, y: Tensor, at: Callable[[str, Term], tuple[Function, ...]]) -> Split:
        """The same, where ``at`` tells what functions a term with that name is at y."""
        c, _, _ = self._image_shape(y)
        count = c * (1 + self.further)
        placed = self._placed(c)
        functions = [on_channels(f, own, count) for n, part, own in placed for f in at(n, part)]
        return Split.of(functions, y.dtype, *self.ends(y))

    def _placed(self, c: int) -> Iterator[tuple[str, Term, tuple[int, ...]]]:
        """All terms by name, with the channels of the state that each sees: the image first."""
        image, end = tuple(range(c)), c
        for name, term in named_parts("fidelity", self.fidelity):
            yield name, term, image
        for name, part in named_parts("regulariser", self.regulariser):
            yield name, part, (*image, *range(end, end + c * part.further))
            end += c * part.further

    def ends(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Between which the pixels of some minimiser lie, (b,) each: no term grows beyond."""
        with torch.no_grad():
            flat = y.flatten(1)
            ends = self.fidelity.widened(y, flat.amin(1), flat.amax(1))
            return self.regulariser.widened(y, *ends)

    def _smooth(self, y: Tensor) -> Smooth:
        split = self.split(y)
        if split.proximable is not None or split.dual:
            advice = "take energy.at(y), whose type tells what it has, or smooth terms"
            raise InputError("this energy is not smooth and has no derivatives", advice=advice)
        return split.smooth

    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        """Closed form."""
        return self._smooth(y).grad(x)

    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        """Closed form."""
        return self._smooth(y).hessian(x)

    def preconditioner(self, x: Tensor, y: Tensor) -> Preconditioner | None:
        """From the stencils of all terms."""
        return self._smooth(y).preconditioner(x)

    def bounds(self, y: Tensor) -> Bounds:
        """Of the smooth terms."""
        c, h, w = self._image_shape(y)
        return self.split(y).smooth.bounds((c * (1 + self.further), h, w))

    def image_bounds(self, y: Tensor) -> Bounds:
        """mu of the terms that see the image alone, where those of further channels are convex."""
        c, h, w = self._image_shape(y)
        alone: list[Smooth] = []
        others = [Bounds.of(0.0, 0.0)]
        for _, part, own in self._placed(c):
            smooth = [f for f in part.at(y) if isinstance(f, Smooth)]
            if len(own) == c:
                alone += smooth
            else:
                others += [f.bounds((len(own), h, w)) for f in smooth]
        found = SmoothSum(tuple(alone)).bounds((c, h, w))
        if not all(bool((other.mu >= 0).all()) for other in others):
            return Bounds.unknown()
        rest = reduce(add, others)
        return replace(found + rest, mu=found.mu)

    def reach(self, x: Tensor, y: Tensor, slope: Tensor) -> Reach:
        """Of all regularisers with further channels, each of its own."""
        c, _, _ = self._image_shape(y)
        total = Reach.nowhere(x)
        for _, part, own in self._placed(c):
            if isinstance(part, ImageTerm) and len(own) > c:
                total = total + part.reach(x[:, own], slope[:, own[c:]])
        return total

    def accounted(self) -> frozenset[str]:
        """What both terms account for."""
        fidelity = accounted_under("fidelity", self.fidelity)
        return fidelity | accounted_under("regulariser", self.regulariser)

    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """Sum of the variations."""
        return self._smooth(y).variation(x, q, radius)

    def smoothness(self, x: Tensor, y: Tensor, radius: Tensor) -> Smoothness:
        """Of all terms."""
        return self._smooth(y).smoothness(x, radius)

    def settle(self, y: Tensor, contrast: float | None = None) -> None:
        """As for any energy.

        Example:
            >>> from bilevel.model.fidelities import SquaredL2
            >>> from bilevel.model.regularisers import TotalVariation
            >>> energy = Variational(SquaredL2(), TotalVariation())
            >>> energy.settle(torch.linspace(0.0, 255.0, 256).view(1, 1, 16, 16))
            >>> round(energy.regulariser.smoothing.item(), 2)
            2.53
        """
        left = [part for part in self.modules() if isinstance(part, Part) and part.left]
        if not left:
            return
        grey = self.contrast(y) if contrast is None else contrast
        for part in left:
            part.take_units(Units(grey, grey**self.fidelity.degree))

    def stiffness(self, contrast: float) -> float:
        """That of the fidelity: 1 for squared distances, 1/contrast for absolute ones."""
        return contrast ** (self.fidelity.degree - 2)

    def contrast(self, y: Tensor) -> float:
        """That of the images behind ``y`` [grey value], from the start that explains them best.

        Raises:
            InputError: ``y`` cannot be data of this energy.
        """
        self.check(y)
        with torch.no_grad():
            x = self.fidelity.start(y)
            seen, data = (part.double().flatten() for part in self.fidelity.compared(x, y))
            size, along = float(seen @ seen), float(seen @ data)
        return contrast(x) * (along / size if along > 0 else 1.0)

    def start(self, y: Tensor) -> Tensor:
        """The fidelity's start, and zero in further channels."""
        x = self.fidelity.start(y)
        return x if self.further == 0 else torch.cat([x, *[torch.zeros_like(x)] * self.further], 1)

    def check(self, y: Tensor) -> None:
        """Data must fit the operator, images the regulariser."""
        super().check(y)
        self.fidelity.check(y)
        self.regulariser.check(self._image_shape(y))

    def _image_shape(self, y: Tensor) -> Shape:
        return self.fidelity.operator.image_shape((y.shape[1], y.shape[2], y.shape[3]))


def _check_term(term: object, kind: type, name: str, family: str) -> None:
    advice = f"take one of bilevel.{family}, or derive a class from bilevel.extend"
    check_kind(term, kind, f"the {name} of a Variational energy", advice)

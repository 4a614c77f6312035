"""A smooth term: a function of x at fixed data and parameters, and sums of such functions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.operators.operator import Shape
from bilevel.model.preconditioner import Preconditioner, Stencil, joined

__all__ = ["Pull", "RowScaled", "Smooth", "SmoothSum", "Summand"]

Summand = tuple[Callable[..., Tensor], tuple[object, ...]]
"""A pure function of (x, *arguments) and its arguments: no state, no operator, no tape."""


class Smooth(ABC):
    """x -> T(x), one value a row; derivatives in x are closed, those in θ and y by autograd."""

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """T(x): (b, c, h, w) -> (b,)."""

    @abstractmethod
    def grad(self, x: Tensor) -> Tensor:
        """∇T(x), the shape of x."""

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both; override where they share work."""
        return self.value(x), self.grad(x)

    def summands(self) -> tuple[Summand, ...] | None:
        """∇T as pure functions of x; None unless overridden."""
        return None

    @abstractmethod
    def hessian(self, x: Tensor) -> LinearMap:
        """∇²T(x), linearised once."""

    def majoriser(self, x: Tensor) -> LinearMap | None:
        """M >= 0 with T(x + d) <= T(x) + ⟨∇T(x), d⟩ + ½⟨d, M d⟩ for every d; None: not known."""
        del x

    def stencils(self, x: Tensor) -> list[Stencil] | None:
        """What makes up a majoriser at x, for preconditioning; None where that does not pay."""
        del x

    def preconditioner(self, x: Tensor) -> Preconditioner | None:
        """Approximately the inverse of ∇²T(x), from the stencils; None without."""
        parts = self.stencils(x)
        return None if not parts else Preconditioner.of(parts, x)

    @abstractmethod
    def bounds(self, shape: Shape) -> Bounds:
        """Bounds of ∇²T over all x of that shape (c, h, w): of all rows, or of each."""

    def spectrum(self, shape: Shape) -> Tensor | None:
        """Eigenvalues of a constant ∇²T in the 2-D DFT basis, (h, w) or (b, h, w); or None."""
        del shape

    @abstractmethod
    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """As in :class:`~bilevel.model.bounds.Variation`."""

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """As in :class:`~bilevel.model.bounds.Smoothness`; unknown unless overridden."""
        del radius
        return Smoothness.unknown(x)

    @abstractmethod
    def magnitude(self, shape: Shape) -> Magnitude:
        """Size of the terms whose sum is ∇T; () or (b,)."""

    def scaled(self, factor: Tensor) -> Smooth:
        """``factor`` (b,) > 0 times the term, row by row."""
        return RowScaled(self, factor)

    @abstractmethod
    def rows(self, index: Tensor) -> Smooth:
        """The functions of the rows ``index`` alone."""


class Pull(Smooth):
    """A term without parameters that is added to an objective, not to its energy."""

    @abstractmethod
    def rounding(self, x: Tensor) -> Tensor:
        """An allowance for the rounding error of ‖∇T(x)‖, (b,) float64."""

    @abstractmethod
    def rows(self, index: Tensor) -> Pull:
        """The functions of the rows ``index`` alone."""

    @abstractmethod
    def double(self) -> Pull:
        """The same in float64."""

    def magnitude(self, shape: Shape) -> Magnitude:
        """Not bounded for all x: see :meth:`rounding`."""
        del shape
        inf = torch.tensor(torch.inf, dtype=torch.float64)
        return Magnitude(inf, inf)


@dataclass(frozen=True)
class SmoothSum(Smooth):
    """T_1 + T_2 + ..., zero without terms: the one place where smooth terms are added."""

    terms: tuple[Smooth, ...]

    def value(self, x: Tensor) -> Tensor:
        """Sum of the values."""
        return _total([t.value(x) for t in self.terms]) if self.terms else x.new_zeros(len(x))

    def grad(self, x: Tensor) -> Tensor:
        """Sum of the gradients."""
        return _total([t.grad(x) for t in self.terms]) if self.terms else torch.zeros_like(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of both, each term computing its features once."""
        if not self.terms:
            return x.new_zeros(len(x)), torch.zeros_like(x)
        values, slopes = zip(*[t.value_and_grad(x) for t in self.terms], strict=True)
        return _total(values), _total(slopes)

    def summands(self) -> tuple[Summand, ...] | None:
        """Of all terms, where every term has some."""
        found = [t.summands() for t in self.terms]
        known = [part for part in found if part is not None]
        return sum(known, ()) if len(known) == len(found) else None

    def hessian(self, x: Tensor) -> LinearMap:
        """Sum of the linearised Hessians."""
        maps = [t.hessian(x) for t in self.terms]
        return LinearMap.sum(maps) if maps else LinearMap.shared(torch.zeros_like)

    def majoriser(self, x: Tensor) -> LinearMap | None:
        """Sum of the majorisers, where every term has one."""
        maps = [m for m in (t.majoriser(x) for t in self.terms) if m is not None]
        return LinearMap.sum(maps) if 0 < len(maps) == len(self.terms) else None

    def stencils(self, x: Tensor) -> list[Stencil] | None:
        """Those of all terms, where every term has some."""
        return joined([t.stencils(x) for t in self.terms])

    def preconditioner(self, x: Tensor) -> Preconditioner | None:
        """That of the only term, which may have its own; of several, from their stencils."""
        return (
            self.terms[0].preconditioner(x) if len(self.terms) == 1 else super().preconditioner(x)
        )

    def bounds(self, shape: Shape) -> Bounds:
        """Sum of the bounds; what is diagonal in the Fourier basis is added there first."""
        found = [(t.bounds(shape), t.spectrum(shape)) for t in self.terms]
        total = reduce(add, (b for b, _ in found), Bounds.of(0.0, 0.0))
        spectra = [s for _, s in found if s is not None]
        if len(spectra) < 2:
            return total
        joint = reduce(add, spectra).flatten(-2)
        mu = joint.amin(-1) - 1e-12 * joint.abs().amax(-1)
        rest = [b.mu for b, spectrum in found if spectrum is None]
        return replace(total, mu=torch.maximum(total.mu, reduce(add, rest, mu)))

    def spectrum(self, shape: Shape) -> Tensor | None:
        """Sum of the spectra, where every term has one."""
        found = [s for s in (t.spectrum(shape) for t in self.terms) if s is not None]
        return reduce(add, found) if 0 < len(found) == len(self.terms) else None

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """Sum of the variations."""
        return reduce(add, (t.variation(x, q, radius) for t in self.terms), Variation.zero(x))

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """Of all terms."""
        return reduce(add, (t.smoothness(x, radius) for t in self.terms), Smoothness.quadratic(x))

    def magnitude(self, shape: Shape) -> Magnitude:
        """Sum of the magnitudes."""
        zero = torch.zeros((), dtype=torch.float64)
        return reduce(add, (t.magnitude(shape) for t in self.terms), Magnitude(zero, zero))

    def rows(self, index: Tensor) -> SmoothSum:
        """The same rows of every term."""
        return SmoothSum(tuple(t.rows(index) for t in self.terms))


@dataclass(frozen=True)
class RowScaled(Smooth):
    """w_k T(x_k) in row k, ``weight`` w > 0 (b,) float64."""

    term: Smooth
    weight: Tensor

    def value(self, x: Tensor) -> Tensor:
        """w T."""
        return self.weight.to(x) * self.term.value(x)

    def grad(self, x: Tensor) -> Tensor:
        """w ∇T."""
        return self._wide(x) * self.term.grad(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both."""
        value, slope = self.term.value_and_grad(x)
        return self.weight.to(x) * value, self._wide(x) * slope

    def hessian(self, x: Tensor) -> LinearMap:
        """w ∇²T."""
        return self.term.hessian(x).times(self._wide(x))

    def majoriser(self, x: Tensor) -> LinearMap | None:
        """w times the term's."""
        found = self.term.majoriser(x)
        return None if found is None else found.times(self._wide(x))

    def stencils(self, x: Tensor) -> list[Stencil] | None:
        """w times the term's."""
        found = self.term.stencils(x)
        return None if found is None else [part.times(self._wide(x).detach()) for part in found]

    def bounds(self, shape: Shape) -> Bounds:
        """w times the term's, row by row."""
        own, weight = self.term.bounds(shape), self.weight.detach()
        return replace(own, mu=weight * own.mu, lipschitz=weight * own.lipschitz)

    def spectrum(self, shape: Shape) -> Tensor | None:
        """w times the term's, (b, h, w)."""
        own = self.term.spectrum(shape)
        return None if own is None else rows.expand(self.weight.detach(), own[None]) * own

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """w times the term's; what w does itself is not accounted for."""
        own, weight = self.term.variation(x, q, radius), self.weight.detach()
        return Variation(weight * own.hessian, weight * own.cross, weight * own.cross_norm)

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """w times the term's."""
        own = self.term.smoothness(x, radius)
        return replace(own, lipschitz=self.weight.detach() * own.lipschitz)

    def magnitude(self, shape: Shape) -> Magnitude:
        """w times the term's."""
        own, weight = self.term.magnitude(shape), self.weight.detach()
        return Magnitude(weight * own.slope, weight * own.offset)

    def rows(self, index: Tensor) -> RowScaled:
        """Those rows with their weights."""
        return RowScaled(self.term.rows(index), self.weight[index])

    def _wide(self, x: Tensor) -> Tensor:
        return rows.expand(self.weight.to(x), x)


def _total(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else reduce(add, parts)

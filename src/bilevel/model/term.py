"""A term of an energy: what it becomes at data y says what can be done with it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, ClassVar, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from bilevel.ground.checks import check_kind
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.group_norm import GroupNorm
from bilevel.model.operators.operator import Shape
from bilevel.model.part import Part, accounted_under
from bilevel.model.preconditioner import Stencil
from bilevel.model.proximable import Proximable
from bilevel.model.smooth import Smooth, Summand

__all__ = ["BoundTerm", "Function", "Term", "TermSum", "named_parts", "parts_of"]

Function = Smooth | Proximable | GroupNorm
"""Of x: smooth, or with a proximal map, or a norm of K x that is dualised."""


class Term(Part):
    """T_θ(x; y), one value a row."""

    @abstractmethod
    def at(self, y: Tensor) -> tuple[Function, ...]:
        """Functions of x whose sum is T(x; y), at the present parameters."""

    def widened(self, y: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """An interval a row around [lower, upper], (b,) each, that x may be cut off at.

        Cutting x off at the ends of it, or of any larger one, must not raise T. The whole line
        unless overridden.
        """
        del y
        return torch.full_like(lower, -torch.inf), torch.full_like(upper, torch.inf)


T = TypeVar("T", bound=Term)


class TermSum(Term, Generic[T]):
    """T_1 + T_2 + ...; sums among the terms given are taken apart.

    Raises:
        InputError: a term of another kind.
    """

    kind: ClassVar[type[Term]] = Term
    """What the terms are."""

    def __init__(self, terms: Sequence[T]) -> None:
        super().__init__()
        for term in terms:
            advice = "of a fidelity and a regulariser make bl.Variational(fidelity, regulariser)"
            check_kind(term, self.kind, "each term of the sum", advice)
        self.terms = nn.ModuleList(part for term in terms for part in parts_of(term))

    @property
    def parts(self) -> list[T]:
        """The terms."""
        return list(self.terms)  # pyright: ignore[reportReturnType]

    def at(self, y: Tensor) -> tuple[Function, ...]:
        """Of all terms."""
        return tuple(found for term in self.parts for found in term.at(y))

    def widened(self, y: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Around what every term asks for."""
        return reduce(lambda ends, term: term.widened(y, *ends), self.parts, (lower, upper))

    def accounted(self) -> frozenset[str]:
        """What the terms account for."""
        known = (accounted_under(f"terms.{k}", term) for k, term in enumerate(self.parts))
        return frozenset[str]().union(*known)

    def options(self) -> dict[str, object]:
        """The terms."""
        return {"terms": self.parts}


def parts_of(term: T) -> list[T]:
    """The terms of a sum; the term alone unless it is one."""
    return cast(list[T], term.parts) if isinstance(term, TermSum) else [term]  # pyright: ignore[reportUnknownMemberType]


def named_parts(name: str, term: T) -> list[tuple[str, T]]:
    """The same with the names that they have as modules, where the sum is called ``name``."""
    parts = parts_of(term)
    if not isinstance(term, TermSum):
        return [(name, term)]
    return [(f"{name}.terms.{k}", part) for k, part in enumerate(parts)]


@dataclass(frozen=True)
class BoundTerm(Smooth):
    """A fidelity at its data (y,), or a regulariser, whose ``data`` are ()."""

    term: Any
    data: tuple[Tensor, ...] = ()

    def value(self, x: Tensor) -> Tensor:
        """That of the term."""
        return self.term.forward(x, *self.data)

    def grad(self, x: Tensor) -> Tensor:
        """That of the term."""
        return self.term.grad(x, *self.data)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the term."""
        return self.term.value_and_grad(x, *self.data)

    def summands(self) -> tuple[Summand, ...] | None:
        """Those of the term."""
        return self.term.summands(*self.data)

    def hessian(self, x: Tensor) -> LinearMap:
        """That of the term."""
        return self.term.hessian(x, *self.data)

    def majoriser(self, x: Tensor) -> LinearMap | None:
        """That of the term."""
        return self.term.majoriser(x, *self.data)

    def stencils(self, x: Tensor) -> list[Stencil] | None:
        """Those of the term."""
        return self.term.stencils(x, *self.data)

    def bounds(self, shape: Shape) -> Bounds:
        """Those of the term."""
        return self.term.bounds(shape, *self.data)

    def spectrum(self, shape: Shape) -> Tensor | None:
        """That of the term."""
        return self.term.spectrum(shape)

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """That of the term."""
        return self.term.variation(x, *self.data, q, radius)

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """That of the term."""
        return self.term.smoothness(x, *self.data, radius)

    def magnitude(self, shape: Shape) -> Magnitude:
        """That of the term."""
        return self.term.magnitude(shape, *self.data)

    def rows(self, index: Tensor) -> BoundTerm:
        """At the data of those rows."""
        return replace(self, data=tuple(part[index] for part in self.data))

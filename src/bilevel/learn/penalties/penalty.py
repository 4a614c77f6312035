"""What a penalty of θ is: a term of the upper level in θ alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground.checks import check_kind, check_positive
from bilevel.ground.errors import InputError, nearest
from bilevel.ground.given import Typed
from bilevel.ground.theta import Theta, derivative, flatten, leaves, unflatten

__all__ = ["Penalty", "SumOfPenalties", "chosen"]


class Penalty(Typed, ABC):
    """r(θ), added once to the mean loss; penalties add up, and numbers > 0 weigh them.

    Derivatives are exact, by autograd through :meth:`of`, and proved errors are unchanged.

    Example:
        >>> from bilevel.learn.penalties import Distance, Roughness
        >>> both = Distance() + 2 * Roughness()
        >>> len(both.terms)
        2
    """

    @abstractmethod
    def of(self, theta: Theta) -> Tensor:
        """r(θ), () float64, differentiable."""

    def fitted(self, theta: Theta) -> Penalty:
        """The same for a problem whose first values are ``theta``; itself unless it asks for them.

        Raises:
            InputError: it speaks of parameters that are not learned, or of other shapes.
        """
        del theta
        return self

    def value(self, theta: Theta) -> float:
        """r(θ)."""
        with torch.no_grad():
            return float(self.of(theta))

    def value_and_grad(self, theta: Theta) -> tuple[float, Theta]:
        """r and ∇r."""
        named = leaves(theta)
        with torch.enable_grad():
            total = self.of(named)
            return float(total.detach()), derivative(total, named)

    def hessian(self, theta: Theta) -> Tensor:
        """∇²r, (p, p) float64, in the order of ``flatten``: for few parameters."""
        wide: Theta = {name: value.double() for name, value in theta.items()}
        with torch.enable_grad():
            point = flatten(theta).requires_grad_()
            slope = torch.autograd.grad(
                self.of(unflatten(point, wide)), point, create_graph=True, materialize_grads=True
            )[0]
            if not slope.requires_grad:
                return torch.zeros(len(point), len(point), dtype=torch.float64)
            columns = [
                torch.autograd.grad(entry, point, retain_graph=True, materialize_grads=True)[0]
                for entry in slope
            ]
        return torch.stack(columns)

    def __add__(self, other: Penalty) -> SumOfPenalties:
        """R + other."""
        return SumOfPenalties((*_terms(self), *_terms(other)))

    def __mul__(self, weight: float) -> SumOfPenalties:
        """Weight · r."""
        return SumOfPenalties(tuple((weight * own, term) for own, term in _terms(self)))

    __rmul__ = __mul__


Terms = tuple[tuple[float, Penalty], ...]


def _terms(penalty: Penalty) -> Terms:
    return penalty.terms if isinstance(penalty, SumOfPenalties) else ((1.0, penalty),)


@dataclass(frozen=True)
class SumOfPenalties(Penalty):
    """Σ_j a_j r_j(θ), as ``a * penalty + other`` makes it.

    Args:
        terms: pairs of a weight and a penalty.

    Raises:
        InputError: a weight that is not positive.
    """

    terms: Terms

    def __post_init__(self) -> None:
        """Check the weights."""
        for weight, penalty in self.terms:
            check_positive(weight, "the weight of a penalty")
            check_kind(penalty, Penalty, "a term of a penalty", "take one of bl.penalties")

    def of(self, theta: Theta) -> Tensor:
        """Sum of the terms."""
        return torch.stack([weight * term.of(theta) for weight, term in self.terms]).sum()

    def fitted(self, theta: Theta) -> SumOfPenalties:
        """Of all terms."""
        return replace(self, terms=tuple((a, term.fitted(theta)) for a, term in self.terms))


def chosen(parameters: Sequence[str], theta: Theta) -> Theta:
    """The parameters of these names or prefixes up to a dot; all if none is given.

    Raises:
        InputError: a name that is neither.

    Example:
        >>> list(chosen(("a",), {"a.b": torch.zeros(1), "c": torch.zeros(1)}))
        ['a.b']
    """

    def covers(name: str, known: str) -> bool:
        return known == name or known.startswith(f"{name}.")

    for name in parameters:
        if not any(covers(name, known) for known in theta):
            what = f"the penalty names '{name}', which is not learned"
            raise InputError(what, advice=f"{nearest(name, theta)} (learned: {', '.join(theta)})")
    picked = parameters or tuple(theta)
    return {k: v for k, v in theta.items() if any(covers(name, k) for name in picked)}

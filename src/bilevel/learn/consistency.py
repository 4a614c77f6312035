"""Whether the derivatives that an objective hands out are those of its values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.randomness import generator
from bilevel.model import Objective, SmoothObjective
from bilevel.model.group_norm import GroupNorm
from bilevel.model.kinds import by_kind
from bilevel.model.saddle import SaddleObjective

__all__ = ["Consistency", "consistency"]

_STEPS = tuple(10.0**-k for k in range(3, 8))
_ALLOWED = 1e-4


@dataclass(frozen=True)
class Consistency:
    """One comparison: of what, with what, its relative error, and where to look if it is large."""

    what: str
    against: str
    error: float
    advice: str

    @property
    def passed(self) -> bool:
        """Whether the error is at most 1e-4; NaN is not."""
        return self.error <= _ALLOWED

    def __str__(self) -> str:
        """A verdict in words."""
        word = "agrees with" if self.passed else "DIFFERS from"
        text = f"{self.what} {word} {self.against}: relative error {self.error:.1e}"
        return text if self.passed else f"{text}; {self.advice}"


def consistency(objective: Objective, seed: int = 0) -> tuple[Consistency, ...]:
    """Gradient, Hessian and adjoints of the first row, in float64, at a random point near the data.

    Central differences with several steps, of which the best counts. Of an energy that is not
    smooth, the smooth terms are compared, and the operators of the dual terms.

    Example:
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> all(part.passed for part in consistency(energy.at(torch.ones(1, 1, 4, 4))))
        True
    """
    first = objective.rows(torch.tensor([0])).double()
    rng = generator(seed, "consistency")
    start = first.start()
    size = float(start.square().mean().sqrt()) or 1.0

    def random(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=rng, dtype=torch.float64).to(like)

    x: Tensor = start + 0.5 * size * random(start)
    direction: Tensor = size * random(start)
    smooth, terms = by_kind(
        first, smooth=_alone, composite=lambda j: _alone(j.smooth), saddle=_parts
    )
    with torch.no_grad():
        found = list(_derivatives(smooth, x, direction))
        found += [_adjoint(term, x, random) for term in terms]
    return tuple(found)


def _alone(smooth: SmoothObjective) -> tuple[SmoothObjective, tuple[GroupNorm, ...]]:
    return smooth, ()


def _parts(saddle: SaddleObjective) -> tuple[SmoothObjective, tuple[GroupNorm, ...]]:
    return saddle.smooth, saddle.terms


def _derivatives(smooth: SmoothObjective, x: Tensor, direction: Tensor) -> Iterator[Consistency]:
    slope = smooth.grad(x)
    yield Consistency(
        "the gradient of the lower level",
        "differences of its value",
        _best(
            lambda step: smooth.value(x + step * direction),
            rows.inner(slope, direction),
            float(rows.norm(slope) * rows.norm(direction)),
        ),
        "look at grad(), and at whether the adjoint of the operator is one",
    )
    bent = smooth.hessian(x)(direction)
    yield Consistency(
        "the Hessian of the lower level",
        "differences of its gradient",
        _best(lambda step: smooth.grad(x + step * direction), bent, float(rows.norm(bent))),
        "look at hessian()",
    )


def _best(value: Callable[[float], Tensor], slope: Tensor, scale: float) -> float:
    """The smallest relative error of central differences over the steps; 0 if all is zero."""
    errors: list[float] = []
    for step in _STEPS:
        quotient = (value(step) - value(-step)) / (2 * step)
        size = scale or float(quotient.square().sum().sqrt()) or 1.0
        error = float((quotient - slope).square().sum().sqrt()) / size
        errors.append(error if math.isfinite(error) else math.inf)
    return min(errors)


def _adjoint(term: GroupNorm, x: Tensor, random: Callable[[Tensor], Tensor]) -> Consistency:
    image = term.forward(x)
    p = random(image)
    pull = term.adjoint(p)
    gap = float((rows.inner(image, p) - rows.inner(x, pull)).abs())
    scale = float(rows.norm(image) * rows.norm(p) + rows.norm(x) * rows.norm(pull)) or 1.0
    name = type(term.operator).__name__
    return Consistency(name, "its adjoint transposed", gap / scale, "⟨A x, p⟩ must be ⟨x, Aᵀ p⟩")

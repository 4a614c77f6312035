"""Whether the adjoint of an operator is that of its forward map, in both precisions."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.randomness import generator
from bilevel.model.operators.operator import Operator, Shape, check_operator

__all__ = ["Adjointness", "check_adjoint"]

PROBES = 4
ALLOWED = {torch.float32: 1e-4, torch.float64: 1e-10}
"""Of |⟨A x, y⟩ - ⟨x, Aᵀ y⟩| relative to ‖A‖‖x‖‖y‖; an adjoint that is wrong makes about m^-½."""


@dataclass(frozen=True)
class Adjointness:
    """The largest relative gap of random x and y, by precision.

    Example:
        >>> print(Adjointness(single=1e-8, double=1e-16))
        the adjoint agrees with the forward map: relative error 1.0e-08, in float64 1.0e-16
    """

    single: float
    double: float
    stretch: float = 0.0
    """The largest ‖A x‖/‖x‖ and ‖Aᵀ y‖/‖y‖ of those tried, at most ‖A‖."""

    @property
    def passed(self) -> bool:
        """Whether both are rounding; NaN is not."""
        return self.single <= ALLOWED[torch.float32] and self.double <= ALLOWED[torch.float64]

    def __str__(self) -> str:
        """A verdict in words."""
        word = "agrees with" if self.passed else "is NOT that of"
        errors = f"relative error {self.single:.1e}, in float64 {self.double:.1e}"
        return f"the adjoint {word} the forward map: {errors}"


def check_adjoint(operator: Operator, image_shape: Shape, seed: int = 0) -> Adjointness:
    """Compare ⟨A x, y⟩ with ⟨x, Aᵀ y⟩ for random images x and data y, relative to ‖A‖‖x‖‖y‖.

    ‖A‖ stands for the largest stretch of the vectors tried, which is below it: errors are never
    made to look small.

    Args:
        operator: A; a copy is converted to either precision.
        image_shape: (c, h, w) of x.
        seed: another seed, other vectors.

    Raises:
        InputError: an operator that does not take such images.

    Example:
        >>> from bilevel.model.operators import Convolution
        >>> check_adjoint(Convolution(torch.ones(3, 3) / 9), (1, 8, 8)).passed
        True
    """
    check_operator(operator, advice="wrap the functions in bilevel.operators.Linear")
    single, _ = _tried(operator, image_shape, torch.float32, seed)
    return Adjointness(single, *_tried(operator, image_shape, torch.float64, seed))


def _tried(operator: Operator, shape: Shape, dtype: torch.dtype, seed: int) -> tuple[float, float]:
    """The largest relative gap and the largest stretch."""
    a = copy.deepcopy(operator).to(dtype)
    rng = generator(seed, "adjoint")

    def random(size: Shape) -> Tensor:
        return torch.randn(PROBES, *size, generator=rng, dtype=torch.float64).to(dtype)

    x, y = random(shape), random(a.data_shape(shape))
    with torch.no_grad():
        ax, aty = a.forward(x), a.adjoint(y)
    gap = (_product(ax, y) - _product(x, aty)).abs()
    stretch = torch.maximum(_norm(ax) / _norm(x), _norm(aty) / _norm(y)).max()
    size = torch.where(stretch > 0, stretch * _norm(x) * _norm(y), 1.0)
    return float((gap / size).max()), float(stretch)


def _product(a: Tensor, b: Tensor) -> Tensor:
    return rows.inner(a.double(), b.double())


def _norm(a: Tensor) -> Tensor:
    return rows.length(a.double())

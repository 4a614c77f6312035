"""Half-quadratic minimisation: a sequence of quadratic majorisers, each solved by CG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.linear import cg
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.solve.solver import Solver

__all__ = ["HalfQuadratic"]


@dataclass(frozen=True)
class HalfQuadraticState:
    """The point and ∇J there; per row."""

    x: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class HalfQuadratic(Solver[HalfQuadraticState]):
    """Reweighted least squares: few steps, each with many products.

    x⁺ = x - M(x)⁻¹ ∇J(x), M(x) the energy's majoriser with weights ψ'(s)/s (IRLS).

    M(x) is positive definite or semi-definite and J lies below the quadratic that it makes at x,
    so J never increases, however early CG ends. A step takes a gradient and up to ``max_products``
    applications of M.

    Args:
        rtol: relative residual of the inner systems.
        max_products: limit of the products of a step, by the inner CG.

    Source: Geman and Reynolds 1992; Geman and Yang 1995; Nikolova and Ng 2005, (1.10).

    Raises:
        InputError: the energy gives no majoriser; rtol not positive, max_products below 1.

    Example:
        >>> HalfQuadratic().rtol
        0.01
    """

    check_every: ClassVar[int] = 1

    rtol: float = 0.01
    max_products: int = 100

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self.rtol, "rtol")
        if self.max_products < 1:
            raise InputError("half-quadratic steps need max_products >= 1", given=self.max_products)

    def init(self, objective: SmoothObjective, x: Tensor) -> HalfQuadraticState:
        """The gradient at the start."""
        return HalfQuadraticState(x, objective.grad(x))

    def gradient(self, state: HalfQuadraticState) -> Tensor:
        """Known at every point."""
        return state.gradient

    def step(self, objective: SmoothObjective, state: HalfQuadraticState) -> HalfQuadraticState:
        """Reweight, solve, and evaluate the gradient."""
        majoriser = objective.majoriser(state.x)
        if majoriser is None:
            what = "half-quadratic steps need a quadratic majoriser, and this energy gives none"
            raise InputError(what, advice=f"use {objective.fitting}")
        move = cg(majoriser, state.gradient, rtol=self.rtol, max_steps=self.max_products).x
        x = state.x - move
        return HalfQuadraticState(x, objective.grad(x))

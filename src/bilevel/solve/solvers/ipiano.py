"""iPiano: gradient steps with a heavy ball, for non-convex energies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.solve.solver import Solver

__all__ = ["IPiano"]


@dataclass(frozen=True)
class IPianoState:
    """The last two accepted points, value and gradient at the newer, and L; per row."""

    x: Tensor
    previous: Tensor
    value: Tensor
    gradient: Tensor
    lipschitz: Tensor


@dataclass(frozen=True)
class IPiano(Solver[IPianoState]):
    """Gradient steps with a heavy ball: for non-convex energies.

    x⁺ = x - α ∇J(x) + β (x - x⁻) with α = 1.99 (1 - β)/L and L by backtracking.

    A trial is accepted when J(x⁺) <= J(x) + ⟨∇J(x), x⁺ - x⟩ + L/2 ‖x⁺ - x‖²; otherwise the row
    stays and L grows. J(x) + δ‖x - x⁻‖² then decreases while L is constant, so every limit point
    is critical. One value and gradient a step.

    Args:
        beta: weight of the inertia, in [0, 1).
        growth: least factor of L after a failed trial.
        first_lipschitz: L of the first trial; too large a guess is never corrected.

    Source: Ochs, Chen, Brox, Pock 2014 (arXiv 1404.4805), Algorithm 4.

    Raises:
        InputError: beta outside [0, 1), growth not above 1, first_lipschitz not positive.

    Example:
        >>> IPiano().beta
        0.8
    """

    check_every: ClassVar[int] = 1

    beta: float = 0.8
    growth: float = 1.2
    first_lipschitz: float = 1.0

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self.first_lipschitz, "first_lipschitz")
        if not (0 <= self.beta < 1 < self.growth):
            given = self.beta, self.growth
            raise InputError("iPiano needs 0 <= beta < 1 and growth > 1", given=given)

    def init(self, objective: SmoothObjective, x: Tensor) -> IPianoState:
        """At rest."""
        value, gradient = objective.value_and_grad(x)
        return IPianoState(x, x, value, gradient, torch.full_like(value, self.first_lipschitz))

    def gradient(self, state: IPianoState) -> Tensor:
        """Known at every accepted point."""
        return state.gradient

    def step(self, objective: SmoothObjective, state: IPianoState) -> IPianoState:
        """Try the step; go on from there, or stay with a larger L."""
        s = state
        pull = rows.expand(1.99 * (1 - self.beta) / s.lipschitz, s.x) * s.gradient
        x = s.x - pull + self.beta * (s.x - s.previous)
        value, gradient = objective.value_and_grad(x)
        move = x - s.x
        square, turn = rows.inner(move, move), rows.inner(gradient - s.gradient, move)
        above = value - s.value - rows.inner(s.gradient, move)
        noise = 16 * torch.finfo(value.dtype).eps * (value.abs() + s.value.abs())
        accepted = torch.where(above.abs() > noise, above, turn / 2) <= s.lipschitz / 2 * square
        met = (turn / square).nan_to_num(0.0, 0.0, 0.0)
        larger = torch.maximum(self.growth * s.lipschitz, met)
        moved = IPianoState(x, s.x, value, gradient, s.lipschitz)
        return rows.choose(accepted, moved, replace(s, lipschitz=larger))

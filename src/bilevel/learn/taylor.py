"""A Taylor test of the hypergradient that a user runs on an energy of their own."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bilevel.ground import theta as algebra
from bilevel.ground.randomness import generator
from bilevel.ground.theta import Theta
from bilevel.learn.consistency import Consistency, consistency
from bilevel.learn.problem import Problem
from bilevel.model.kinds import has_dual, is_smooth

__all__ = ["TaylorTest", "check_hypergradient"]


@dataclass(frozen=True)
class TaylorTest:
    """Remainders |L(θ + s d) - L(θ) - s ⟨g, d⟩| for steps s, and the best slope error found."""

    steps: tuple[float, ...]
    remainders: tuple[float, ...]
    order: float
    """Fitted exponent of the remainder in s; 2 for a right gradient of a smooth L."""
    relative_error: float
    """Smallest |difference quotient - ⟨g, d⟩| / ‖g‖ over the steps (central differences)."""
    threshold: float
    """What it must not exceed: 1e-4 in float64, 1e-2 in float32 and where J has kinks."""
    lower: tuple[Consistency, ...]
    """Derivatives and adjoints of the lower level itself, compared in float64."""
    unsolved: int
    """Samples whose lower level missed the accuracy, or whose adjoint system broke down, anywhere.

    Their part of the hypergradient, and of its differences, is missing or meaningless.
    """

    @property
    def passed(self) -> bool:
        """Whether all was solved, the lower level is consistent, and the derivative agrees."""
        consistent = all(part.passed for part in self.lower)
        return consistent and self.unsolved == 0 and self.relative_error <= self.threshold

    def __str__(self) -> str:
        """A verdict in words with the numbers behind it."""
        for part in self.lower:
            if not part.passed:
                return str(part)
        if self.unsolved:
            return (
                f"the hypergradient could NOT be checked: {self.unsolved} lower-level or adjoint "
                "solves missed their accuracy; check in float64, or give a looser tol"
            )
        word = "agrees with" if self.relative_error <= self.threshold else "DIFFERS from"
        return (
            f"the hypergradient {word} finite differences: relative error "
            f"{self.relative_error:.1e}, remainder of order {self.order:.2f} (2 expected)"
        )


def check_hypergradient(
    problem: Problem, theta: Theta | None = None, *, tol: float | None = None, seed: int = 0
) -> TaylorTest:
    """Compare the hypergradient with differences of L between its own and a random direction.

    Both along the set of θ, as gradients are (:meth:`~bilevel.model.sets.Set.tangent`).
    First the lower level itself, in float64: its gradient with differences of its value, its
    Hessian with differences of its gradient, and the adjoints of dual terms with their operators.
    Prefer float64 data and energies: differences in float32 are mostly rounding.

    Args:
        problem: with an energy of any kind.
        theta: where; the energy's own values if None.
        tol: accuracy of the lower level (rms, or residual where nothing is proved); None: 1e-9,
            or 1e-5 in float32 and for an energy with dual terms, which PDHG can reach.
        seed: of the direction.

    Example:
        >>> import torch, bilevel as bl
        >>> x = torch.ones(1, 1, 4, 4, dtype=torch.float64)
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> pairs = bl.data.Pairs(3 * x, x, ("one",))
        >>> problem = bl.BilevelProblem(energy.double(), bl.losses.SquaredError(), pairs)
        >>> check_hypergradient(problem).passed
        True
    """
    point = problem.theta if theta is None else theta
    objective = problem.level.example
    if tol is None:
        single = problem.level.first.dtype == torch.float32
        tol = 1e-5 if single or has_dual(objective) else 1e-9
    at = problem.value_and_grad(point, tol=tol)
    rng = generator(seed, "direction")
    drawn = {k: torch.randn(v.shape, generator=rng).to(v) for k, v in point.items()}
    direction = problem.space.tangent(drawn)
    scale = algebra.norm(at.grad) or 1.0
    uphill = -1.0 if algebra.inner(at.grad, direction) < 0 else 1.0
    direction = algebra.add(at.grad, direction, uphill * scale / algebra.norm(direction))
    direction = {k: v / algebra.norm(direction) for k, v in direction.items()}
    slope = algebra.inner(at.grad, direction)

    steps = tuple(10.0**-k for k in range(1, 6))
    found = [
        problem.value_and_grad(algebra.add(point, direction, side * s), tol=tol)
        for side in (1, -1)
        for s in steps
    ]
    values = [evaluation.corrected for evaluation in found]
    ahead, behind = values[: len(steps)], values[len(steps) :]
    remainders = tuple(abs(a - at.corrected - s * slope) for a, s in zip(ahead, steps, strict=True))
    quotients = [(a - b) / (2 * s) for a, b, s in zip(ahead, behind, steps, strict=True)]
    smooth = is_smooth(objective)
    precise = smooth and problem.level.first.dtype == torch.float64
    return TaylorTest(
        steps=steps,
        remainders=remainders,
        order=_order(steps[:3], remainders[:3]),
        relative_error=min(abs(quotient - slope) for quotient in quotients) / scale,
        threshold=1e-4 if precise else 1e-2,
        lower=consistency(problem.level.at(point, torch.tensor([0])), seed),
        unsolved=sum(evaluation.uncertified + evaluation.unsolved for evaluation in [at, *found]),
    )


def _order(steps: tuple[float, ...], remainders: tuple[float, ...]) -> float:
    x = torch.tensor(steps, dtype=torch.float64).log()
    y = torch.tensor(remainders, dtype=torch.float64).clamp_min(1e-300).log()
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum())

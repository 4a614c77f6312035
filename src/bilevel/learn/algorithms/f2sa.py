"""F²SA: first derivatives alone, of J and of J plus the loss over a penalty that grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from bilevel.ground import theta as algebra
from bilevel.ground.checks import check_nonnegative, check_positive
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.directions import Directions, Iterates
from bilevel.learn.loops.loss_scale import LossScale
from bilevel.learn.loops.single_loop import Now, SingleLoop
from bilevel.learn.problem import DirectedProblem

__all__ = ["F2SA"]


@dataclass(frozen=True)
class F2SA(SingleLoop):
    """First derivatives alone: the loss enters the energy, divided by a penalty that grows.

    z → argmin J and x → argmin J + ℓ/λ (Kwon et al. 2023, Algorithm 1, arXiv 2301.10945).

    θ moves along ∂_θℓ(x) + λ (∂_θJ(x) - ∂_θJ(z)), the gradient of min_x ℓ + λ (J - min J), which is
    within O(1/λ) of ∇F (Lemma 3.1). By their analysis ‖∇F‖² <= ε after O(ε^(-7/2)) iterations with
    noise at both levels, where λ ∝ t^(1/7); O(ε^(-5/2)), λ ∝ t^(1/5), with noise of the loss alone;
    O(ε^(-3/2)), λ ∝ t^(1/3), with none.

    The iterates are z and v = λ (x - z) → -H⁻¹∇ℓ, so that x stays where it should be as λ grows.
    Both points see the same batch, hence noise is not multiplied by λ. Iterations need no second
    derivatives, nor does the first evaluation with ``hypergradient=EquilibriumPropagation()``;
    those that decide whether to end take some to estimate their error. In float32 a
    large λ loses digits by cancellation. Other options: see
    :class:`~bilevel.learn.loops.single_loop.SingleLoop`.

    Args:
        penalty: first λ, in units of L_ℓ/L, the Lipschitz constants of ∇ℓ (estimated) and ∇J. The
            analysis asks for at least 2 L/μ.
        growth: λ grows as (1 + t/epoch)^growth.

    Raises:
        InputError: a ``penalty`` that is not positive, or a negative ``growth``.

    Example:
        >>> F2SA(penalty=1e3, growth=1 / 3).decay
        0.5
    """

    first_change: float | None = 0.1
    decay: float = 0.5
    penalty: float = 100.0
    growth: float = 1 / 7

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_positive(self.penalty, "penalty")
        check_nonnegative(self.growth, "growth")

    def remember(self, problem: DirectedProblem, theta: Theta, at: Iterates) -> Packable:
        """The unit of λ."""
        return LossScale.at(problem, theta, at)

    def advance(self, problem: DirectedProblem, now: Now) -> tuple[Directions, Packable]:
        """First derivatives of the next batch, at z and at z + v/λ."""
        pairing, scale = self.pairing(problem), cast(LossScale, now.memory)
        draw = pairing.draw(now.t)
        grown = (1 + now.t / pairing.epoch) ** self.growth
        penalty = self.penalty * scale.value * grown
        rows = problem.rows(draw)
        z, v = now.at.x[rows], now.at.v[rows]
        here = problem.slopes(now.theta, z, draw)
        there = problem.slopes(now.theta, z + v / penalty, draw)
        bent = penalty * (there.lower - here.lower) + there.upper
        cross = algebra.add(there.lower_theta, here.lower_theta, -1.0)
        slope = algebra.add(there.upper_theta, cross, penalty)
        found = Directions(here.lower, bent, slope, here.value, rows)
        found = self.trusted(problem, now, found)
        self.move(problem, now, found)
        return found, scale

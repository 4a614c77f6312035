"""BOME: descent of the loss, with a barrier that keeps J near its minimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor

from bilevel.ground import theta as algebra
from bilevel.ground.checks import check_count, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.directions import Directions, Iterates, Slopes
from bilevel.learn.loops.loss_scale import LossScale
from bilevel.learn.loops.single_loop import Now, SingleLoop
from bilevel.learn.problem import DirectedProblem

__all__ = ["BOME"]


@dataclass(frozen=True)
class BOME(SingleLoop):
    """First derivatives alone: descent of the loss, with a barrier around least energies.

    Least ℓ at q <= 0, q(x, θ) = J(x) - J(z) (Ye et al. 2022, Algorithm 1, arXiv 2209.08709).

    z is x after a few gradient steps on J. x and θ move along ∇ℓ + λ∇q with the least λ >= 0 that
    makes q fall at the rate φ = η‖∇q‖²: λ = max((φ - ⟨∇ℓ, ∇q⟩)/‖∇q‖², 0). Their analysis, without
    noise and with one step for x and θ, gives stationary points as steps fall to zero, for instance
    as t^(-1/2) (``decay=0.5``); constant steps end in a neighbourhood that shrinks with them.

    Here the steps of x and θ differ, and norms are those in which they are equal; θ is slowed down
    where it would change q more than a tenth as fast as x does, as x could not follow. The step of
    x along ∇ℓ is 1/(penalty L_ℓ), along ∇q of the order of 1/L; so λ is of the order of ``penalty``
    in units of L_ℓ/L, the Lipschitz constants of ∇ℓ (estimated) and ∇J. Where samples share their
    x, batches are a noise that λ amplifies: take all samples. Iterations need no second
    derivatives, nor does the first evaluation with ``hypergradient=EquilibriumPropagation()``;
    those that decide whether to end take some to estimate their error. Other options: see
    :class:`~bilevel.learn.loops.single_loop.SingleLoop`.

    Args:
        inner_steps: of z, from x on to the least energy.
        barrier: η, rate at which the energy approaches its least, in units of the step of x.
        penalty: the first, in units of L_ℓ/L; it grows as the step of θ decays.

    Raises:
        InputError: options outside their ranges, or ``precondition="adam"``.

    Example:
        >>> BOME(inner_steps=5).barrier
        0.5
    """

    first_change: float | None = 0.1
    inner_steps: int = 10
    barrier: float = 0.5
    penalty: float = 10.0

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_count(self.inner_steps, "inner_steps")
        check_positive(self.barrier, "barrier")
        check_positive(self.penalty, "penalty")
        if self.precondition != "none":
            advice = "use F2SA, or precondition='none'"
            raise InputError("BOME has one metric for x and θ", given="adam", advice=advice)

    def remember(self, problem: DirectedProblem, theta: Theta, at: Iterates) -> Packable:
        """The unit of the loss."""
        return LossScale.at(problem, theta, at)

    def advance(self, problem: DirectedProblem, now: Now) -> tuple[Directions, Packable]:
        """One step of x and the direction of θ, from first derivatives of the next batch."""
        pairing, scale = self.pairing(problem), cast(LossScale, now.memory)
        draw = pairing.draw(now.t)
        unit = self.penalty * scale.value / self.shrunk(problem, now.t)
        rows = problem.rows(draw)
        step = self.inner(problem, now.theta, rows, 0).to(now.at.x)
        x = now.at.x[rows]
        here = problem.slopes(now.theta, x, draw)
        z = x - step * here.lower
        for _ in range(1, self.inner_steps):
            z = z - step * problem.slope(now.theta, z, draw)
        there = problem.slopes(now.theta, z, draw)
        gap = algebra.add(here.lower_theta, there.lower_theta, -1.0)
        multiplier, slower = self._multiplier(step, now.length, unit, here, gap)
        moved = x - step * (here.upper / unit + multiplier * here.lower)
        now.at.x[rows], now.at.v[rows] = moved, unit * multiplier * (x - z)
        slope = algebra.add(here.upper_theta, gap, unit * multiplier)
        slowed = {name: slower * value for name, value in slope.items()}
        return Directions(here.lower, here.upper, slowed, there.value, rows), scale

    def _multiplier(
        self, step: Tensor, length: float, unit: float, here: Slopes, gap: Theta
    ) -> tuple[float, float]:
        """λ/unit, and the factor by which θ is slowed down; ``gap`` is ∂_θq."""
        by_x = _mean(step * here.lower * here.lower)
        by_theta = length * unit * algebra.inner(gap, gap)
        slower = min(1.0, _SHARE * by_x / by_theta) if by_theta > 0 else 1.0
        power = by_x + slower * by_theta
        pull = _mean(step * here.lower * here.upper) / unit
        pull += slower * length * algebra.inner(here.upper_theta, gap)
        return (max(self.barrier - pull / power, 0.0) if power > 0 else self.barrier), slower


_SHARE = 0.1
"""The most that θ changes q by, as a share of what x does."""


def _mean(products: Tensor) -> float:
    """Of the sums of the rows."""
    return float(products.double().sum()) / len(products)

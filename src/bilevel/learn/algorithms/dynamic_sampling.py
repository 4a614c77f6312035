"""Dynamic sampling: L-BFGS on a few samples, and on more where these no longer tell the way."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta
from bilevel.learn.algorithm import Status, settled, verdict
from bilevel.learn.algorithms.lbfgs import LBFGS, LBFGSState
from bilevel.learn.problem import Problem
from bilevel.learn.sample import Nested

__all__ = ["DynamicSampling"]

LOST = (Status.DIVERGED, Status.BROKEN)


@dataclass(frozen=True)
class DynamicSampling(LBFGS):
    """L-BFGS on a sample of the images that grows: for hundreds of them.

    L-BFGS on a random sample S that grows (Byrd et al. 2012, Section 3).

    Used for bilevel learning by Calatroni, De los Reyes and Schönlieb (2014). S grows by ``growth``
    after a step at whose end ‖Var‖₁/|S| > ϑ²‖∇F_S‖², and wherever L-BFGS would end; samples stay
    in it, and so does the curvature. Only the samples that are new are evaluated then. Losses and
    gradients are means over S, of which errors are proved; how far they are from those of all
    samples is only estimated, so that it ends on all samples, as L-BFGS does. Each sample needs
    its own x.

    Args:
        first: samples at the start.
        growth: factor of their number.
        theta: ϑ, how large the noise may be relative to the gradient.
        seed: of their order.

    Raises:
        InputError: options outside their ranges, or a problem with one x for all samples.

    Example:
        >>> DynamicSampling(first=8).growth
        2.0
    """

    first: int = 16
    growth: float = 2.0
    theta: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        if self.first < 2 or not (math.isfinite(self.growth) and self.growth > 1):
            given = self.first, self.growth
            raise InputError("dynamic sampling needs first >= 2 and growth > 1", given=given)
        check_positive(self.theta, "theta")

    def init(self, problem: Problem, theta: Theta) -> LBFGSState:
        """Evaluate θ_0 on the first samples to ε_0.

        Raises:
            InputError: all samples share one x.
        """
        if not problem.separable:
            advice = "use L-BFGS, or SABA for batches"
            raise InputError("dynamic sampling needs an x for each sample", advice=advice)
        seen = min(self.first, len(problem))
        return self._grown(problem, super().init(Nested(self.seed).first(problem, seen), theta))

    def step(self, problem: Problem, state: LBFGSState) -> LBFGSState:
        """One of L-BFGS on the samples so far; then perhaps more samples."""
        sample = Nested(self.seed).first(problem, state.evaluation.samples)
        return self._grown(problem, super().step(sample, state))

    def _grown(self, problem: Problem, state: LBFGSState) -> LBFGSState:
        """With more samples if the gradient drowns in noise, or nothing is left to do on these."""
        at = state.evaluation
        if math.isnan(at.variance) or state.status in LOST:
            return state
        if state.status is Status.RUNNING and not at.drowned(self.theta):
            return state
        count = min(math.ceil(self.growth * at.samples), len(problem))
        both = Nested(self.seed).enlarged(problem, at, count)
        if count == len(problem):
            both = settled(problem, both, self.tol)
            return replace(state, evaluation=both, status=verdict(problem, both, self.tol))
        found = verdict(problem, both, self.tol)
        status = found if found in LOST else Status.RUNNING
        return replace(state, evaluation=both, status=status)

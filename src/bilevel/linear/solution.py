"""What a linear solver hands back: the solution with its residual, and how it ended, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor

from bilevel.ground.errors import NotCertified

__all__ = ["LinearSolution", "LinearStatus"]


class LinearStatus(IntEnum):
    """How the solve of one row ended; only ``CONVERGED`` meets its tolerance."""

    RUNNING = 0
    CONVERGED = 1
    MAX_STEPS = 2
    STALLED = 3
    DIVERGED = 4
    NEGATIVE_CURVATURE = 5
    SINGULAR = 6


_ADVICE = {
    LinearStatus.RUNNING: "let the solve end",
    LinearStatus.MAX_STEPS: "raise max_steps or the tolerance",
    LinearStatus.STALLED: "rounding allows no smaller residual: raise the tolerance or use float64",
    LinearStatus.DIVERGED: "the operator or the right-hand side gave NaN, infinity or an overflow",
    LinearStatus.NEGATIVE_CURVATURE: "the operator is not positive definite: use minres",
    LinearStatus.SINGULAR: "the operator is singular, without solution: x is at best least-squares",
}
_NAMED_ROWS = 5


@dataclass(frozen=True)
class LinearSolution:
    """Solutions of b independent systems A x = b, and what is known about each.

    Attributes:
        x: (b, ...), finite in every row unless the start was not.
        residual: (b,) ``‖b - A x‖₂``, computed afresh at the returned ``x``; inf if not finite.
        steps: (b,) integers, steps taken.
        status: (b,) integers, values of :class:`LinearStatus`.
        applications: how often A was applied, summed over rows.

    Example:
        >>> import torch
        >>> one = torch.ones(1)
        >>> LinearSolution(one[None], 0 * one, one.long(), one.long(), 2).converged
        tensor([True])
    """

    x: Tensor
    residual: Tensor
    steps: Tensor
    status: Tensor
    applications: int

    @property
    def converged(self) -> Tensor:
        """(b,) booleans: the recomputed residual meets the tolerance."""
        return self.status == LinearStatus.CONVERGED

    def require(self) -> LinearSolution:
        """This solution, if every row converged.

        Raises:
            NotCertified: names the rows that did not, their residuals and what to do.
        """
        failed = [k for k, converged in enumerate(self.converged) if not converged]
        if not failed:
            return self
        named = [self._describe(k) for k in failed[:_NAMED_ROWS]]
        if len(failed) > _NAMED_ROWS:
            named.append(f"{len(failed) - _NAMED_ROWS} more")
        kinds = sorted({int(self.status[k]) for k in failed})
        advice = "; ".join(_ADVICE[LinearStatus(kind)] for kind in kinds)
        raise NotCertified(
            f"{len(failed)} of {len(self.status)} linear systems are not solved "
            f"({'; '.join(named)}); {advice}"
        )

    def _describe(self, k: int) -> str:
        status, residual = LinearStatus(int(self.status[k])), float(self.residual[k])
        return f"row {k}: {status.name}, residual {residual:.3g} after {int(self.steps[k])} steps"

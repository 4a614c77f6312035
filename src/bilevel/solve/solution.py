"""The answer of a lower-level solve: a point with its certificate and status."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from bilevel.ground.errors import NotCertified
from bilevel.solve.certificate import Certificate, Tolerance
from bilevel.solve.solver import State

__all__ = ["Solution", "Status"]


class Status(IntEnum):
    """How a row ended."""

    RUNNING = 0
    CONVERGED = 1
    MAX_STEPS = 2
    STALLED = 3
    DIVERGED = 4

    @property
    def advice(self) -> str:
        """What to do about it."""
        return {
            Status.RUNNING: "call minimise to the end",
            Status.CONVERGED: "nothing to do",
            Status.MAX_STEPS: "raise max_steps, loosen the tolerance or improve the conditioning",
            Status.STALLED: "the floating-point floor is reached: use float64 or relax",
            Status.DIVERGED: "values became infinite: check the data and the Lipschitz constant",
        }[self]


@dataclass(frozen=True)
class Solution:
    """Frozen result of ``minimise``; tensors have one entry a row."""

    x: Tensor
    certificate: Certificate
    status: Tensor
    steps: Tensor
    tol: Tolerance
    state: State | None = None
    """The solver's last state, if it was to be kept."""

    @property
    def converged(self) -> Tensor:
        """Which rows meet the tolerance, (b,) bool."""
        return self.status == Status.CONVERGED

    def require(self) -> Solution:
        """This solution if every row meets the tolerance.

        Raises:
            NotCertified: naming the rows, what they reached and what to do.
        """
        failed = [int(k) for k in torch.nonzero(~self.converged).flatten()]
        if not failed:
            return self
        status = Status(int(self.status[failed[0]]))
        reached = self.certificate
        raise NotCertified(
            f"{len(failed)} of {len(self.status)} rows do not meet {self.tol}: rows {failed[:8]}, "
            f"the first ended as {status.name} after {int(self.steps[failed[0]])} steps with "
            f"rms {float(reached.rms[failed[0]]):.2e}, gap {float(reached.gap[failed[0]]):.2e}, "
            f"residual {float(reached.residual[failed[0]]):.2e}; {self._advice(status, failed[0])}"
        )

    def _advice(self, status: Status, row: int) -> str:
        asked = min(self.tol.rms, self.tol.gap) < torch.inf
        if asked and not torch.isfinite(self.certificate.rms[row]):
            return (
                "no strong convexity is proved, so no distance can be: add "
                "regularisers.Tikhonov(1e-3), or ask for Tolerance(residual=...)"
            )
        return status.advice

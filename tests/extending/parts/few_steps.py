"""A hypergradient of one's own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.extend import (
    AdjointMethod,
    InputError,
    LinearSolution,
    LinearStatus,
    Objective,
    Solution,
    rows,
)


@dataclass(frozen=True)
class FewSteps(AdjointMethod):
    """A few heavy-ball steps for the adjoint; what they lack is part of the proved error.

    Args:
        steps: Hessian-vector products.
    """

    steps: int = 30

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError("steps must be at least 1", given=self.steps)

    def adjoint(
        self, lower: Objective, solution: Solution, rhs: Tensor, rtol: Tensor, start: Tensor | None
    ) -> LinearSolution:
        hessian, bounds = lower.hessian(solution.x), lower.bounds
        root_mu = bounds.proved_mu().sqrt().to(rhs.dtype)
        root_l = bounds.lipschitz.sqrt().to(rhs.dtype)
        step = rows.expand(4 / (root_l + root_mu) ** 2, rhs)
        momentum = rows.expand(((root_l - root_mu) / (root_l + root_mu)) ** 2, rhs)
        q = torch.zeros_like(rhs) if start is None else start
        before = q
        for _ in range(self.steps):
            q, before = q + step * (rhs - hessian(q)) + momentum * (q - before), q
        residual = rows.norm(rhs - hessian(q))
        done = residual <= rtol.to(residual) * rows.norm(rhs)
        status = torch.where(done, int(LinearStatus.CONVERGED), int(LinearStatus.MAX_STEPS))
        taken = torch.full_like(status, self.steps)
        return LinearSolution(q, residual, taken, status, (self.steps + 1) * len(q))

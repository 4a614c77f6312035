"""Symmetric maps, definite or not: conjugate gradients, and MINRES where these cannot go on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from bilevel.ground import rows
from bilevel.linear.cg import cg
from bilevel.linear.minres import minres
from bilevel.linear.solution import LinearSolution, LinearStatus
from bilevel.linear.solver import LinearSolver
from bilevel.linear.system import System

__all__ = ["Symmetric", "symmetric"]


@dataclass(frozen=True)
class Symmetric(LinearSolver):
    """Solve A x = b for each row, A symmetric: by CG, rows of negative curvature by MINRES.

    Definite rows keep the fewer steps of preconditioned CG; the others begin anew at the start.

    Raises:
        InputError: shapes, dtypes or tolerances do not fit.

    Example:
        >>> from bilevel.linear import LinearMap
        >>> scales = torch.tensor([[1.0, -2.0, 4.0]])
        >>> symmetric(LinearMap.shared(lambda v: scales * v), torch.ones(1, 3), rtol=1e-6).x
        tensor([[ 1.0000, -0.5000,  0.2500]])
    """

    def solve(self, system: System, max_steps: int) -> LinearSolution:
        """CG for all, then MINRES for some."""
        found = cg.solve(system, max_steps)
        index = torch.nonzero(found.status == LinearStatus.NEGATIVE_CURVATURE).flatten()
        if not len(index):
            return found
        start = None if system.start is None else system.start[index]
        parts = system.operator.rows(index), system.b[index], system.tolerance[index], start
        further = minres.solve(System(*parts), max_steps)
        total = found.applications + further.applications
        further = replace(further, steps=found.steps[index] + further.steps, applications=total)
        answer = replace(found, applications=total)
        rows.put(answer, index, further)
        return answer


symmetric = Symmetric()

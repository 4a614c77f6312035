"""What a linear solver is: a value, called with a map and right-hand sides."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from bilevel.linear.map import LinearMap
from bilevel.linear.solution import LinearSolution
from bilevel.linear.system import System

__all__ = ["LinearSolver"]


class LinearSolver(ABC):
    """Solves A x = b for each row."""

    @abstractmethod
    def solve(self, system: System, max_steps: int) -> LinearSolution:
        """Every row to its tolerance, or as near as so many steps come."""

    def __call__(
        self,
        operator: LinearMap,
        b: Tensor,
        *,
        rtol: float | Tensor = 0.0,
        atol: float | Tensor = 0.0,
        x0: Tensor | None = None,
        max_steps: int = 1000,
    ) -> LinearSolution:
        """Solve A x = b for each row, from ``x0`` (zero unless given).

        Row k is done when ``‖b_k - A x_k‖₂ <= max(rtol ‖b_k‖₂, atol_k)``, computed afresh at the
        returned x; ``rtol`` and ``atol`` are numbers or (b,). No tape is kept.

        Raises:
            InputError: shapes, dtypes or tolerances do not fit.
        """
        return self.solve(System.of(operator, b, rtol, atol, x0), max_steps)

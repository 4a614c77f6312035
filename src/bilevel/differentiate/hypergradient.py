"""What a hypergradient is: a gradient in θ with what is known about its error."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bilevel.differentiate.upper import Upper
from bilevel.ground.given import Typed
from bilevel.ground.theta import Theta
from bilevel.linear import LinearSolution
from bilevel.model.objective import Objective
from bilevel.solve import Solution

__all__ = ["Asked", "Hypergradient", "Method", "UpperGradient"]


@dataclass(frozen=True)
class UpperGradient:
    """∇L over the rows given (their mean), with bounds; (b,) tensors in float64.

    ``error`` bounds the error of each row's gradient and ``interval`` that of its ``corrected``
    value; inf where not proved. ``estimate`` is a number near the true error of ``grad``, not a
    bound, nan if it was not asked for.
    """

    value: Tensor
    """ℓ(x, target)."""
    corrected: Tensor
    """ℓ - qᵀ∇J, second order in the error of x."""
    interval: Tensor
    """|corrected - ℓ(x̂, target)| <= interval."""
    interval_estimate: Tensor
    """The same for a constant Hessian with the curvature that q met: an estimate, no bound."""
    grad: Theta
    error: Tensor
    estimate: float
    linear: LinearSolution | None
    """The adjoint q and how it was found; None for methods without one."""
    unsolved: Tensor
    """Rows whose adjoint system broke down, (b,) bool; they are missing from ``grad``."""
    count: Callable[[], Tensor]
    """Counts the kinks, for who asks."""

    @property
    def kinks(self) -> Tensor:
        """At most how many features may sit on a kink at x̂; 0: smooth there; inf: unknown."""
        return self.count()

    @property
    def bound(self) -> float:
        """A bound of ‖grad - ∇L‖: the mean of the rows' bounds."""
        return float(self.error.mean())


class Hypergradient(Typed, ABC):
    """A way to differentiate the solution of the lower level."""

    needs_state: ClassVar[bool] = False
    """Whether ``solution.state`` must be there: ``minimise(..., keep_state=True)``."""

    @abstractmethod
    def __call__(
        self,
        lower: Objective,
        upper: Upper,
        solution: Solution,
        *,
        rtol: float | None = None,
        start: Tensor | None = None,
        estimate: bool = False,
    ) -> UpperGradient:
        """Hypergradient at ``solution``.

        Args:
            lower: the lower level at fixed θ and y.
            upper: the loss at fixed targets.
            solution: of ``lower``.
            rtol: relative residual of adjoint systems; None: as accurate as the solution deserves.
            start: adjoint to start from.
            estimate: also estimate the true error, at some extra cost.
        """


@dataclass(frozen=True)
class Asked:
    """What a hypergradient is asked for, as :meth:`Hypergradient.__call__` tells."""

    upper: Upper
    solution: Solution
    rtol: float | None
    start: Tensor | None
    estimate: bool


class Method(Hypergradient):
    """A hypergradient of ours: it is asked only where the targets fit the solution."""

    @abstractmethod
    def found(self, lower: Objective, asked: Asked) -> UpperGradient:
        """Hypergradient of the mean over rows."""

    def __call__(
        self,
        lower: Objective,
        upper: Upper,
        solution: Solution,
        *,
        rtol: float | None = None,
        start: Tensor | None = None,
        estimate: bool = False,
    ) -> UpperGradient:
        """Hypergradient at ``solution``, whose targets are checked."""
        upper.check(lower.image(solution.x))
        return self.found(lower, Asked(upper, solution, rtol, start, estimate))

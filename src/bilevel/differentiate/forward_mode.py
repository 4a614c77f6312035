"""Hypergradients of the solver's own steps by forward mode: a tangent a parameter, no storage."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bilevel.differentiate.hypergradient import Hypergradient, UpperGradient
from bilevel.differentiate.iterates import as_hypergradient, check_solver
from bilevel.differentiate.upper import Upper
from bilevel.ground import rows
from bilevel.ground.theta import Theta
from bilevel.model.kinds import required
from bilevel.model.objective import Objective
from bilevel.model.saddle import Dual
from bilevel.solve import Solution, Solver, certify
from bilevel.solve.solvers import GradientDescent

__all__ = ["ForwardMode"]


@dataclass(frozen=True)
class ForwardMode(Hypergradient):
    """Tangents carried through more steps of a solver: memory does not grow with them.

    dℓ(x_K)/dθ where x_K is ``steps`` solver steps on from the solution given, by tangents.

    The tangents x_k' of the iterates are carried along (Franceschi et al. 2017); K steps for every
    entry of θ, so for few parameters only, but with the memory of two images. Equal to
    :class:`Unrolled` to rounding. Nothing is proved about the gradient.

    Args:
        steps: K.
        solver: gradient descent, Nesterov, or FISTA and PDHG where these fit.

    Raises:
        InputError: steps that are not positive, or a solver that cannot be differentiated.

    Example:
        >>> ForwardMode(100).steps
        100
    """

    steps: int
    solver: Solver[Any] = field(default_factory=GradientDescent)

    def __post_init__(self) -> None:
        """Check the options."""
        check_solver(self.solver, self.steps)

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
        """Hypergradient of the mean over rows at x_K; no linear system, hence no ``rtol``."""
        del rtol, start
        upper.check(solution.x)
        lower = required(lower, self.solver.takes, type(self.solver).__name__)
        x, dual = solution.x, None
        theta = lower.theta
        grad = {name: torch.zeros_like(value) for name, value in theta.items()}
        with torch.no_grad():
            for name, slopes in grad.items():
                for entry in range(slopes.numel()):
                    x, dual, tangent = self._tangent(lower, solution.x, theta, name, entry)
                    slopes.view(-1)[entry] = rows.inner(upper.grad(x), tangent).mean()
            found = certify(lower, x, dual=dual)
        return as_hypergradient(lower, upper, x, grad, found, estimate=estimate, dual=dual)

    def _tangent(
        self, lower: Objective, x: Tensor, theta: Theta, name: str, entry: int
    ) -> tuple[Tensor, Dual | None, Tensor]:
        """x_K, its dual variables, and its derivative by one entry of one parameter."""
        direction = torch.zeros_like(theta[name])
        direction.view(-1)[entry] = 1
        with forward_ad.dual_level():
            with torch.enable_grad(), warnings.catch_warnings():
                # what torch itself loads at the first dual number is deprecated
                warnings.simplefilter("ignore", DeprecationWarning)
                dual = forward_ad.make_dual(theta[name].requires_grad_(), direction)
            moving = lower.taped({**theta, name: dual})
            state = self.solver.init(lower, x)
            for _ in range(self.steps):
                state = self.solver.step(moving, state)
            primal, tangent = forward_ad.unpack_dual(state.x)
            dual = self.solver.dual(state)
            if dual is not None:
                dual = tuple(forward_ad.unpack_dual(p).primal for p in dual)
            return primal, dual, torch.zeros_like(primal) if tangent is None else tangent

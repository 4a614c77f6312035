"""Hypergradients of the solver's own steps by forward mode: a tangent a parameter, no storage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bilevel.differentiate.hypergradient import Asked, Method, UpperGradient
from bilevel.differentiate.iterates import as_hypergradient, check_solver
from bilevel.differentiate.tangents import dual_level, dual_number
from bilevel.ground import rows
from bilevel.ground.theta import Theta
from bilevel.model.kinds import required
from bilevel.model.objective import Objective
from bilevel.model.saddle import Dual
from bilevel.solve import Solver, certify
from bilevel.solve.solvers import GradientDescent

__all__ = ["ForwardMode"]


@dataclass(frozen=True)
class ForwardMode(Method):
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

    def found(self, lower: Objective, asked: Asked) -> UpperGradient:
        """Hypergradient of the mean over rows at x_K; no linear system, hence no tolerance."""
        lower = required(lower, self.solver.takes, type(self.solver).__name__)
        x, dual = asked.solution.x, None
        theta = lower.theta
        grad = {name: torch.zeros_like(value) for name, value in theta.items()}
        with torch.no_grad():
            for name, slopes in grad.items():
                for entry in range(slopes.numel()):
                    x, dual, tangent = self._tangent(lower, asked.solution.x, theta, name, entry)
                    slopes.view(-1)[entry] = rows.inner(asked.upper.grad(x), tangent).mean()
            found = certify(lower, x, dual=dual)
        return as_hypergradient(lower, asked, x, grad, found, dual)

    def _tangent(
        self, lower: Objective, x: Tensor, theta: Theta, name: str, entry: int
    ) -> tuple[Tensor, Dual | None, Tensor]:
        """x_K, its dual variables, and its derivative by one entry of one parameter."""
        with dual_level():
            moving = lower.taped({**theta, name: dual_number(theta[name], entry)})
            state = self.solver.init(lower, x)
            for _ in range(self.steps):
                state = self.solver.step(moving, state)
            primal, tangent = forward_ad.unpack_dual(state.x)
            dual = self.solver.dual(state)
            if dual is not None:
                dual = tuple(forward_ad.unpack_dual(p).primal for p in dual)
            return primal, dual, torch.zeros_like(primal) if tangent is None else tangent

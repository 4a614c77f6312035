"""Hypergradients of fixed-point maps that are no gradients: the adjoint of one step of a solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from bilevel.differentiate.adjoint import broken, relative_residual, usable
from bilevel.differentiate.hypergradient import Asked, Method, UpperGradient
from bilevel.differentiate.iterates import as_hypergradient
from bilevel.differentiate.saddle_adjoint import dual_of
from bilevel.ground import rows
from bilevel.ground.theta import derivative, leaves
from bilevel.linear import LinearMap, LinearSolver, linear_solver
from bilevel.model.composite import CompositeObjective
from bilevel.model.kinds import by_kind, has_dual
from bilevel.model.objective import Objective
from bilevel.model.saddle import SaddleObjective
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.solve.solvers import FISTA, PDHG, GradientDescent

__all__ = ["FixedPoint"]

Point = tuple[Tensor, ...]
Step = Callable[[Any, Point], Point]


@dataclass(frozen=True)
class FixedPoint(Method):
    """One linear system with the Jacobian of a step of the solver.

    ⟨w, ∂_θT⟩ with (I - ∂_zT)ᵀ w = ∇ℓ, where z = T(z) is one step of a solver at x̂.

    T is the gradient step for smooth energies, the proximal gradient step for composite ones, the
    step of PDHG on z = (x, p) for saddle problems (Bai, Kolter and Koltun 2019 for networks). It
    needs vector-Jacobian products of T alone, one a step of GMRES, two of BiCGStab. For PDHG
    I - ∂T may be singular, where p is not unique; the system stays solvable, and GMRES copes.
    :class:`Implicit` and :class:`Piggyback` need fewer steps where they apply. Nothing is proved.

    Args:
        linear: "gmres", which keeps up to 100 vectors, "bicgstab", or a linear solver.
        max_steps: limit of the linear solver.

    Raises:
        InputError: an unknown linear solver, or (when called) no Lipschitz constant, or a saddle
            problem whose solution does not carry a state of PDHG.

    Example:
        >>> FixedPoint("bicgstab").linear
        'bicgstab'
    """

    needs_state: ClassVar[bool] = True

    linear: LinearSolver | Literal["gmres", "bicgstab"] = "gmres"
    max_steps: int = 2000

    def __post_init__(self) -> None:
        """Check the options."""
        linear_solver(self.linear)

    def found(self, lower: Objective, asked: Asked) -> UpperGradient:
        """Hypergradient of the mean over rows; a start is ignored."""
        upper, solution, x = asked.upper, asked.solution, asked.solution.x
        dual = dual_of(solution, "FixedPoint") if has_dual(lower) else None
        z: Point = (x,) if dual is None else (x, *dual)
        rhs = torch.cat(
            [upper.grad(x).flatten(1), *(torch.zeros_like(p).flatten(1) for p in z[1:])], 1
        )
        solve, steps = linear_solver(self.linear), self.max_steps
        accuracy = relative_residual(asked)
        w = usable(solve(_Transposed(lower, z).map(), rhs, rtol=accuracy, max_steps=steps))
        with torch.enable_grad():
            learnable = leaves(lower.theta)
            image = _pack(_step_at(lower, x)(lower.taped(learnable), z))
            total = derivative((image * w.x).sum(), learnable)
        grad = {name: value / len(x) for name, value in total.items()}
        found = as_hypergradient(lower, asked, x, grad, solution.certificate, dual)
        first = replace(w, x=w.x[:, : x[0].numel()].reshape(x.shape))
        return replace(found, linear=first, unsolved=broken(w))


def _step_at(lower: Objective, x: Tensor) -> Step:
    """One step of the method that fits, with constants chosen at x."""
    with torch.no_grad():
        return by_kind(
            lower,
            smooth=lambda f: _descent(f, x),
            composite=lambda f: _proximal(f, x),
            saddle=lambda f: _primal_dual(f, x),
        )


def _primal_dual(lower: SaddleObjective, x: Tensor) -> Step:
    solver = PDHG(relaxation=1.0, acceleration=0.0)
    state = solver.init(lower, x)

    def step(objective: Any, z: Point) -> Point:
        done = solver.step(objective, replace(state, relaxed=z[0], relaxed_dual=z[1:]))
        return done.x, *done.dual

    return step


def _proximal(lower: CompositeObjective, x: Tensor) -> Step:
    solver = FISTA(restart=False)
    state = solver.init(lower, x)

    def step(objective: Any, z: Point) -> Point:
        return (solver.step(objective, replace(state, x=z[0], previous=z[0])).x,)

    return step


def _descent(lower: SmoothObjective, x: Tensor) -> Step:
    solver = GradientDescent()
    state = solver.init(lower, x)

    def step(objective: Any, z: Point) -> Point:
        return (solver.step(objective, replace(state, x=z[0])).x,)

    return step


@dataclass(frozen=True)
class _Transposed:
    """W -> (I - ∂T)ᵀ w on packed rows; the step is recorded when it is first needed."""

    lower: Objective
    z: Point

    @cached_property
    def tape(self) -> tuple[Tensor, Point]:
        with torch.enable_grad():
            point = tuple(part.detach().requires_grad_() for part in self.z)
            return _pack(_step_at(self.lower, self.z[0])(self.lower.taped({}), point)), point

    def map(self) -> LinearMap:
        return LinearMap(self.apply, self.restrict)

    def apply(self, w: Tensor) -> Tensor:
        image, point = self.tape
        return w - _pack(torch.autograd.grad(image, point, w, retain_graph=True))

    def restrict(self, index: Tensor) -> LinearMap:
        return _Transposed(self.lower.rows(index), rows.take(self.z, index)).map()


def _pack(z: Point) -> Tensor:
    return torch.cat([part.flatten(1) for part in z], 1)

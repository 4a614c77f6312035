"""A layer z = f_θ(z; y) that is solved, with gradients by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from bilevel.ground.checks import check_choice, check_nonnegative
from bilevel.ground.errors import InputError
from bilevel.ground.rows import norm
from bilevel.linear import GMRES, LinearMap, LinearSolution, LinearStatus, bicgstab
from deep_equilibrium.solvers import Anderson, FixedPointSolution, Method, Status, solve_fixed_point

__all__ = ["DeepEquilibrium", "Equilibrium"]


@dataclass(frozen=True)
class Equilibrium:
    """What the layer found.

    Attributes:
        z: (b, ...) the fixed point, with its gradient; the very numbers of ``solution.z``.
        solution: residual, status and steps of each row.
        adjoints: how the linear system of each backward pass through ``z`` ended, in their order;
            its x is q.
    """

    z: Tensor
    solution: FixedPointSolution
    adjoints: list[LinearSolution] = field(default_factory=list)


class DeepEquilibrium(nn.Module):
    """z = f_θ(z; y) by any solver forward, and (I - ∂_zf)ᵀ q = v backward.

    Nothing of the forward iterations is kept: the gradient is ⟨q, ∂f⟩ at the fixed point, which
    needs the tape of one application of f, however many there were. f must treat rows
    independently (no batch normalisation in training mode) and deterministically. Where rows did
    not converge, forward or backward, the reports say so and the gradient is approximate; call
    ``require()`` on them to insist.

    Source: Bai, Kolter & Koltun (2019), arXiv 1909.01377, theorem 1.

    Args:
        cell: f, a module called with z (b, ...) and y (b, ...) that returns what z is like.
        start: y -> the first z (b, ...).
        method: the forward solver.
        rtol: forward tolerance, ‖f(z) - z‖ <= rtol ‖f(z)‖ [1].
        max_steps: most forward steps.
        backward: "gmres", "bicgstab" or "anderson".
        backward_rtol: backward tolerance, ‖v - (I - ∂f)ᵀ q‖ <= backward_rtol ‖v‖ [1].
        backward_max_steps: most backward steps.

    Raises:
        InputError: an unknown backward solver, or an option out of its range.

    Example:
        >>> from deep_equilibrium.networks import DenseCell
        >>> layer = DeepEquilibrium(DenseCell(3, 4), lambda y: y.new_zeros(len(y), 4))
        >>> found = layer(torch.ones(2, 3))
        >>> found.z.sum().backward()
        >>> bool(found.solution.converged.all()), bool(found.adjoints[0].converged.all())
        (True, True)
    """

    SOLVERS: ClassVar[tuple[str, ...]] = ("gmres", "bicgstab", "anderson")

    def __init__(
        self,
        cell: nn.Module,
        start: Callable[[Tensor], Tensor],
        *,
        method: Method | None = None,
        rtol: float = 1e-4,
        max_steps: int = 100,
        backward: str = "gmres",
        backward_rtol: float = 1e-4,
        backward_max_steps: int = 100,
    ) -> None:
        super().__init__()
        self.cell, self.start = cell, start
        self.method = Anderson() if method is None else method
        self.rtol = check_nonnegative(rtol, "rtol")
        self.backward = check_choice(backward, self.SOLVERS, "backward solver")
        self.backward_rtol = check_nonnegative(backward_rtol, "backward_rtol")
        if min(max_steps, backward_max_steps) < 1:
            raise InputError(
                "max_steps and backward_max_steps must be at least 1",
                given=(max_steps, backward_max_steps),
            )
        self.max_steps, self.backward_max_steps = max_steps, backward_max_steps

    def forward(self, y: Tensor, start: Tensor | None = None) -> Equilibrium:
        """The fixed point for each row of y (b, ...), from ``start`` if it is given.

        Raises:
            InputError: f changes the shape of z; or (in a backward pass) a second derivative is
                asked for.
        """
        first = self.start(y.detach()) if start is None else start
        solution = solve_fixed_point(
            lambda z, rows: self.cell(z, y[rows]),
            first,
            self.method,
            rtol=self.rtol,
            max_steps=self.max_steps,
        )
        if not torch.is_grad_enabled():
            return Equilibrium(solution.z, solution)
        image = self.cell(solution.z, y)
        if not image.requires_grad:
            return Equilibrium(solution.z, solution)
        transposed = _Transposed(self.cell, solution.z, y.detach())
        adjoints: list[LinearSolution] = []

        def adjoint(v: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                raise InputError(
                    "a deep equilibrium has first derivatives only",
                    advice="call backward() without create_graph",
                )
            adjoints.append(self._solve(transposed, v))
            return adjoints[-1].x

        image.register_hook(adjoint)
        return Equilibrium(solution.z + (image - image.detach()), solution, adjoints)

    def _solve(self, transposed: _Transposed, v: Tensor) -> LinearSolution:
        rtol, steps = self.backward_rtol, self.backward_max_steps
        if self.backward == "anderson":
            return _by_anderson(transposed, v, rtol, steps)
        solver = GMRES(min(steps, 30)) if self.backward == "gmres" else bicgstab
        return solver(transposed.map(), v, rtol=rtol, max_steps=steps)


def _by_anderson(transposed: _Transposed, v: Tensor, rtol: float, steps: int) -> LinearSolution:
    def image(q: Tensor, rows: Tensor) -> Tensor:
        part = transposed if len(rows) == len(v) else transposed.rows(rows)
        return v[rows] + part.product(q)

    found = solve_fixed_point(
        image, torch.zeros_like(v), Anderson(), atol=rtol * norm(v), max_steps=steps
    )
    names = {s: LinearStatus[s.name] for s in Status}
    status = torch.tensor([names[Status(s)] for s in found.status.tolist()], device=v.device)
    return LinearSolution(found.z, found.residual, found.steps, status, found.evaluations)


@dataclass(frozen=True)
class _Transposed:
    """q -> (I - ∂_zf)ᵀ q at z; f is recorded when it is first needed."""

    cell: nn.Module
    z: Tensor
    y: Tensor

    @cached_property
    def tape(self) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            point = self.z.detach().requires_grad_()
            return self.cell(point, self.y), point

    def product(self, q: Tensor) -> Tensor:
        image, point = self.tape
        return torch.autograd.grad(image, point, q, retain_graph=True)[0]

    def rows(self, index: Tensor) -> _Transposed:
        return _Transposed(self.cell, self.z[index], self.y[index])

    def map(self) -> LinearMap:
        return LinearMap(lambda q: q - self.product(q), lambda index: self.rows(index).map())

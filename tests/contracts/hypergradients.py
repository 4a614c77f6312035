"""Problems with known derivatives, and every hypergradient method."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

import bilevel as bl
from bilevel.differentiate import (
    EquilibriumPropagation,
    ForwardMode,
    Hypergradient,
    Implicit,
    JacobianFree,
    Neumann,
    Shine,
    Unrolled,
    Upper,
    ValueFunction,
    finite_differences,
)
from bilevel.ground import theta as algebra
from bilevel.ground.theta import bind, learnable
from bilevel.model import SmoothObjective
from bilevel.solve import Solution, Tolerance, certify, minimise
from bilevel.solve.solvers import LBFGS, Nesterov
from contracts.zoo import Case, dense_hessian, make, reference

FIRST = 3
LOSS = bl.losses.SquaredError()
CONVEX = ("tikhonov", "tv huber", "tv charbonnier", "foe student-t")
NON_CONVEX = "non-convex foe student-t"
PROBLEMS = (*CONVEX, NON_CONVEX)


@dataclass(frozen=True)
class Problem:
    """A case with its exact solution, dense adjoint and finite differences at some entries."""

    case: Case
    solution: Solution
    adjoint: Tensor
    hessian: Tensor
    differences: bl.Theta

    @property
    def lower(self) -> SmoothObjective:
        return self.case.energy.at(self.case.y)

    @property
    def upper(self) -> Upper:
        return Upper(LOSS, self.case.target)

    def error(self, grad: bl.Theta) -> float:
        """Against finite differences, over the entries compared."""
        first = {k: v.flatten()[:FIRST] for k, v in grad.items()}
        return algebra.norm(algebra.add(first, self.differences, -1.0))

    def without_filters(self) -> Problem:
        """The same with few parameters."""
        energy = copy.deepcopy(self.case.energy)
        for name, parameter in energy.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and "filters" not in name)
        case = Case(energy, self.case.y, self.case.target)
        differences = {k: v for k, v in self.differences.items() if k in learnable(energy)}
        return replace(self, case=case, differences=differences)


def case_of(name: str) -> Case:
    """Well conditioned, so that all methods get there; no feature on a kink."""
    if name != NON_CONVEX:
        for seed in range(200):
            case = make("circular", name, seed, torch.float64)
            bounds = case.energy.at(case.y).bounds
            if float(bounds.lipschitz / bounds.mu) < 10:
                return case
        raise AssertionError("every draw is ill-conditioned")
    torch.manual_seed(1)
    filters = torch.zeros(2, 1, 2, 2)
    filters[0, 0, 0] = filters[1, 0, :, 0] = torch.tensor([1.0, -1.0])
    everything = ("filters", "weight", "smoothing")
    foe = bl.regularisers.FieldsOfExperts(
        filters, 0.05, 0.04, potential="student-t", learn=everything
    )
    energy = bl.Variational(bl.fidelities.SquaredL2(), foe).double()
    target = torch.rand(1, 1, 6, 8).double()
    return Case(energy, target + 0.1 * torch.randn(1, 1, 6, 8).double(), target)


@cache
def problem(name: str) -> Problem:
    case = case_of(name)
    lower = case.energy.at(case.y)
    tol = Tolerance(residual=1e-9)
    found = minimise(lower, LBFGS(), tol=tol, keep_state=True, max_steps=5000).require()
    x = reference(case.energy, found.x, case.y)
    solution = Solution(x, certify(lower, x), found.status, found.steps, tol, found.state)
    hessian = dense_hessian(case.energy, x, case.y)
    rhs = LOSS.grad(x, case.target).flatten()
    adjoint = torch.linalg.solve(hessian, rhs).reshape(x.shape)
    theta = learnable(case.energy)

    def loss(some: bl.Theta) -> float:
        moved = {k: v.clone() for k, v in theta.items()}
        for key, value in some.items():
            moved[key].view(-1)[:FIRST] = value
        energy = bind(case.energy, moved)
        return float(LOSS.value(reference(energy, x, case.y), case.target))

    first = {k: v.flatten()[:FIRST].clone() for k, v in theta.items()}
    coarse, fine = (finite_differences(loss, first, step) for step in (2e-4, 1e-4))
    differences = {k: (4 * fine[k] - coarse[k]) / 3 for k in fine}
    return Problem(case, solution, adjoint, hessian, differences)


def sensitivity(p: Problem) -> float:
    """‖B‖ at the solution, from the proved bound."""
    nothing = torch.zeros(1, dtype=torch.float64)
    return float(p.lower.variation(p.solution.x, p.adjoint, nothing).cross_norm)


def rate(p: Problem, step: float) -> float:
    """ρ = ‖I - s H‖ at the solution."""
    return float((1 - step * torch.linalg.eigvalsh(p.hessian)).abs().max())


def descent(p: Problem) -> float:
    bounds = p.lower.bounds
    mu = bounds.proved_mu()
    return float(torch.where(mu > 0, 2 / (bounds.lipschitz + mu), 1 / bounds.lipschitz))


BOUNDED: dict[str, Hypergradient] = {
    "neumann": Neumann(5),
    "one step": JacobianFree(),
    "equilibrium": EquilibriumPropagation(1e-3, max_steps=20),
    "equilibrium, strong": EquilibriumPropagation(0.05, max_steps=5),
    "value function": ValueFunction(1e4, max_steps=20),
    "value function, weak": ValueFunction(30, max_steps=5),
    "shine": Shine(),
    "shine refined": Shine(steps=3),
}


EVERY: dict[str, Hypergradient] = {
    **BOUNDED,
    "implicit": Implicit(),
    "unrolled": Unrolled(10, Nesterov()),
    "forward": ForwardMode(4),
}

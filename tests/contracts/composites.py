"""Random problems f + h with learned weights, their exact solutions, and dense derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.linear import LinearMap
from bilevel.model import CompositeObjective
from bilevel.solve import Solution, Status, Tolerance, certify, minimise
from bilevel.solve.solvers import FISTA
from contracts.zoo import OPERATORS, REGULARISERS, SHAPE, Case, log_uniform, normal

KINDS = ("box", "absolute", "data", "box and absolute", "box and data")
SMOOTH = ("tikhonov", "tv huber", "tv charbonnier", "foe log-cosh", "ridge")


def make(kind: str, regulariser: str, seed: int, *, blurred: bool = True, batch: int = 1) -> Case:
    """Strongly convex: a smooth term, a ridge, and a box, a sparsity or an L1 fidelity."""
    rng = generator(seed, kind, regulariser)
    names = [name for name in OPERATORS if blurred or name == "identity"]
    a = OPERATORS["identity" if "data" in kind else names[seed % len(names)]](rng)
    parts = REGULARISERS[regulariser](rng)
    parts = parts + bl.regularisers.Tikhonov(log_uniform(rng, -1, 0))
    if "box" in kind:
        parts = parts + bl.regularisers.Box(0.2, 0.6)
    if "absolute" in kind:
        parts = parts + bl.regularisers.Sparsity(log_uniform(rng, -2, -0.7))
    weight = {"weight": log_uniform(rng, -0.7, 0), "learn": ("weight",)}
    fidelity = bl.fidelities.L1 if "data" in kind else bl.fidelities.SquaredL2
    energy = bl.Variational(fidelity(a, **weight), parts).double()  # type: ignore[arg-type]
    target = torch.rand(batch, *SHAPE, generator=rng).double()
    clean = a.double()(target)
    y = clean + 0.2 * normal(rng, *clean.shape).double()
    return Case(energy, y.detach(), target)


def lower_of(case: Case, theta: bl.Theta | None = None) -> CompositeObjective:
    objective = case.energy.at(case.y, theta)
    assert isinstance(objective, CompositeObjective)
    return objective


def dense(operator: LinearMap, like: Tensor) -> Tensor:
    """The matrix of one row."""
    columns = [operator(e.reshape(like.shape)).flatten() for e in torch.eye(like.numel()).to(like)]
    return torch.stack(columns, 1)


def exact(lower: CompositeObjective, near: Tensor | None = None) -> Solution:
    """To rounding: Newton's method in the free pixels of an accurate solution of one row."""
    for accuracy in (1e-5, 1e-8, 1e-11):
        x = minimise(lower, FISTA(), near, tol=Tolerance(rms=accuracy), max_steps=50_000).x
        for _ in range(6):
            slope = lower.subgradient(x)
            if float(slope.norm()) < 1e-13:
                break
            step = torch.linalg.solve(dense(lower.hessian(x), x), slope.flatten())
            x = lower.project(x - step.reshape(x.shape))
        if float(lower.subgradient(x).norm()) < 1e-11:
            return as_solution(lower, x)
    raise AssertionError("the reference itself did not converge")


def as_solution(lower: CompositeObjective, x: Tensor) -> Solution:
    status = torch.full((len(x),), int(Status.CONVERGED))
    steps, tol = torch.zeros_like(status), Tolerance(rms=1.0)
    return Solution(x, certify(lower, x), status, steps, tol)

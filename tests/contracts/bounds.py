"""Random problems with exact hypergradients, and every method that claims a bound on them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import bilevel as bl
from bilevel.differentiate import (
    EquilibriumPropagation,
    Hypergradient,
    Implicit,
    JacobianFree,
    Neumann,
    Shine,
    Unrolled,
    ValueFunction,
)
from bilevel.ground import theta as algebra
from bilevel.ground.randomness import generator
from bilevel.model import Objective
from bilevel.solve import Tolerance, certify, minimise
from bilevel.solve.solvers import LBFGS
from contracts.zoo import Case, Random, log_uniform, make, slope

Setting = tuple[str, Hypergradient, float | None]
"""Name, method, rtol."""


@dataclass(frozen=True)
class Known:
    """A problem with the exact hypergradient and loss of its float64 version."""

    case: Case
    loss: bl.losses.Loss
    grad: bl.Theta
    value: Tensor
    size: float
    """‖∇ℓ‖."""

    @property
    def lower(self) -> Objective:
        return self.case.energy.at(self.case.y)

    @property
    def upper(self) -> bl.Upper:
        return bl.Upper(self.loss, self.case.target)


@dataclass(frozen=True)
class Claim:
    """What a method claims and what is true: of the gradient and of the value."""

    method: str
    error: float
    bound: float
    off: float
    interval: float
    rounding: float
    """Of the truth itself."""

    @property
    def violated(self) -> bool:
        gradient = self.error <= self.bound * (1 + 1e-9) + self.rounding
        return not (gradient and self.off <= self.interval * (1 + 1e-9) + 0.01 * self.rounding)


def known(operator: str, regulariser: str, seed: int, loss: bl.losses.Loss) -> Known:
    """A draw of the zoo, in float32 where the seed is odd."""
    dtype = torch.float32 if seed % 2 else torch.float64
    return known_of(make(operator, regulariser, seed, dtype), loss)


def known_of(case: Case, loss: bl.losses.Loss) -> Known:
    """A problem with its truth."""
    double = Case(copy.deepcopy(case.energy).double(), case.y.double(), case.target.double())
    lower, upper = double.energy.at(double.y), bl.Upper(loss, double.target)
    near = minimise(lower, LBFGS(), tol=Tolerance(rms=1e-3), max_steps=2000)
    exact = polished(double, near.x)
    at = replace(near, x=exact, certificate=certify(lower, exact))
    truth = Implicit()(lower, upper, at, rtol=1e-13)
    return Known(case, loss, truth.grad, truth.value, float(upper.grad(exact).norm()))


def polished(case: Case, x: Tensor) -> Tensor:
    """The exact minimiser near x by Newton steps; autograd of the value alone says it is one."""
    pixels = x[0].numel()
    basis = torch.eye(pixels, dtype=x.dtype).reshape(pixels, *x.shape[1:])
    copies = case.y.expand(pixels, *case.y.shape[1:])
    floor = 1e-12 + 1e-15 * float(case.y.norm())
    for _ in range(20):
        gradient = slope(case.energy, x, case.y)
        if float(gradient.norm()) < floor:
            return x
        hessian = case.energy.hessian(x.expand_as(basis), copies)(basis).detach().flatten(1)
        x = x - torch.linalg.solve(hessian, gradient.flatten()).reshape(x.shape)
    raise AssertionError("the reference itself did not converge")


def settings(rng: Random) -> Iterator[Setting]:
    """Every method with a bound of gradients or of values, its options at random."""

    def steps(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=rng))

    yield "implicit", Implicit(("cg", "minres")[steps(0, 2)]), (0.3, 1e-3, None)[steps(0, 3)]
    yield "Neumann", Neumann(steps(1, 20)), 0.0
    yield "one step", JacobianFree(), 0.0
    pull = log_uniform(rng, -6, -1)
    yield "equilibrium propagation", EquilibriumPropagation(pull, max_steps=steps(5, 12)), None
    pull = log_uniform(rng, -6, -1)
    yield "value function", ValueFunction(1 / pull, max_steps=steps(5, 12)), None
    yield "SHINE", Shine(steps(0, 5)), None
    yield "unrolled", Unrolled(steps(1, 5)), None


def claims(problem: Known, seed: int) -> Iterator[Claim]:
    """At one solution of random accuracy, what every method claims."""
    rng = generator(seed, "settings")
    single = problem.case.y.dtype == torch.float32
    lower, upper, tol = problem.lower, problem.upper, log_uniform(rng, -4 if single else -6, -1)
    solution = minimise(lower, LBFGS(), tol=Tolerance(rms=tol), keep_state=True, check_every=1)
    rounding = 1e-12 * max(1.0, problem.size)
    for name, method, rtol in settings(rng):
        found = method(lower, upper, solution, rtol=rtol)
        grad = {k: v.double() for k, v in found.grad.items()}
        yield Claim(
            name,
            algebra.norm(algebra.add(grad, problem.grad, -1.0)),
            found.bound,
            float((found.corrected - problem.value).abs()),
            float(found.interval),
            rounding,
        )

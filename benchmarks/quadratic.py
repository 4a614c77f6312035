"""Lower-level work to learn 4 parameters of a quadratic problem, by its condition number.

    python benchmarks/quadratic.py [--instances N] [--conditions 2,5,10] [--methods automatic,MAID]

min_θ ½‖A₁ x(θ) - b₁‖² with x(θ) = argmin ½‖A₂ x + A₃ θ - b₂‖², 80 unknowns, 4 parameters; the
singular values of A₁, A₂ and A₃ are spread geometrically over [1, κ]. Work is what it takes until
the relative gap (F(θ) - min F)/(F(θ_0) - min F), found in closed form, is at most 5e-3: gradients
and Hessian-vector products of the lower level. The best fixed ε and step are found by search for
each instance; with the others nothing is tuned.
"""

from __future__ import annotations

import math
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import parser, save, table
from torch import Tensor

import bilevel as bl
from bilevel.learn import Algorithm, Status
from bilevel.learn.algorithms import HOAG, MAID, Automatic, ProjectedGradient
from bilevel.learn.schedules import Constant, Polynomial
from bilevel.model import Bounds
from bilevel.model.losses import Loss

UNKNOWNS, PARAMETERS, GAP = 80, 4, 5e-3
CONDITIONS = (2, 5, 10, 20, 30)
MOST = 150_000
FIXED = (1e-2, 3e-2, 1e-1, 3e-3, 1e-3, 1e-4)


class LeastSquares(bl.Energy):
    """½‖A₂ x + A₃ θ - b₂‖²."""

    def __init__(self, a2: Tensor, a3: Tensor, b2: Tensor) -> None:
        super().__init__()
        for name, value in (("a2", a2), ("a3", a3), ("b2", b2)):
            self.register_buffer(name, value)
        self.theta = torch.nn.Parameter(torch.zeros(a3.shape[1], dtype=a3.dtype))
        singular = torch.linalg.svdvals(a2)
        self.constants = Bounds.of(singular[-1] ** 2, singular[0] ** 2)

    def rest(self, x: Tensor) -> Tensor:
        """A₂ x + A₃ θ - b₂."""
        return x.flatten(1) @ self.a2.mT + (self.a3 @ self.theta - self.b2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """J."""
        return 0.5 * self.rest(x).square().sum(1)

    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        """A₂ᵀ(A₂ x + A₃ θ - b₂)."""
        return (self.rest(x) @ self.a2).view_as(x)

    def bounds(self, y: Tensor) -> Bounds:
        """Exactly."""
        return self.constants


@dataclass(frozen=True)
class Misfit(Loss):
    """½‖A₁ x - target‖²."""

    a1: Tensor

    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """(b,)."""
        return 0.5 * (x.flatten(1) @ self.a1.mT - target.flatten(1)).square().sum(1)

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """A₁ᵀ(A₁ x - target)."""
        return ((x.flatten(1) @ self.a1.mT - target.flatten(1)) @ self.a1).view_as(x)

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """‖A₁‖², exactly and everywhere."""
        return torch.full_like(radius, float(torch.linalg.matrix_norm(self.a1, 2)) ** 2).double()


@dataclass(frozen=True)
class Instance:
    """One random problem, and its loss in closed form."""

    energy: LeastSquares
    loss: Misfit
    target: Tensor

    @staticmethod
    def random(condition: float, seed: int) -> Instance:
        """Everything from a seed."""
        g = torch.Generator().manual_seed(seed)

        def matrix(columns: int) -> Tensor:
            left, right = (
                torch.linalg.qr(torch.randn(n, columns, generator=g).double())[0]
                for n in (UNKNOWNS, columns)
            )
            return left * torch.logspace(0, math.log10(condition), columns).double() @ right.mT

        a1, a2, a3 = matrix(UNKNOWNS), matrix(UNKNOWNS), matrix(PARAMETERS)
        b1, b2 = torch.randn(2, UNKNOWNS, generator=g).double()
        return Instance(LeastSquares(a2, a3, b2), Misfit(a1), b1.view(1, 1, 8, 10))

    @property
    def jacobian(self) -> Tensor:
        """Of A₁ x(θ)."""
        return -self.loss.a1 @ torch.linalg.solve(self.energy.a2, self.energy.a3)

    @property
    def offset(self) -> Tensor:
        """A₁ x(0) - b₁."""
        x = torch.linalg.solve(self.energy.a2, self.energy.b2)
        return self.loss.a1 @ x - self.target.flatten()

    def problem(self) -> bl.BilevelProblem:
        """Anew, without warm starts."""
        nothing = torch.zeros(1, 1, 8, 10, dtype=torch.float64)
        pairs = bl.data.Pairs(nothing, self.target, ("one",))
        return bl.BilevelProblem(self.energy, self.loss, pairs)

    def gap(self, theta: Tensor) -> float:
        """(F(θ) - min F)/(F(0) - min F)."""
        best = torch.linalg.lstsq(self.jacobian, -self.offset[:, None]).solution[:, 0]
        step = self.jacobian @ (theta - best)
        first = self.jacobian @ best
        return float((step @ step) / (first @ first))


Work = tuple[float, float]
"""Gradients, and gradients and Hessian-vector products together."""


def work(instance: Instance, algorithm: Algorithm[Any], most: float = MOST) -> Work:
    """What it takes to reach the gap; infinite if it is not, or not within ``most`` gradients."""
    problem = instance.problem()
    state, cost = algorithm.init(problem, problem.theta), problem.cost
    while instance.gap(state.evaluation.theta["theta"]) > GAP:
        if state.status is not Status.RUNNING or cost.gradient_evaluations >= most:
            return math.inf, math.inf
        state = algorithm.step(problem, state)
    return cost.gradient_evaluations, cost.gradient_evaluations + cost.hvps


def best_fixed(instance: Instance) -> Work:
    """The fewest gradients over fixed accuracies and steps in units of 1/L of F."""
    lipschitz = float(torch.linalg.matrix_norm(instance.jacobian, 2)) ** 2
    least = math.inf, math.inf
    for epsilon in FIXED:
        for factor in (1.0, 1.5, 1.9):
            method = ProjectedGradient(Constant(epsilon), step_size=factor / lipschitz)
            least = min(least, work(instance, method, most=min(least[0], MOST)))
    return least


TIGHT = 1e-8
"""Of the tests that end a fit, which must not come before the gap is reached."""

METHODS: dict[str, Algorithm[Any]] = {
    "MAID": MAID(tol=TIGHT),
    "accelerated MAID": MAID(accelerated=True, tol=TIGHT),
    "HOAG": HOAG(tol=TIGHT),
    "automatic": Automatic(tol=TIGHT),
    "Algorithm 1": ProjectedGradient(Polynomial(), tol=TIGHT),
}


def spread(values: list[Work]) -> str:
    """Mean (least to greatest) gradients + products; how many fell short."""
    met = [v for v in values if math.isfinite(v[0])]
    if not met:
        return "none"
    gradients = [v[0] for v in met]
    products = statistics.mean(v[1] - v[0] for v in met)
    missed = "" if len(met) == len(values) else f", {len(values) - len(met)} missed"
    mean, low, high = statistics.mean(gradients), min(gradients), max(gradients)
    return f"{mean:.0f} ({low:.0f} to {high:.0f}) + {products:.0f}{missed}"


def main() -> None:
    """One line a method, one column a condition number."""
    found: dict[str, dict[int, list[Work]]] = {}
    options = parser(__doc__ or "")
    options.add_argument("--instances", type=int, default=10)
    options.add_argument("--conditions", default=",".join(map(str, CONDITIONS)))
    options.add_argument("--methods", default=",".join(METHODS))
    chosen = options.parse_args()
    methods = {name: METHODS[name] for name in chosen.methods.split(",")}
    torch.set_num_threads(chosen.threads)
    count = chosen.instances
    conditions = [int(c) for c in chosen.conditions.split(",")]
    parts = [] if len(methods) == len(METHODS) else list(methods)
    parts += [] if conditions == list(CONDITIONS) else list(map(str, conditions))
    file = "_".join(["quadratic", *parts]).replace(" ", "_")
    for condition in conditions:
        instances = [Instance.random(condition, seed) for seed in range(count)]
        for name, method in methods.items():
            found.setdefault(name, {})[condition] = [work(i, method) for i in instances]
        found.setdefault("best fixed ε and step", {})[condition] = [
            best_fixed(i) for i in instances
        ]
        print(condition, {name: spread(by[condition]) for name, by in found.items()}, flush=True)
        so_far = conditions[: conditions.index(condition) + 1]
        lines = [[name, *(spread(by[c]) for c in so_far)] for name, by in found.items()]
        save(file, table(["method", *map(str, so_far)], lines), {"work": found})


if __name__ == "__main__":
    main()

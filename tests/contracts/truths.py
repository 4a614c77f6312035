"""Exact solutions of drawn problems in float64, with how far off they may be."""

from __future__ import annotations

import copy
from functools import cached_property

import torch
from torch import Tensor

import bilevel as bl
from bilevel.differentiate import Implicit, Upper
from bilevel.ground import theta as algebra
from bilevel.model import CompositeObjective, SaddleObjective, SmoothObjective
from bilevel.model.objective import Objective
from bilevel.solve import Tolerance, minimise
from bilevel.solve.solvers import LBFGS
from contracts import composites
from contracts.drawn import Drawn
from contracts.zoo import normal, slope

DOUBLE = torch.float64


class Truth:
    """A minimising state of one row, and how far off it may be; ``None`` where not found."""

    def __init__(self, drawn: Drawn) -> None:
        self.drawn = drawn
        self.energy = copy.deepcopy(drawn.energy).double()
        self.y = drawn.y.double()
        self.lower: Objective = drawn.energy.at(drawn.y).double()
        self.upper = Upper(drawn.loss.double(), drawn.target.double())
        self.x, self.off = self.solved()

    def solved(self) -> tuple[Tensor, float]:
        """The state, and how far off."""
        raise NotImplementedError

    @property
    def known(self) -> bool:
        """Whether it is of use."""
        return self.off < 1e-6 * self.drawn.unit * self.x.numel() ** 0.5

    @cached_property
    def image(self) -> Tensor:
        """Of the state."""
        return self.lower.image(self.x)

    @cached_property
    def lowest(self) -> float:
        """J there."""
        return self.height(self.x)

    def height(self, x: Tensor) -> float:
        """J in float64."""
        with torch.no_grad():
            return float(self.lower.value(x))

    @cached_property
    def value(self) -> float:
        """ℓ at the minimiser."""
        return float(self.upper.value(self.x))

    @cached_property
    def value_room(self) -> float:
        """How far it may be off."""
        return 2 * float(self.upper.grad(self.x).norm()) * self.off + 1e-14 * abs(self.value)

    def directions(self) -> dict[str, Tensor]:
        """Of the state: across kinks, away from them, and at random."""
        x, rng = self.x, self.drawn.rng
        middle = x.mean((2, 3), keepdim=True)
        pixel = torch.zeros_like(x).flatten()
        pixel[int(torch.randint(x.numel(), (), generator=rng))] = 1.0
        return {
            "flat": middle - x,
            "steep": x - middle,
            "pixel": pixel.reshape(x.shape),
            "random": normal(rng, *x.shape).double(),
            "towards zero": -x,
            "checks": normal(rng, *x.shape).sign().double(),
        }


class Known(Truth):
    """With the hypergradient there."""

    def gradient(self, x: Tensor) -> bl.Theta:
        """As if x were the minimiser."""
        raise NotImplementedError

    @cached_property
    def grad(self) -> bl.Theta:
        """The hypergradient."""
        return self.gradient(self.x)

    @cached_property
    def room(self) -> float:
        """How far it may be from the exact one."""
        shift = normal(torch.Generator().manual_seed(0), *self.x.shape).double()
        moved = self.gradient(self.lower.project(self.x + self.off * shift / shift.norm()))
        change = algebra.norm(algebra.add(moved, self.grad, -1.0))
        return 4 * change + self.sharpness * algebra.norm(self.grad)

    @property
    def sharpness(self) -> float:
        """Relative rounding of the hypergradient."""
        return 1e-10


class Smooth(Known):
    """By Newton's method with all eigenvalues."""

    def solved(self) -> tuple[Tensor, float]:
        assert isinstance(self.lower, SmoothObjective)
        near = minimise(
            self.lower, LBFGS(), tol=Tolerance(rms=1e-4 * self.drawn.unit), max_steps=500
        )
        x = self.newton(near.x if bool(near.x.isfinite().all()) else self.lower.start())
        self.values, self.vectors = torch.linalg.eigh(self.dense(x))
        if float(self.values[0]) <= 0:
            return x, torch.inf
        left = float(slope(self.energy, x, self.y).norm())
        eps = torch.finfo(DOUBLE).eps
        terms = float(self.lower.rounding(x))
        size = terms if terms < torch.inf else 8 * eps * float(self.values[-1]) * float(x.norm())
        return x, 2 * (left + 4 * size) / float(self.values[0])

    def dense(self, x: Tensor) -> Tensor:
        """The Hessian written out."""
        n = x.numel()
        basis = torch.eye(n, dtype=DOUBLE).reshape(n, *x.shape[1:])
        copies = self.y.expand(n, *self.y.shape[1:])
        matrix = self.energy.hessian(x.expand_as(basis), copies)(basis).detach().flatten(1)
        return (matrix + matrix.T) / 2

    def newton(self, x: Tensor) -> Tensor:
        """The critical point that damped Newton steps reach from x."""
        gradient = slope(self.energy, x, self.y)
        for _ in range(60):
            before, scale = float(gradient.norm()), 1.0
            if before == 0:
                break
            step = self.step(x, gradient)
            while True:
                trial = x - scale * step
                gradient = slope(self.energy, trial, self.y)
                if float(gradient.norm()) < before or scale < 1e-8:
                    break
                scale /= 2
            if not float(gradient.norm()) < before:
                break
            x = trial
        return x

    def step(self, x: Tensor, gradient: Tensor) -> Tensor:
        """H⁻¹∇J."""
        return torch.linalg.solve(self.dense(x), gradient.flatten()).reshape(x.shape)

    def adjoint(self, x: Tensor) -> Tensor:
        """H(x)⁻¹ ∇ℓ(x)."""
        return self.step(x, self.upper.grad(x))

    def gradient(self, x: Tensor) -> bl.Theta:
        assert isinstance(self.lower, SmoothObjective)
        return {k: -v for k, v in self.lower.cross_vjp(x, self.adjoint(x)).items()}

    @property
    def sharpness(self) -> float:
        return 1e-15 * float(self.values.abs().max() / self.values.abs().min()) + 1e-12

    def directions(self) -> dict[str, Tensor]:
        ends = {"soft": self.vectors[:, 0], "stiff": self.vectors[:, -1]}
        bent = {name: v.reshape(self.x.shape) for name, v in ends.items()}
        return {**super().directions(), **bent, "adjoint": self.adjoint(self.x)}


class Wide(Smooth):
    """One of many states with the same image."""

    def solved(self) -> tuple[Tensor, float]:
        assert isinstance(self.lower, SmoothObjective)
        tol = Tolerance(residual=1e-3 * self.energy.stiffness(self.drawn.unit) * self.drawn.unit)
        near = minimise(self.lower, LBFGS(), tol=tol, max_steps=100)
        x = self.newton(near.x)
        self.values, self.vectors = torch.linalg.eigh(self.dense(x))
        left = float(slope(self.energy, x, self.y).norm())
        least = float(self.lower.image_mu)
        return x, 100 * left / least

    def step(self, x: Tensor, gradient: Tensor) -> Tensor:
        inverse = torch.linalg.pinv(self.dense(x), rtol=1e-10, hermitian=True)
        return (inverse @ gradient.flatten()).reshape(x.shape)


class Composite(Known):
    """By Newton's method in the free pixels."""

    def solved(self) -> tuple[Tensor, float]:
        assert isinstance(self.lower, CompositeObjective)
        x = composites.exact(self.lower).x
        left = float(self.lower.subgradient(x).norm())
        return x, 2 * (left + 1e-14 * x.numel()) / float(self.lower.bounds.mu)

    def gradient(self, x: Tensor) -> bl.Theta:
        return Implicit()(
            self.lower, self.upper, composites.as_solution(self.lower, x), rtol=1e-13
        ).grad


class Rough(Truth):
    """By the alternating direction method on dense matrices: quadratics and dual terms."""

    def solved(self, steps: int = 10_000) -> tuple[Tensor, float]:
        assert isinstance(self.lower, SaddleObjective)
        objective = self.lower
        start = torch.zeros_like(objective.start())
        units = torch.eye(start.numel(), dtype=DOUBLE).reshape(-1, *start.shape[1:])
        with torch.no_grad():
            copies = self.energy.split(self.y.expand(len(units), *self.y.shape[1:])).smooth
            hessian = copies.hessian(torch.zeros_like(units))(units).flatten(1)
            pull = objective.smooth.grad(start).flatten()
            matrices = [term.forward(units).flatten(1).T for term in objective.terms]
            shapes = [term.forward(start).shape for term in objective.terms]
            rho = float(torch.linalg.eigvalsh(hessian)[-1])
            gram = sum(m.T @ m for m in matrices)
            inverse = torch.linalg.pinv(hessian + rho * gram, hermitian=True)
            step = torch.full((1,), 1 / rho, dtype=DOUBLE)
            split = [torch.zeros(len(m), dtype=DOUBLE) for m in matrices]
            dual = [z.clone() for z in split]
            x, off = start.flatten(), torch.inf
            middle = x
            for k in range(steps):
                back = sum(m.T @ (z - u) for m, z, u in zip(matrices, split, dual, strict=True))
                x = inverse @ (rho * back - pull)
                for j, (m, term) in enumerate(zip(matrices, objective.terms, strict=True)):
                    moved = m @ x + dual[j]
                    split[j] = term.prox(moved.reshape(shapes[j]), step).flatten()
                    dual[j] = moved - split[j]
                if k % 500 == 499:
                    moved = objective.image((x - middle).reshape(start.shape))
                    off, middle = 10 * float(moved.norm()), x
                    if off < 1e-9 * self.drawn.unit:
                        break
        return x.reshape(start.shape), off + 1e-11 * self.drawn.unit


def as_far(x: Tensor, direction: Tensor, distance: float) -> Tensor:
    """The point at that distance; x itself where the direction is none."""
    length = float(direction.norm())
    return x + distance / length * direction if length > 0 else x

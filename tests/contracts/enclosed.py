"""What is claimed at solutions and at any other points, beside what is true."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bilevel.differentiate import Hypergradient, Implicit, Piggyback, Upper
from bilevel.ground import theta as algebra
from bilevel.model import CompositeObjective, SaddleObjective, SmoothObjective
from bilevel.model.objective import Objective
from bilevel.solve import (
    Certificate,
    Claim,
    Solution,
    Status,
    Tolerance,
    certify,
    certify_locally,
    minimise,
)
from bilevel.solve.solvers import FISTA, LBFGS, PDHG
from contracts import drawn as smooth
from contracts import drawn_rough as rough
from contracts.bounds import Setting, settings
from contracts.drawn import Drawn
from contracts.learnable import pick
from contracts.truths import Composite, Known, Rough, Smooth, Truth, Wide, as_far
from contracts.zoo import log_uniform, slope


@dataclass(frozen=True)
class Check:
    """One claim: of what, where, what was claimed, what is true, and how well that is known."""

    of: str
    where: str
    claimed: float
    true: float
    rounding: float

    @property
    def violated(self) -> bool:
        """NaN is violated too."""
        return not self.true <= self.claimed + 1e-9 * abs(self.claimed) + self.rounding

    @property
    def proved(self) -> bool:
        """Whether anything is claimed."""
        return self.claimed < torch.inf

    @property
    def looseness(self) -> float:
        """Claimed over true, where rounding does not matter; otherwise nan."""
        sure = self.proved and self.true > 100 * self.rounding and self.true > 0
        return self.claimed / self.true if sure else float("nan")


class Unknown(Exception):
    """The reference itself did not converge."""


def accuracy(drawn: Drawn) -> Tolerance:
    """1e-1 to 1e-8 of the unit, 1e-5 in float32."""
    single = drawn.y.dtype == torch.float32
    return Tolerance(rms=drawn.unit * log_uniform(drawn.rng, -5 if single else -8, -1))


def some(entries: list[Any], count: int, drawn: Drawn) -> list[Any]:
    """A few at random."""
    order = torch.randperm(len(entries), generator=drawn.rng)[:count]
    return [entries[int(k)] for k in order]


def as_solution(x: Tensor, proof: Certificate) -> Solution:
    """A point as if a solver had ended there."""
    status = torch.full((len(x),), int(Status.CONVERGED))
    return Solution(x, proof, status, torch.zeros_like(status), Tolerance(rms=1.0))


def points(truth: Truth, count: int) -> Iterator[tuple[str, Tensor]]:
    """Off the minimiser, near and far, in the type of the problem."""
    drawn, x = truth.drawn, truth.x
    directions = truth.directions()
    for name in some(list(directions), count, drawn):
        direction = directions[name]
        distance = drawn.unit * x.numel() ** 0.5 * log_uniform(drawn.rng, -6, 0.3)
        if name == "flat" and pick(drawn.rng, 2):
            distance = float(direction.norm()) * (1 + 1e-6)  # all differences vanish, or turn
        yield name, truth.lower.project(as_far(x, direction, distance)).to(drawn.y)


def smooth_checks(truth: Smooth) -> Iterator[Check]:
    """Of a solution, with every kind of method, and of points elsewhere."""
    drawn = truth.drawn
    objective, rng = drawn.energy.at(drawn.y), drawn.rng
    assert isinstance(objective, SmoothObjective)
    tol = accuracy(drawn)
    solver = {"tol": tol, "max_steps": 200, "keep_state": True, "check_every": 1}
    found = minimise(objective, LBFGS(), **solver)  # type: ignore[arg-type]
    yield from at_point(truth, objective, found.x, found.certificate, "solver", tol)
    fitting = list(settings(rng)) if objective.bounds.smooth else [("implicit", Implicit(), None)]
    for setting in some(fitting, 3, drawn):
        yield from of_method(truth, objective, found, *setting)
    yield from elsewhere(truth, objective, [s for s in fitting if not s[1].needs_state])


def composite_checks(truth: Composite) -> Iterator[Check]:
    """As for smooth ones, with the methods that take kinks."""
    drawn = truth.drawn
    objective, rng = drawn.energy.at(drawn.y), drawn.rng
    tol = accuracy(drawn)
    found = minimise(objective, FISTA(), tol=tol, max_steps=400, check_every=1)
    yield from at_point(truth, objective, found.x, found.certificate, "solver", tol)
    fitting = [s for s in settings(rng) if not s[1].needs_state and s[0] != "unrolled"]
    for setting in some(fitting, 2, drawn):
        yield from of_method(truth, objective, found, *setting)
    yield from elsewhere(truth, objective, fitting)


def elsewhere(truth: Known, objective: Objective, methods: list[Setting]) -> Iterator[Check]:
    """At points that no solver returns."""
    for where, x in points(truth, 2):
        proof = certify(objective, x)
        yield from at_point(truth, objective, x, proof, where, accuracy(truth.drawn))
        yield from nearby(truth, x.double(), where)
        for name, method, rtol in some(methods, 1, truth.drawn):
            solution = as_solution(x, proof)
            yield from of_method(truth, objective, solution, f"{name}, {where}", method, rtol)


def wide_checks(truth: Wide) -> Iterator[Check]:
    """Of the image alone, in a state of further channels."""
    drawn = truth.drawn
    objective, solver = drawn.energy.at(drawn.y), LBFGS()
    state, done = solver.init(objective, objective.start()), 0
    for steps in (0, *sorted(int(log_uniform(drawn.rng, 0, 2.5)) for _ in range(4))):
        for _ in range(steps - done):
            state = solver.step(objective, state)
        done = max(done, steps)
        proof = certify(objective, state.x)
        yield from at_point(truth, objective, state.x, proof, f"{steps} steps", accuracy(drawn))
        yield from of_image(truth, objective, as_solution(state.x, proof), Implicit("minres"))
    for where, x in points(truth, 3):
        yield from at_point(truth, objective, x, certify(objective, x), where, accuracy(drawn))
        yield from nearby(truth, x.double(), where)


def rough_checks(truth: Rough) -> Iterator[Check]:
    """Of saddle problems, by the dual points of the solver, at its iterates and elsewhere."""
    drawn = truth.drawn
    objective, solver = drawn.energy.at(drawn.y), PDHG()
    assert isinstance(objective, SaddleObjective)
    state, done = solver.init(objective, objective.start()), 0
    for steps in (0, *sorted(int(log_uniform(drawn.rng, 0, 2.7)) for _ in range(4))):
        for _ in range(steps - done):
            state = solver.step(objective, state)
        done, dual = max(done, steps), solver.dual(state)
        proof = certify(objective, state.x, dual=dual)
        where = f"{steps} steps"
        yield from at_point(truth, objective, state.x, proof, where, accuracy(drawn), dual)
        solution = Solution(state.x, proof, torch.ones(1), torch.ones(1), Tolerance(rms=1.0), state)
        if all(term.homogeneous for term in objective.terms):
            yield from of_image(truth, objective, solution, Piggyback(max_steps=300))
        for name, x in points(truth, 1):
            proof = certify(objective, x, dual=dual)
            where = f"{name} with the dual of {steps} steps"
            yield from at_point(truth, objective, x, proof, where, accuracy(drawn), dual)


def of_image(
    truth: Truth, objective: Objective, solution: Solution, method: Hypergradient
) -> Iterator[Check]:
    """The loss of the image, whose gradient nothing is claimed of."""
    found = method(objective, Upper(truth.drawn.loss, truth.drawn.target), solution)
    off = abs(float(found.corrected) - truth.value)
    yield Check("loss", "image", float(found.interval), off, truth.value_room)


def local_checks(drawn: Drawn) -> Iterator[Check]:
    """The critical point that a local certificate speaks of is where Newton's method ends."""
    truth = Smooth(drawn)
    if not truth.known:
        raise Unknown
    objective = drawn.energy.at(drawn.y)
    for where, far in points(truth, 6):
        distance = 10 ** (-6 * torch.rand((), generator=drawn.rng).item())
        x = (truth.x + distance * (far.double() - truth.x)).to(drawn.y)
        plain = as_solution(x, certify(objective, x))
        solution = certify_locally(objective, plain)
        proof = solution.certificate
        if int(proof.claim) not in (Claim.LOCAL, Claim.CRITICAL):
            yield Check("local distance", where, torch.inf, 0.0, 0.0)
            continue
        near = truth.newton(x.double())
        left = float(slope(truth.energy, near, truth.y).norm())
        values = torch.linalg.eigvalsh(truth.dense(near))
        room = 4 * (left + float(objective.double().rounding(near))) / float(values.abs().min())  # type: ignore[attr-defined]
        apart = float((near - x.double()).norm())
        yield Check("local distance", where, float(proof.distance(x)), apart, room)
        least = float(values.abs().min())
        yield Check("local curvature", where, -float(proof.curvature), -least, 1e-12)
        if int(proof.claim) == Claim.LOCAL:
            yield Check("local minimiser", where, 0.0, -float(values[0]), 0.0)
        if float((near - truth.x).norm()) < 1e-7 * drawn.unit:
            method = Implicit("minres")
            yield from of_method(truth, objective, solution, f"local, {where}", method, 1e-8)


def at_point(
    truth: Truth,
    objective: Objective,
    x: Tensor,
    proof: Certificate,
    where: str,
    tol: Tolerance,
    dual: Any = None,
) -> Iterator[Check]:
    """Distance, gap, residual and curvature; and what float64 says where ``tol`` is missed."""
    point = x.double()
    image = objective.image(x)
    apart = float((truth.lower.image(point) - truth.image).norm())
    again = certify(objective, x, tol, dual=dual)
    for name, found in (("distance", proof), ("distance again", again)):
        yield Check(name, where, float(found.distance_of_image(image)), apart, truth.off)
        if int(found.claim) != Claim.IMAGE:
            whole = float((point - truth.x).norm())
            room = truth.off if image.shape == x.shape else torch.inf
            yield Check(f"{name} of the state", where, float(found.distance(image)), whole, room)
    height = truth.height(point)
    room = 1e-14 * x.numel() ** 0.5 * max(abs(height), abs(truth.lowest))
    yield Check("gap", where, float(proof.gap), height - truth.lowest, room)
    if isinstance(truth, Smooth) and isinstance(objective, SmoothObjective):
        steep = float(slope(truth.energy, point, truth.y).norm()) / image[0].numel() ** 0.5
        if bool(proof.allowance.isfinite()):  # elsewhere it is what was computed
            yield Check("residual", where, float(proof.residual), steep, 1e-14 * steep)
        least, most = float(truth.values[0]), float(truth.values[-1])
        lipschitz = float(objective.bounds.lipschitz)
        yield Check("most curvature", where, lipschitz, most, 1e-12 * most)
        if bool(proof.curvature > 0):
            yield Check("least curvature", where, -float(proof.curvature), -least, 1e-12 * most)


def nearby(truth: Known, x: Tensor, where: str) -> Iterator[Check]:
    """What is claimed to change at most between x and the minimiser, in float64."""
    lower, other = truth.lower, truth.x
    assert isinstance(lower, SmoothObjective | CompositeObjective)
    radius = (x - other).flatten(1).norm(dim=1) * (1 + 1e-9) + 1e-300
    here, there = lower.hessian(x), lower.hessian(other)
    kinks = lower.smoothness(x, radius)
    directions = [other - x, truth.upper.grad(x)]
    if isinstance(truth, Smooth):
        directions += [truth.adjoint(x), truth.vectors[:, -1].reshape(x.shape)]
    for direction in some(directions, 2, truth.drawn):
        q = direction / direction.norm().clamp_min(1e-300)
        claimed = lower.variation(x, q, radius)
        sizes = [float(product.norm()) for product in (here(q), there(q))]
        turn = float((there(q) - here(q)).norm())
        yield Check("variation", where, float(claimed.hessian), turn, 1e-12 * max(sizes))
        if isinstance(truth, Smooth):
            lipschitz = float(kinks.lipschitz * radius)
            yield Check("smoothness", where, lipschitz, turn, 1e-12 * max(sizes))
        ends = [lower.cross_vjp(point, q) for point in (x, other)]
        size = max(map(algebra.norm, ends))
        change = algebra.norm(algebra.add(*ends, -1.0))
        yield Check("cross", where, float(claimed.cross), change, 1e-12 * size + 1e-300)
        most = float(claimed.cross_norm)
        yield Check("cross norm", where, most, algebra.norm(ends[1]), 1e-12 * size)


def of_method(
    truth: Known,
    objective: Objective,
    solution: Solution,
    name: str,
    method: Hypergradient,
    rtol: float | None,
) -> Iterator[Check]:
    """Of a hypergradient and of the corrected value."""
    upper = Upper(truth.drawn.loss, truth.drawn.target)
    found = method(objective, upper, solution, rtol=rtol)
    grad = {k: v.double() for k, v in found.grad.items()}
    error = algebra.norm(algebra.add(grad, truth.grad, -1.0))
    yield Check("hypergradient", name, found.bound, error, truth.room)
    off = abs(float(found.corrected) - truth.value)
    yield Check("loss", name, float(found.interval), off, truth.value_room)


Checks = Callable[[Any], Iterator[Check]]
FAMILIES: dict[str, tuple[Callable[[int], Drawn], type[Truth] | None, Checks]] = {
    "smooth": (smooth.smooth, Smooth, smooth_checks),
    "learned operator": (rough.operator, Smooth, smooth_checks),
    "composite": (rough.composite, Composite, composite_checks),
    "wide": (lambda seed: rough.of_kinds(rough.WIDE, seed), Wide, wide_checks),
    "exact": (lambda seed: rough.of_kinds(rough.EXACT, seed), Rough, rough_checks),
    "wells": (rough.wells, None, local_checks),
}


def enclosed(family: str, seed: int) -> tuple[Drawn, list[Check]]:
    """All checks of one problem.

    Raises:
        Unknown: the reference did not converge.
    """
    draw, kind, checks = FAMILIES[family]
    drawn = draw(seed)
    if kind is None:
        return drawn, list(checks(drawn))
    truth = kind(drawn)
    if not truth.known:
        raise Unknown(drawn.name)
    return drawn, list(checks(truth))

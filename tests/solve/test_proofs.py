"""Claims of gap, distance and residual near the floor of rounding, against 50-digit references."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from decimal import localcontext

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.model.objective import Objective
from contracts.rational import DIGITS, Exact, exactly, rms, weight
from contracts.zoo import Random, log_uniform

ROWS, HEIGHT, WIDTH = 10, 2, 3
TYPES = (torch.float32, torch.float64)


@dataclass
class Tally:
    """What was tried, and what was found false."""

    tried: int = 0
    converged: int = 0
    false: list[str] = field(default_factory=list)

    def check(self, name: str, true: float, claimed: float, tol: float, converged: bool) -> None:
        """One claim of one row."""
        self.tried += 1
        self.converged += converged
        if not true <= claimed:
            self.false.append(f"{name}: {true:.6e} true, {claimed:.6e} claimed")
        if converged and not true <= tol:
            self.false.append(f"{name}: CONVERGED with {true:.6e}, {tol:.6e} asked")


def operator(rng: Random, k: int) -> bl.operators.Operator:
    return [
        bl.operators.Identity(),
        bl.operators.Mask(0.1 + torch.rand(HEIGHT, WIDTH, generator=rng)),
        bl.operators.Mask(torch.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3 != 1),
    ][k % 3]


def data(rng: Random) -> tuple[float, Tensor]:
    """A scale, and images of about that size, some of them with a large offset."""
    scale = log_uniform(rng, -6, 5)
    y = torch.rand(ROWS, 1, HEIGHT, WIDTH, generator=rng)
    y[ROWS // 2 :] = 1 + 0.01 * y[ROWS // 2 :]
    return scale, scale * y


def non_smooth(rng: Random, k: int, scale: float) -> bl.Variational:
    """L1 or squared data; exact TV, sparsity, boxes and ridges by turns."""
    kinds = bl.regularisers
    absolute, parts = k % 2 == 0, []
    unit = 1.0 if absolute else scale
    if k % 4 < 3:
        parts.append(kinds.Tikhonov(min(max(log_uniform(rng, -3, 0) * unit / scale, 1e-8), 1e4)))
    if k % 3:
        weight = min(max(log_uniform(rng, -2, 1) * unit, 1e-8), 1e4)
        parts.append(kinds.ExactTotalVariation(weight, isotropic=k % 3 == 1))
    if k % 5 == 1:
        parts.append(kinds.Sparsity(min(max(log_uniform(rng, -2, 0) * unit, 1e-8), 1e4)))
    if k % 7 > 3:
        parts.append(kinds.Box(0.2 * scale, 0.9 * scale))
    a, weight = operator(rng, k // 2), log_uniform(rng, -1, 1.5)
    fidelity = bl.fidelities.L1(a, weight) if absolute else bl.fidelities.SquaredL2(a, weight)
    return bl.Variational(fidelity, kinds.Sum(parts))


def smooth(rng: Random, k: int, scale: float) -> bl.Variational:
    """Squared data or Poisson data; ridges, smoothed TV, boxes and sparsity by turns."""
    kinds = bl.regularisers
    poisson = k % 3 == 0
    unit = 1.0 if poisson else scale
    parts = [kinds.Tikhonov(min(max(log_uniform(rng, -3, 0) * unit / scale, 1e-8), 1e4))]
    if k % 4:
        weight = min(max(log_uniform(rng, -2, 1) * unit, 1e-8), 1e4)
        smoothing = min(max(log_uniform(rng, -2, 0) * scale, 1e-7), 1e4)
        potential = ("huber", "charbonnier")[k // 2 % 2]
        parts.append(
            kinds.TotalVariation(weight, smoothing, isotropic=k % 4 == 1, potential=potential)
        )
    if k % 5 == 1:
        parts.append(kinds.Box(0.2 * scale, 0.9 * scale))
    if k % 5 == 2:
        parts.append(kinds.Sparsity(min(max(log_uniform(rng, -2, 0) * unit, 1e-8), 1e4)))
    a, weight = operator(rng, k // 2), log_uniform(rng, -1, 1.5)
    fidelity: bl.fidelities.Fidelity = bl.fidelities.SquaredL2(a, weight)
    if poisson:
        fidelity = bl.fidelities.KullbackLeibler(a, 0.05 * scale, weight)
    return bl.Variational(fidelity, kinds.Sum(parts))


def best(objective: Objective, size: Tensor, steps: int) -> bl.Solution:
    """A point in float64, in the box as rounded to the type of the data, with a small gap."""
    twice = objective.double()
    tol = bl.Tolerance(gap=1e-14 * float(size.min()))
    return bl.minimise(twice, bl.solvers.accelerated(twice), tol=tol, max_steps=steps)


def gaps(tally: Tally, k: int, dtype: torch.dtype, steps: int) -> None:
    """One energy, ten rows, one tolerance each; J(x) - J(x64) is less than the true gap."""
    rng = generator(k, "gaps", str(dtype))
    scale, y = data(rng)
    energy = non_smooth(rng, k, scale).to(dtype)
    y = y.to(dtype)
    objective = energy.at(y)
    with torch.no_grad():
        size = objective.value(objective.project(objective.start())).double() + 1e-30
    size = torch.where(size.isfinite(), size, scale)
    reach = -5 if dtype == torch.float32 else -13
    tol = bl.Tolerance(gap=float(size.median()) * log_uniform(rng, reach - 2, reach + 3))
    found = bl.minimise(objective, bl.solvers.accelerated(objective), tol=tol, max_steps=300)
    reference = best(objective, size, steps)
    for row in range(ROWS):
        exact, x = Exact.of(energy, y[row]), exactly(found.x[row])
        there = exactly(reference.x[row])
        with localcontext() as context:
            context.prec = DIGITS
            gap = float(exact.value(x) - min(exact.value(there), exact.value(x)))
            apart = rms([a - b for a, b in zip(x, there, strict=True)])
        name, done = f"{k} {dtype} row {row}", bool(found.converged[row])
        tally.check(f"gap {name}", gap, float(found.certificate.gap[row]), tol.gap, done)
        known = float(reference.certificate.rms[row])
        if math.isfinite(known):
            claimed = float(found.certificate.rms[row])
            tally.check(f"rms {name}", apart - known, claimed, math.inf, False)


def residuals(tally: Tally, k: int, dtype: torch.dtype) -> None:
    """One energy, ten rows; the exact subgradient, and a tolerance near what can be reached."""
    rng = generator(k, "residuals", str(dtype))
    scale, y = data(rng)
    energy = smooth(rng, k, scale).to(dtype)
    y = y.to(dtype)
    objective = energy.at(y)
    start = objective.project(objective.start())
    with torch.no_grad():
        size = objective.rounding(start) / start[0].numel() ** 0.5
    tol = bl.Tolerance(residual=float(size.median()) * log_uniform(rng, -4, 2))
    found = bl.minimise(objective, bl.solvers.accelerated(objective), tol=tol, max_steps=400)
    for row in range(ROWS):
        true = rms(Exact.of(energy, y[row]).slope(exactly(found.x[row])))
        name, done = f"residual {k} {dtype} row {row}", bool(found.converged[row])
        tally.check(name, true, float(found.certificate.residual[row]), tol.residual, done)


@pytest.mark.parametrize("dtype", TYPES)
def test_gaps_near_the_floor(dtype: torch.dtype) -> None:
    tally = Tally()
    for k in range(10):
        gaps(tally, k, dtype, 400)
    assert not tally.false
    assert tally.tried >= 100


@pytest.mark.parametrize("dtype", TYPES)
def test_residuals_near_the_floor(dtype: torch.dtype) -> None:
    tally = Tally()
    for k in range(10):
        residuals(tally, k, dtype)
    assert not tally.false
    assert tally.tried == 10 * ROWS
    assert tally.converged


def test_gaps_of_weighted_absolute_values() -> None:
    """A x near y: the rounding of A x is then most of A x - y."""
    tally, tol = Tally(), bl.Tolerance(gap=3e-5)
    for seed in range(12):
        rng = generator(seed, "weighted absolute values")
        mask = bl.operators.Mask(0.1 + torch.rand(2, 2, generator=rng))
        y = 100 * torch.rand(ROWS, 1, 2, 2, generator=rng)
        ridge = bl.regularisers.Tikhonov(1e-3)
        energy = bl.Variational(bl.fidelities.L1(mask, 10.0), ridge)
        found = bl.minimise(energy.at(y), bl.solvers.PDHG(), tol=tol, max_steps=300)
        seen, ridge_weight = exactly(mask.mask), weight(ridge.log_weight)
        pull = weight(energy.fidelity.log_weight) / ridge_weight
        for row in range(ROWS):
            exact = Exact.of(energy, y[row])
            lowest = [min(c / m, pull * m) for c, m in zip(exact.y, seen, strict=True)]
            values = [exact.value(exactly(found.x[row])), exact.value(lowest)]
            claimed, done = float(found.certificate.gap[row]), bool(found.converged[row])
            gap = float(values[0] - values[1])
            tally.check(f"{seed} row {row}", gap, claimed, tol.gap, done)
    assert not tally.false


def test_a_residual_below_the_floor_is_not_met() -> None:
    y = 100 * torch.rand(100, 1, 1, 1, generator=generator(0, "floor"))
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(0.3))
    tol = bl.Tolerance(residual=1e-9)
    found = bl.minimise(energy.at(y), bl.solvers.LBFGS(), tol=tol, max_steps=500)
    for row in range(len(y)):
        true = rms(Exact.of(energy, y[row]).slope(exactly(found.x[row])))
        assert true <= float(found.certificate.residual[row])
        met = true <= float(found.certificate.residual[row]) <= tol.residual
        assert int(found.status[row]) == (bl.Status.CONVERGED if met else bl.Status.STALLED)
    assert not bool(found.converged.all())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("least", [1e-9, 3e-10])
def test_a_useless_strong_convexity_counts_as_none(least: float, dtype: torch.dtype) -> None:
    mask = bl.operators.Mask(torch.tensor([[1.0, 0.5], [least, 1.0]]))
    energy = bl.Variational(bl.fidelities.SquaredL2(mask), bl.regularisers.Sum([])).to(dtype)
    y = torch.ones(1, 1, 2, 2, dtype=dtype)
    objective = energy.at(y)
    assert float(objective.bounds.proved_mu()) == 0
    found = bl.minimise(objective, bl.solvers.LBFGS(), tol=bl.Tolerance(residual=1e-3))
    assert bool(found.converged.all())
    assert math.isinf(float(found.certificate.rms))


def test_a_gradient_without_constants_is_looked_at_in_float64() -> None:
    class Plain(bl.Energy):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return 0.5 * ((x - y).square() + 0.3 * x.square()).flatten(1).sum(1)

    y = 100 * torch.rand(100, 1, 1, 1, generator=generator(0, "floor"))
    tol = bl.Tolerance(residual=1e-7)
    found = bl.minimise(Plain().at(y), bl.solvers.LBFGS(), tol=tol, max_steps=100)
    true = (found.x.double() - y.double() + 0.3 * found.x.double()).abs().flatten()
    assert bool((true[found.converged] <= tol.residual * (1 + 1e-6)).all())
    assert not bool(found.converged.all())


@pytest.mark.long
@pytest.mark.parametrize("dtype", TYPES)
def test_gaps_of_a_thousand_problems(dtype: torch.dtype) -> None:
    tally = Tally()
    for k in range(10, 110):
        gaps(tally, k, dtype, 3000)
    assert not tally.false


@pytest.mark.long
@pytest.mark.parametrize("dtype", TYPES)
def test_residuals_of_a_thousand_problems(dtype: torch.dtype) -> None:
    tally = Tally()
    for k in range(10, 110):
        residuals(tally, k, dtype)
    assert not tally.false

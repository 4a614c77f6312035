"""What is proved of hypergradients holds for every fidelity, beside what makes it convex enough."""

from __future__ import annotations

import pytest
import torch

import bilevel as bl
from bilevel.ground import theta as algebra
from bilevel.ground.randomness import generator
from contracts.fidelities import FIDELITIES, NEGATIVE
from contracts.zoo import OPERATORS, REGULARISERS, SHAPE

CASES = [
    ("Gaussian-impulse", "identity"),
    ("Gaussian-impulse", "reflecting"),
    ("smoothed L1", "identity"),
    ("Student's t", "identity"),
    ("Student's t", "reflecting"),
    ("speckle", "identity"),
    ("Anscombe", "identity"),
    ("heteroscedastic", "identity"),
    ("heteroscedastic", "mask"),
]
"""Rician data have the minimiser 0 beside a ridge that makes them convex: see the last test."""


def attacked(fidelity: bl.fidelities.DataTerm, y: torch.Tensor, target: torch.Tensor) -> None:
    """Bounds are finite and hold at loose solutions, beside a ridge that makes J convex."""
    rng = generator(0, "attacked")
    tv = REGULARISERS["tv charbonnier"](rng)
    low = float(bl.Variational(fidelity, tv).double().bounds(y).mu.min())
    ridge = bl.regularisers.Tikhonov(0.3 - min(low, 0.0), learn=())
    energy = bl.Variational(fidelity, tv + ridge).double()
    samples = bl.data.Pairs(y, target, tuple(map(str, range(len(y)))))

    def problem() -> bl.BilevelProblem:
        return bl.BilevelProblem(energy, bl.losses.SquaredError(), samples)

    exact = problem()
    assert bl.check_hypergradient(exact).passed
    truth = exact.value_and_grad(exact.theta, tol=1e-9)
    for tol in (3e-2, 3e-3, 3e-4):
        fresh = problem()
        found = fresh.value_and_grad(fresh.theta, tol=tol)
        error = algebra.norm(algebra.add(found.grad, truth.grad, -1.0))
        assert error <= found.error * (1 + 1e-9) + truth.error < float("inf")
        assert abs(found.corrected - truth.corrected) <= found.interval + truth.interval


@pytest.mark.parametrize(("name", "operator"), CASES)
def test_bounds_hold_at_loose_solutions(name: str, operator: str) -> None:
    rng = generator(0, "noise models", name, operator)
    a = OPERATORS[operator](rng)
    fidelity = FIDELITIES[name](a, rng).double()
    target = torch.rand(1, *SHAPE, generator=rng).double()
    with torch.no_grad():
        clean = a.double()(target)
    noise = 0.1 * torch.randn(clean.shape, generator=rng).double()
    outlier = torch.rand(clean.shape, generator=rng) < 0.1
    y = torch.where(outlier, 1.0, clean + noise)
    y = y if name in NEGATIVE else y.clamp_min(0.01)
    attacked(fidelity, y, target)


def test_bounds_hold_for_magnitudes_beside_squares() -> None:
    """Of data below their noise, where squares of about the same weight make up for the hill."""
    rng = generator(1, "magnitudes")
    target = torch.rand(1, *SHAPE, generator=rng).double()
    y = bl.data.RicianNoise(0.4).sample(target, rng)
    learn = ("weight", "sigma")
    magnitudes = bl.fidelities.Rician(sigma=1.0, weight=0.5, learn=learn)
    attacked(magnitudes + bl.fidelities.SquaredL2(), y, target)

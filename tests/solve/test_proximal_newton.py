"""Newton's method beside kinks: few steps where proximal gradients need thousands."""

from __future__ import annotations

import torch

import bilevel as bl
from bilevel.solve.solvers import FISTA, ProximalNewton


def counts(peak: float) -> tuple[bl.Variational, torch.Tensor]:
    """Few photons on a dark ground, blurred: most pixels are 0, and L is a thousand times mu."""
    x = bl.data.shepp_logan(24)
    blur = bl.operators.GaussianBlur(1.5, 7, boundary="reflecting")
    y = bl.data.simulate(x, blur, bl.data.PoissonNoise(peak, 0.02), seed=0).y
    tv = bl.regularisers.TotalVariation(0.05, 0.01) + bl.regularisers.Box(0.0)
    fidelity = bl.fidelities.KullbackLeibler(blur, background=0.02)
    return bl.Variational(fidelity, tv).double(), y.double()


def test_pixels_that_would_cross_the_bound_stop_nothing() -> None:
    energy, y = counts(20.0)
    tol = bl.Tolerance(residual=1e-6)
    found = bl.minimise(energy.at(y), ProximalNewton(), tol=tol, max_steps=60).require()
    assert float(found.x.min()) == 0
    assert int((found.x == 0).sum()) > 50


def test_the_minimum_is_that_of_proximal_gradients() -> None:
    energy, y = counts(200.0)
    objective = energy.at(y)
    newton = bl.minimise(objective, ProximalNewton(), tol=bl.Tolerance(residual=1e-8)).require()
    slow = bl.minimise(
        objective, FISTA(), newton.x, tol=bl.Tolerance(residual=1e-6), max_steps=200_000
    ).require()
    assert float((newton.x - slow.x).abs().max()) < 1e-3
    assert float(objective.value(newton.x)) <= float(objective.value(slow.x)) + 1e-9

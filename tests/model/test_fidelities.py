"""Fidelities keep their contract; data of counts and how they come with their noise."""

from __future__ import annotations

import pytest
import torch

import bilevel as bl
from contracts.fidelities import FIDELITIES, FidelityContract


class TestFidelities(FidelityContract):
    names = tuple(FIDELITIES)


def test_the_divergence_is_the_likelihood_of_poisson_noise_up_to_a_constant() -> None:
    """peak Ψ(A x; y) - peak Ψ(A x'; y) is the difference of the log-likelihoods of the counts."""
    peak, background = 30.0, 0.1
    images = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    noise = bl.data.PoissonNoise(peak, background)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise)
    fidelity = bl.fidelities.KullbackLeibler(background=background).double()

    def likelihood(x: torch.Tensor) -> torch.Tensor:
        counts = (peak * (pairs.y + background)).round()
        law = torch.distributions.Poisson(peak * (x + background))
        return law.log_prob(counts).flatten(1).sum(1)

    other = torch.rand_like(images)
    found = peak * (fidelity(images, pairs.y) - fidelity(other, pairs.y))
    torch.testing.assert_close(found, likelihood(other) - likelihood(images))


def test_the_divergence_vanishes_at_the_data_alone() -> None:
    fidelity = bl.fidelities.KullbackLeibler(background=0.2).double()
    y = torch.tensor([0.0, 0.1, 0.5, 3.0], dtype=torch.float64).view(1, 1, 2, 2)
    assert float(fidelity(y, y)) == pytest.approx(0.0, abs=1e-12)
    assert float(fidelity(y + 0.1, y)) > 0


def test_data_below_the_background_are_refused_in_words() -> None:
    energy = bl.Variational(
        bl.fidelities.KullbackLeibler(background=0.1), bl.regularisers.Tikhonov()
    )
    y = torch.full((1, 1, 4, 4), -0.2)
    y[..., 0] = 1.0
    with pytest.raises(bl.InputError, match=r"lie above -background = -0\.1"):
        energy.at(y)


def test_counts_behind_a_blur_whose_data_are_smaller_than_the_image() -> None:
    """The preconditioner of products has no weight for pixels beyond the data."""
    blur = bl.operators.GaussianBlur(0.8, 3, "valid")
    energy = bl.Variational(
        bl.fidelities.KullbackLeibler(blur, 0.1), bl.regularisers.Tikhonov(0.1)
    ).double()
    y = torch.rand(2, 1, 6, 8, dtype=torch.float64)
    found = bl.minimise(energy.at(y), bl.solvers.NewtonCG(), tol=bl.Tolerance(rms=1e-6)).require()
    assert float(energy.grad(found.x, y).detach().abs().max()) < 1e-5


def test_pixels_without_a_count_stay_where_the_background_holds_them() -> None:
    """Without the wall total variation could not keep them from falling without end."""
    y = torch.full((1, 1, 8, 8), 0.5, dtype=torch.float64)
    y[..., 2:6, 2:6] = -0.1
    tv = bl.regularisers.TotalVariation(1e-4, 0.05)
    energy = bl.Variational(bl.fidelities.KullbackLeibler(background=0.1), tv).double()
    found = bl.minimise(energy.at(y), bl.solvers.LBFGS(), tol=bl.Tolerance(residual=1e-7))
    assert float(found.x.min()) == pytest.approx(-0.1, abs=1e-3)
    assert float(found.x.max()) == pytest.approx(0.5, abs=1e-3)


def test_denoising_counts_is_certified_and_needs_no_step() -> None:
    """A ridge makes it strongly convex; the minimiser of both solvers is the same."""
    images = bl.data.embedded_images(32)[:2]
    noise = bl.data.PoissonNoise(50.0, 0.1)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise).to(torch.float64)
    regulariser = bl.regularisers.TotalVariation(0.1, 0.05) + bl.regularisers.Tikhonov(0.05)
    energy = bl.Variational(bl.fidelities.KullbackLeibler(background=0.1), regulariser).double()
    objective, tol = energy.at(pairs.y), bl.Tolerance(rms=1e-5)
    found = bl.minimise(objective, bl.solvers.LBFGS(), tol=tol).require()
    newton = bl.minimise(objective, bl.solvers.NewtonCG(), tol=tol).require()
    torch.testing.assert_close(found.x, newton.x, rtol=0, atol=1e-3)
    gain = (pairs.y - pairs.target).square().mean() / (found.x - pairs.target).square().mean()
    assert float(gain) > 1.5

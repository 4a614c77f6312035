"""Parameters outside of their sets, or changed later: what then holds, and what claims nothing."""

from __future__ import annotations

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.model.proximable import Distance, Proximable
from bilevel.model.regularisers.cascade import rounded_norms, row_norms
from bilevel.model.split import Split

R, F = bl.regularisers, bl.fidelities
Y = torch.rand(1, 1, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def test_directional_variation_of_exponents_above_two_claims_nothing() -> None:
    part = R.DirectionalTV(0.1, 0.1, 1.5).double()
    with torch.no_grad():
        part.exponent.fill_(2.5)
    radius = torch.full((1,), 0.1, dtype=torch.float64)
    assert not part.bounds((1, 9, 8)).smooth
    assert bool(part.smoothness(Y, radius).lipschitz.isinf())
    assert bool(part.variation(Y, Y, radius).hessian.isinf())
    assert part.majoriser(Y) is None


def test_exponents_given_later_count() -> None:
    energy = bl.Variational(F.SquaredL2(), R.ExactDirectionalTV(0.1, 1.0)).double()
    for exponent in (0.7, 1.5):
        theta = {"regulariser.exponent": torch.tensor(exponent, dtype=torch.float64)}
        expected = bl.Variational(F.SquaredL2(), R.ExactDirectionalTV(0.1, exponent)).double()
        torch.testing.assert_close(energy.at(Y, theta).value(Y), expected.at(Y).value(Y))


@pytest.mark.parametrize("contrast", [1e-3, 255.0])
@pytest.mark.parametrize("inner", [R.TotalVariation, R.FieldsOfExperts])
def test_rescaled_defaults_count_units_once(inner, contrast: float) -> None:
    found: list[torch.Tensor] = []
    for factor in (1.0, contrast):
        energy = bl.Variational(F.SquaredL2(), R.Rescaled(inner())).double()
        energy.settle(factor * Y)
        found.append(energy.at(factor * Y).grad(factor * Y.sqrt()) / factor)
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-12)


def test_a_noise_level_out_of_range_is_refused_at_once() -> None:
    ridge = R.SplineRidge(R.random_cascade((2, 3), 3), noise_level=50 / 255)
    energy = bl.Variational(F.SquaredL2(), ridge).double()
    with pytest.raises(InputError, match="noise_level must lie in"):
        energy.at(Y)


def test_curvature_of_either_sign_is_below_the_lipschitz_constant() -> None:
    bounds = F.Rician(sigma=0.001).double().bounds((1, 9, 8), Y)
    assert bool((bounds.lipschitz >= -bounds.mu).all())
    network = bl.networks.DifferenceOfConvex(channels=3, size=3)
    assert float(network.bounds((1, 9, 8)).lipschitz) >= -float(network.bounds((1, 9, 8)).mu)


def test_a_box_is_kept_whatever_it_comes_with() -> None:
    """Also where an absolute value was there before."""
    one, none = torch.tensor(1.0), torch.zeros(())
    parts = [Proximable(distance=Distance(one, none)), Proximable(0.0, 1.0, Distance(one, none))]
    ends = torch.zeros(1), torch.ones(1)
    outside = torch.full((1, 1, 2, 2), -0.3)
    for order in (parts, parts[::-1]):
        assert bool(Split.of(order, torch.float32, *ends).value(outside).isinf())


def test_rounding_of_a_cascade_is_that_of_what_cancels() -> None:
    first = torch.randn(1, 1, 3, 3, dtype=torch.float64)
    banks = [torch.cat([first, 1.001 * first]), torch.tensor([1.0, -1.0]).double().view(1, 2, 1, 1)]
    assert float(rounded_norms(banks, 5, 5).min()) > 100 * float(row_norms(banks, 5, 5).max())

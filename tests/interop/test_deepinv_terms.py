"""Noise models and data fidelities of deepinv, run for real where it is installed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.errors import BilevelWarning
from interop.foreign import imported

deepinv = imported("deepinv")
physics = deepinv.physics

NOISES = {
    "none": (physics.ZeroNoise, bl.fidelities.SquaredL2, 1.0),
    "Gaussian": (lambda: physics.GaussianNoise(0.25), bl.fidelities.SquaredL2, 16.0),
    "Laplace": (lambda: physics.LaplaceNoise(0.5), bl.fidelities.L1, 2.0),
    "impulses": (lambda: physics.SaltPepperNoise(0.1, 0.1), bl.fidelities.L1, 1.0),
    "counts": (lambda: physics.PoissonNoise(0.5), bl.fidelities.KullbackLeibler, 2.0),
}


@pytest.mark.parametrize("name", NOISES)
def test_a_noise_is_the_fidelity_of_its_likelihood(name: str) -> None:
    make, kind, weight = NOISES[name]
    found = bl.interop.fidelity_from_deepinv(make(), bl.operators.Identity())
    assert isinstance(found, kind)
    assert float(found.weight) == pytest.approx(weight)


@pytest.mark.parametrize("multiplied", [True, False])
def test_counts_give_their_likelihood(multiplied: bool) -> None:
    """Differences of the fidelity are those of the log-likelihood, the background added to both."""
    gain, background = 0.25, 0.5
    noise = physics.PoissonNoise(gain, normalize=multiplied)
    found = bl.interop.fidelity_from_deepinv(noise, bl.operators.Identity(), background).double()
    x, other = torch.rand(2, 3, 1, 4, 4, dtype=torch.float64) * 5
    counts = torch.poisson(x / gain)
    y = gain * counts if multiplied else counts
    own = background / gain if multiplied else background

    def likelihood(u: Tensor) -> Tensor:
        t, z = u / gain + own, counts + own
        return (t - z * t.log()).flatten(1).sum(1)

    torch.testing.assert_close(found(x, y) - found(other, y), likelihood(x) - likelihood(other))
    point = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(likelihood(point).sum(), point)
    torch.testing.assert_close(found.grad(x, y), slope)


def test_counts_with_read_noise_are_the_infimal_convolution_of_both() -> None:
    noise = physics.PoissonGaussianNoise(0.25, 0.5)
    found = bl.interop.fidelity_from_deepinv(noise, bl.operators.Identity())
    assert isinstance(found, bl.fidelities.GaussianPoisson)
    shares = found.log_gaussian.exp(), found.log_poisson.exp()
    assert [float(one) for one in shares] == pytest.approx([4.0, 4.0])
    assert found.background == 0.25


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (physics.GammaNoise, "GammaNoise"),
        (lambda: physics.RicianNoise(0.1), "RicianNoise"),
        (lambda: physics.PoissonGaussianNoise(0.0, 0.1), "gain must be positive"),
        (lambda: physics.GaussianNoise(torch.tensor([0.1, 0.2])), "one number for all samples"),
        (lambda: physics.GaussianNoise(0.0), "positive"),
        (lambda: deepinv.optim.data_fidelity.PoissonLikelihood(bkg=0.1), "background = 0.1"),
        (deepinv.optim.data_fidelity.IndicatorL2, "IndicatorL2"),
    ],
)
def test_other_noises_are_refused(make, said: str) -> None:
    with pytest.raises(bl.InputError, match=said):
        bl.interop.fidelity_from_deepinv(make(), bl.operators.Identity())


@pytest.mark.parametrize("gain", [1.0, 0.25])
def test_the_wrong_gradient_of_the_poisson_likelihood_is_noticed(gain: float) -> None:
    theirs = deepinv.optim.data_fidelity.PoissonLikelihood(gain=gain)
    with pytest.warns(BilevelWarning, match="values of a batch") as told:
        found = bl.interop.fidelity_from_deepinv(theirs, bl.operators.Identity(), 1e-7).double()
    assert ("grad is not the derivative" in str(told[0].message)) == (gain != 1.0)
    x, y = 1 + torch.rand(2, 2, 1, 4, 4, dtype=torch.float64)
    alone = torch.cat([theirs.d.fn(x[k : k + 1], y[k : k + 1]) for k in range(2)])
    other = torch.cat([theirs.d.fn(y[k : k + 1], y[k : k + 1]) for k in range(2)])
    ours = found(x, y) - found(y, y)
    torch.testing.assert_close(ours, alone - other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["L2", "L1"])
def test_what_is_right_is_taken_without_a_word(kind: str) -> None:
    theirs = getattr(deepinv.optim.data_fidelity, kind)()
    found = bl.interop.fidelity_from_deepinv(theirs, bl.operators.Identity()).double()
    x, y = torch.rand(2, 2, 1, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(found(x, y), theirs.d.fn(x, y))

"""Losses: derivatives, Lipschitz constants and what they call PSNR."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import bilevel as bl
from bilevel.model.losses import Loss

LOSSES: tuple[Loss, ...] = (bl.losses.SquaredError(), bl.losses.PSNR())
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)


def pair(seed: int, size: float = 0.1) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    target = torch.rand(3, 2, 4, 5, generator=rng, dtype=torch.float64)
    return target + size * torch.randn(target.shape, generator=rng, dtype=torch.float64), target


@every_loss
def test_gradient_is_the_derivative_of_every_row(loss: Loss) -> None:
    x, target = pair(0)
    x.requires_grad_()
    (expected,) = torch.autograd.grad(loss.value(x, target).sum(), x)
    torch.testing.assert_close(loss.grad(x.detach(), target), expected, rtol=1e-12, atol=0)


@every_loss
@given(seed=st.integers(0, 10**6), size=st.floats(-5, 0), reach=st.floats(-2, 1))
def test_gradient_is_lipschitz_in_the_ball(
    loss: Loss, seed: int, size: float, reach: float
) -> None:
    """Between random points of a ball that is small, or so large that it holds the target."""
    x, target = pair(seed, 10**size)
    radius = 10**reach * (x - target).flatten(1).norm(dim=1)
    bound = loss.lipschitz(x, target, radius)

    def inside(rng: int) -> Tensor:
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(rng)).double()
        toward = target - x if rng % 2 else noise
        length = radius * (1 - 1e-9 * (rng % 3))
        return x + toward * (length / toward.flatten(1).norm(dim=1))[:, None, None, None]

    for first, second in ((seed, seed + 1), (seed + 2, seed + 3)):
        a, b = inside(first), inside(second)
        change = (loss.grad(a, target) - loss.grad(b, target)).flatten(1).norm(dim=1)
        assert bool((change <= bound * (a - b).flatten(1).norm(dim=1) * (1 + 1e-9)).all())


@every_loss
def test_psnr_is_that_of_the_report(loss: Loss) -> None:
    from bilevel.report import psnr

    x, target = pair(1)
    for row in range(3):
        one = slice(row, row + 1)
        value = float(loss.value(x[one], target[one]))
        assert loss.psnr(value) == pytest.approx(float(psnr(x[one], target[one])), abs=1e-4)


def test_squared_error_of_nothing_is_infinite_psnr() -> None:
    assert math.isinf(bl.losses.SquaredError().psnr(0.0))
    assert bl.losses.PSNR().psnr(-27.0) == 27.0


def test_learning_psnr_raises_the_mean_psnr_that_squared_error_leaves() -> None:
    """One hard image among easy ones rules the squared error, not the mean PSNR."""
    images = bl.data.embedded_images(size=32)[:4].double()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).double()
    level = torch.tensor([0.02, 0.02, 0.02, 0.3])[:, None, None, None]
    pairs = bl.data.Pairs(images + level * noise, images, tuple("abcd"))
    reached = {}
    for loss in LOSSES:
        tv = bl.regularisers.TotalVariation(0.05, 0.05, learn=("weight",))
        energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
        problem = bl.BilevelProblem(energy, loss, pairs)
        fit = bl.learn(problem, budget=bl.Budget(steps=60))
        assert fit.unit == loss.unit
        judge = bl.BilevelProblem(fit.energy, bl.losses.PSNR(), pairs)
        reached[loss.unit] = -judge.value(judge.theta, tol=1e-4)
    assert reached["dB"] > reached["grey value²"] + 1.0

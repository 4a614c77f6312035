"""Losses: derivatives, Lipschitz constants and what they call PSNR."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import bilevel as bl
from contracts.losses import LOSSES, LossContract


class TestLosses(LossContract):
    names = tuple(LOSSES)


class HalfSteep(bl.losses.SquaredError):
    """Claims half of its Lipschitz constant, and forgets a factor in its gradient."""

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        return super().lipschitz(x, target, radius) / 2

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        return super().grad(x, target) / 2


def test_the_contract_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "wrong", HalfSteep())
    for test in (
        LossContract().test_lipschitz_constants_bound_every_hessian_in_the_ball,
        LossContract().test_gradient_is_the_derivative_of_every_row,
    ):
        with pytest.raises(AssertionError):
            test("wrong", (1, 4, 5))


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
    for loss in (bl.losses.SquaredError(), bl.losses.PSNR()):
        tv = bl.regularisers.TotalVariation(0.05, 0.05, learn=("weight",))
        energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
        problem = bl.BilevelProblem(energy, loss, pairs)
        fit = bl.learn(problem, budget=bl.Budget(steps=60))
        assert fit.unit == loss.unit
        judge = bl.BilevelProblem(fit.energy, bl.losses.PSNR(), pairs)
        reached[loss.unit] = -judge.value(judge.theta, tol=1e-4)
    assert reached["dB"] > reached["grey value²"] + 1.0

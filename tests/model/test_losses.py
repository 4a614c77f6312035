"""Losses: derivatives, Lipschitz constants and what they call PSNR."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.report import ssim as bl_ssim
from contracts.losses import LOSSES, LossContract, pair


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


class Wrong(torch.nn.Module):
    """A function that is no loss, in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.norm = torch.nn.BatchNorm2d(1)

    def forward(self, x: Tensor, target: Tensor) -> object:
        error = (x - target).square().flatten(1).mean(1)
        return {
            "scalar": error.mean,
            "word": lambda: "0.3",
            "fails": lambda: error @ target,
            "mixes": lambda: error / error.sum(),
            "batch norm": lambda: self.norm(x).square().flatten(1).mean(1),
            "random": lambda: error * torch.rand(()),
            "detached": error.detach,
            "threshold": lambda: (x > 0.5).float().flatten(1).mean(1),
            "rounded": lambda: (10 * x).round().flatten(1).mean(1),
            "infinite": lambda: error / 0,
        }[self.how]()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("scalar", r"one value a row, \(2,\), but got \(\)"),
        ("word", "one value a row"),
        ("fails", "fails on images"),
        ("mixes", "depends on the other images"),
        ("batch norm", r"depends on the other images .* call .eval\(\)"),
        ("random", "another value each time"),
        ("detached", "no derivative"),
        ("threshold", "no derivative"),
        ("rounded", "is 0, though its values change"),
        ("infinite", "must be finite"),
    ],
)
def test_modules_that_are_no_losses_are_refused_before_any_work(how: str, says: str) -> None:
    """At the first images, of one sample alone as of several."""
    x = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(0.1))
    loss = bl.losses.ModuleLoss(Wrong(how))
    with pytest.raises(bl.InputError, match=says):
        bl.BilevelProblem(energy, loss, bl.data.Pairs(x, x, ("one",)))


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (bl.losses.WeightedError(torch.ones(4, 5)), "weights of the size of images"),
        (bl.losses.WeightedError(torch.ones(3, 6, 6) > 0), "weights of the size of images"),
        (bl.losses.MagnitudeError(), "even number of channels, but got 1"),
        (bl.losses.SSIM(), "at least 11x11"),
        (bl.losses.SegmentationLoss(torch.nn.Conv2d(1, 3, 1)), "one shape"),
        (bl.losses.SegmentationLoss(torch.nn.Conv2d(2, 1, 1)), "fails on images"),
        (2 * bl.losses.SSIM() + bl.losses.SquaredError(), "at least 11x11"),
    ],
)
def test_losses_that_do_not_fit_are_refused_before_any_work(
    loss: bl.losses.Loss, says: str
) -> None:
    x = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(0.1))
    with pytest.raises(bl.InputError, match=says):
        bl.BilevelProblem(energy, loss, bl.data.Pairs(x, x, ("a", "b")))


def test_bad_options_are_refused() -> None:
    losses = bl.losses
    for make, says in (
        (lambda: losses.WeightedError(torch.tensor([[1.0, -1.0]])), "must not be negative"),
        (lambda: losses.WeightedError(torch.zeros(2, 2)), "sees nothing"),
        (lambda: losses.WeightedError(torch.ones(2)), "2 or 3 dimensions"),
        (lambda: losses.SSIM(peak=0.0), "the peak must be"),
        (lambda: losses.AbsoluteError(-1.0), "the smoothing must be"),
        (lambda: losses.AbsoluteError(potential="student-t"), "unknown potential"),
        (lambda: -1.0 * losses.SSIM(), "the weight of a loss must be"),
        (lambda: losses.ModuleLoss(lambda x, t: x), "must be an nn.Module"),
    ):
        with pytest.raises(bl.InputError, match=says):
            make()
    x = torch.rand(1, 1, 4, 4)
    with pytest.raises(bl.InputError, match=r"labels must lie in \[0, 1\]"):
        late = torch.cat([torch.ones_like(x), 7 * torch.ones_like(x)])
        losses.SegmentationLoss(torch.nn.Conv2d(1, 1, 1)).trial(x, late)


def test_ssim_is_that_of_reports() -> None:
    x = bl.data.embedded_images(size=24)[:3]
    noisy = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    for scale in (1e-6, 1.0, 65535.0):
        loss = bl.losses.SSIM().fitted(scale * x)
        reported = bl_ssim(scale * noisy, scale * x)
        found = 1 - loss.value((scale * noisy).double(), (scale * x).double())
        torch.testing.assert_close(found, reported, rtol=1e-12, atol=1e-12)


def test_what_is_left_to_the_data_follows_their_unit() -> None:
    x, target = pair((2, 4, 5))
    for loss in (
        bl.losses.AbsoluteError(),
        bl.losses.HuberisedTV(),
        bl.losses.MagnitudeError(),
        2 * bl.losses.HuberisedTV() + bl.losses.AbsoluteError(),
    ):
        one, other = (loss.fitted(scale * target) for scale in (1.0, 65535.0))
        ratio = other.value(65535 * x, 65535 * target) / one.value(x, target)
        assert float(ratio.max() - ratio.min()) <= 1e-6 * float(ratio.max())


def test_weights_of_zero_do_not_see_and_masks_are_weights() -> None:
    x, target = pair((1, 4, 5))
    inside = torch.zeros(4, 5, dtype=torch.bool)
    inside[1:3, 1:4] = True
    masked = bl.losses.WeightedError(inside)
    expected = (x - target)[..., 1:3, 1:4].square().flatten(1).mean(1)
    torch.testing.assert_close(masked.value(x, target), expected)
    coloured = bl.losses.WeightedError(inside[None].expand(2, -1, -1))
    twice = torch.cat([x, x], 1), torch.cat([target, target], 1)
    torch.testing.assert_close(coloured.value(*twice), expected)
    torch.testing.assert_close(masked.value(*twice), expected)


def test_a_module_is_copied_in_both_types() -> None:
    x, target = pair((1, 4, 5))
    layer = torch.nn.Conv2d(1, 1, 3, padding=1).double()
    loss = bl.losses.SegmentationLoss(layer)
    before = loss.value(x, target)
    with torch.no_grad():
        layer.weight.zero_()
    assert torch.equal(loss.value(x, target), before)
    single = loss.value(x.float(), target.float())
    torch.testing.assert_close(single.double(), before, rtol=1e-5, atol=1e-6)
    assert layer.weight.requires_grad

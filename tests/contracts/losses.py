"""What every upper-level loss must do; inherit ``LossContract`` and name it in ``LOSSES``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.differentiate import Upper
from bilevel.ground import rows
from bilevel.model.losses import Loss


class Cubes(torch.nn.Module):
    """Mean |x - target|³: any function of one's own."""

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return (x - target).abs().pow(3).flatten(1).mean(1)


WEIGHTS = torch.arange(20.0).view(4, 5)
LOSSES: dict[str, Loss] = {
    "squared error": bl.losses.SquaredError(),
    "psnr": bl.losses.PSNR(),
    "ssim": bl.losses.SSIM(),
    "huberised tv": bl.losses.HuberisedTV(0.05) + 1e-3 * bl.losses.SquaredError(),
    "absolute error": bl.losses.AbsoluteError(0.05),
    "huber error": bl.losses.AbsoluteError(potential="huber"),
    "weighted error": bl.losses.WeightedError(1 + WEIGHTS),
    "magnitude error": bl.losses.MagnitudeError(0.05),
    "sum": 0.3 * bl.losses.PSNR() + 2.0 * bl.losses.AbsoluteError(0.1),
    "multiple": 2.0 * bl.losses.PSNR(),
    "target channels": bl.losses.TargetChannels(bl.losses.PSNR(), 0, 1),
    "module": bl.losses.ModuleLoss(Cubes()),
}
"""Whose least value is at the target; a shift of all pixels is none to TV, hence the square."""
SHAPES = {"image": (1, 4, 5), "complex": (2, 4, 5), "window": (1, 12, 11)}
TAKEN = {
    "target channels": ("image",),
    "ssim": ("window",),
    "magnitude error": ("complex",),
    "weighted error": ("image", "complex"),
}
"""The shapes that a loss takes, where it does not take all; larger ones are for who needs them."""
SCALES = (1e-6, 1.0, 255.0, 65535.0)


def pair(shape: tuple[int, ...], seed: int = 0, size: float = 0.1) -> tuple[Tensor, Tensor]:
    """Three rows at unlike distances from their targets."""
    rng = torch.Generator().manual_seed(seed)
    target = torch.rand(3, *shape, generator=rng, dtype=torch.float64)
    noise = torch.randn(target.shape, generator=rng, dtype=torch.float64)
    return target + size * rows.expand(torch.tensor([0.1, 1.0, 3.0]), noise) * noise, target


def points(x: Tensor, target: Tensor, radius: Tensor, seed: int) -> Iterator[Tensor]:
    """In the ball around x: the centre, random ones, and towards and away from the target."""
    rng = torch.Generator().manual_seed(seed)
    yield x
    for _ in range(2):
        yield x + _long(torch.randn(x.shape, generator=rng, dtype=x.dtype), radius)
    for share in (0.5, 1.0, -1.0):
        yield x + share * _long(target - x, radius)


def _long(shift: Tensor, radius: Tensor) -> Tensor:
    return shift * rows.expand(radius / rows.norm(shift), shift)


class LossContract:
    names: ClassVar[tuple[str, ...]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        shapes = [(n, s) for n in self.names for s in TAKEN.get(n, ("image", "complex"))]
        rows = [pytest.param(n, SHAPES[s], id=f"{n}-{s}") for n, s in shapes]
        metafunc.parametrize(("name", "shape"), rows)

    def test_gradient_is_the_derivative_of_every_row(self, name: str, shape) -> None:
        loss, (x, target) = LOSSES[name], pair(shape)
        point = x.clone().requires_grad_()
        (expected,) = torch.autograd.grad(loss.value(point, target).sum(), point)
        torch.testing.assert_close(loss.grad(x, target), expected, rtol=1e-10, atol=1e-14)

    def test_lipschitz_constants_bound_every_hessian_in_the_ball(self, name: str, shape) -> None:
        """By the largest eigenvalue of dense Hessians; radii to beyond the target."""
        loss = LOSSES[name]
        for seed, size in enumerate((1e-4, 0.1)):
            x, target = pair(shape, seed, size)
            for reach in (0.0, 0.3, 1.0, 10.0):
                radius = reach * rows.norm(x - target)
                bound = loss.lipschitz(x, target, radius)
                assert bound.dtype == torch.float64
                assert bound.shape == (3,)
                for point in points(x, target, radius, seed):
                    for k in range(3):
                        most = self.stiffness(loss, point[k : k + 1], target[k : k + 1])
                        assert most <= float(bound[k]) * (1 + 1e-9)

    @staticmethod
    def stiffness(loss: Loss, x: Tensor, target: Tensor) -> float:
        """‖∇²ℓ‖ of one row."""

        def value(flat: Tensor) -> Tensor:
            return loss.value(flat.view_as(x), target).sum()

        hessian: Tensor = torch.autograd.functional.hessian(value, x.flatten(), vectorize=True)  # type: ignore[assignment]
        return float(torch.linalg.eigvalsh(hessian).abs().max())

    def test_rows_and_types(self, name: str, shape) -> None:
        """A batch gives what its rows give; float64 what float32 does, to rounding."""
        loss, (x, target) = LOSSES[name], pair(shape)
        radius = torch.tensor([0.0, 0.1, 10.0], dtype=torch.float64)
        index = torch.tensor([2, 0])
        some = loss.rows(index)
        for found, whole in (
            (some.value(x[index], target[index]), loss.value(x, target)),
            (some.grad(x[index], target[index]), loss.grad(x, target)),
            (
                some.lipschitz(x[index], target[index], radius[index]),
                loss.lipschitz(x, target, radius),
            ),
        ):
            torch.testing.assert_close(found, whole[index], rtol=1e-12, atol=1e-15)
        single = loss.value(x.float(), target.float()), loss.grad(x.float(), target.float())
        assert single[0].dtype == single[1].dtype == torch.float32
        fine = loss.double()
        torch.testing.assert_close(single[0].double(), fine.value(x, target), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(single[1].double(), fine.grad(x, target), rtol=1e-3, atol=1e-5)

    def test_a_perfect_reconstruction_is_the_lowest(self, name: str, shape) -> None:
        loss, (x, target) = LOSSES[name], pair(shape)
        assert bool((loss.value(target, target) < loss.value(x, target)).all())
        assert float(loss.grad(target, target).abs().max()) <= 1e-12
        assert bool((rows.inner(loss.grad(x, target), x - target) > 0).all())

    def test_finite_and_downhill_at_every_scale(self, name: str, shape) -> None:
        """In float32 as well."""
        loss, (x, target) = LOSSES[name], pair(shape)
        for scale in SCALES:
            for dtype in (torch.float32, torch.float64):
                a, b = (scale * x).to(dtype), (scale * target).to(dtype)
                assert bool(loss.value(a, b).isfinite().all())
                assert bool((rows.inner(loss.grad(a, b), a - b) > 0).all())

    def test_further_channels_of_a_state_are_not_judged(self, name: str, shape) -> None:
        loss, (x, target) = LOSSES[name], pair(shape)
        upper = Upper(loss, target)
        state = torch.cat([x, torch.full_like(x, 7.0)], 1)
        torch.testing.assert_close(upper.value(state), loss.value(x, target))
        slope = upper.grad(state)
        torch.testing.assert_close(slope[:, : x.shape[1]], loss.grad(x, target))
        assert float(slope[:, x.shape[1] :].abs().max()) == 0

    def test_the_psnr_is_that_of_the_report(self, name: str, shape) -> None:
        """Where a loss says that its mean stands for one."""
        from bilevel.report import psnr

        loss, (x, target) = LOSSES[name], pair(shape)
        for k in (1, 2):  # the first is so near that the floor of PSNR tells
            one = slice(k, k + 1)
            said = loss.psnr(float(loss.value(x[one], target[one])))
            if not math.isnan(said):
                assert said == pytest.approx(float(psnr(x[one], target[one])), abs=1e-3)

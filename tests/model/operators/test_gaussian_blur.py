"""Blur of known or learned width."""

from __future__ import annotations

import math

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.model.operators import Convolution, GaussianBlur
from contracts.operators import Case, OperatorContract, images


class TestGaussianBlur(OperatorContract):
    cases = (
        Case("circular", lambda: GaussianBlur(0.8, 5), (1, 8, 9), exact=True),
        Case("learned", lambda: GaussianBlur(0.8, 5, learn=("sigma",)), (2, 8, 8), exact=True),
        Case("even side", lambda: GaussianBlur(0.8, 4, "reflecting"), (1, 7, 8), loose=1.5),
        Case("valid", lambda: GaussianBlur(0.8, 5, "valid"), (1, 13, 16), loose=1.3),
        Case("zero", lambda: GaussianBlur(0.8, None, "zero"), (1, 12, 9), loose=1.3),
    )


def test_it_is_the_convolution_with_its_kernel() -> None:
    blur = GaussianBlur(1.2, boundary="zero").double()
    at = torch.arange(11, dtype=torch.float64) - 5
    profile = torch.exp(-0.5 * (at / float(blur.sigma)) ** 2)
    kernel = torch.outer(profile, profile)
    x = images((1, 12, 13))
    torch.testing.assert_close(blur(x), Convolution(kernel / kernel.sum(), "zero").double()(x))
    assert blur.shape == (11, 11)


@pytest.mark.parametrize("boundary", ["circular", "reflecting", "valid"])
def test_its_slope_bounds_the_derivative_by_its_width(boundary: str) -> None:
    x = images((1, 16, 15))
    for sigma in (0.2, 0.7, 1.5):
        blur = GaussianBlur(sigma, 9, boundary, learn=("sigma",)).double()  # type: ignore[arg-type]
        at = float(blur.sigma.detach())
        ends: list[torch.Tensor] = []
        with torch.no_grad():
            for step in (1e-6, -1e-6):
                blur.sigma.fill_(at + step)
                ends.append(blur(x))
            blur.sigma.fill_(at)
        change = (ends[0] - ends[1]).flatten(1).norm(dim=1) / 2e-6
        size = x.flatten(1).norm(dim=1)
        assert (change <= (1 + 1e-6) * blur.sensitivity((1, 16, 15)) * size).all()


def test_the_width_is_learned_from_pairs() -> None:
    """To the minimiser of the loss, found by a dense search."""
    truth = bl.data.embedded_images(size=32)[:2].double()
    pairs = bl.data.simulate(truth, GaussianBlur(1.0, 7).double(), bl.data.GaussianNoise(0.005))

    def problem(sigma: float) -> bl.BilevelProblem:
        blur = GaussianBlur(sigma, 7, learn=("sigma",))
        tv = bl.regularisers.TotalVariation(2e-4, 0.02, learn=())
        ridge = bl.regularisers.Tikhonov(1e-3, learn=())
        energy = bl.Variational(bl.fidelities.SquaredL2(blur), tv + ridge).double()
        return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs.to(torch.float64))

    p = problem(0.7)
    fit = bl.learn(p, budget=bl.Budget(steps=40))
    name = next(iter(p.theta))
    found = float(fit.theta[name])
    grid = torch.linspace(-0.05, 0.05, 11, dtype=torch.float64) + found
    values = [p.value({name: t}, tol=1e-6) for t in grid]
    best = float(grid[min(range(len(values)), key=values.__getitem__)])
    assert abs(found - best) <= 0.01
    assert abs(found - 1.0) < 0.2


@pytest.mark.parametrize(
    "make",
    [
        lambda: GaussianBlur(0.0),
        lambda: GaussianBlur(math.nan),
        lambda: GaussianBlur(1.0, 0),
        lambda: GaussianBlur(1.0, boundary="mirrored"),  # type: ignore[arg-type]
        lambda: GaussianBlur(1.0, learn=("size",)),
        lambda: GaussianBlur(1.0, 9)(torch.ones(1, 1, 8, 8)),
    ],
)
def test_bad_options_are_refused(make) -> None:
    with pytest.raises(InputError):
        make()

"""Fourier coefficients off the grid, where FINUFFT is installed."""

from __future__ import annotations

import math
from math import inf

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.data import birdcage
from bilevel.interop import NonCartesian
from contracts.operators import Case, OperatorContract, dense, images
from interop.foreign import imported

imported("finufft")

SIZE = (6, 7)


def spokes(count: int = 5, h: int = 6, w: int = 7, samples: int = 9) -> Tensor:
    angle = math.pi * torch.arange(count, dtype=torch.float64) / count
    reach = torch.linspace(-1.0, 1.0, samples, dtype=torch.float64)
    down, across = (torch.outer(f(angle), reach).flatten() for f in (torch.sin, torch.cos))
    return torch.stack([down * (h / 2 - 0.5), across * (w / 2 - 0.5)], 1)


def grid(h: int, w: int) -> Tensor:
    down, across = torch.meshgrid(torch.arange(h) - h // 2, torch.arange(w) - w // 2, indexing="ij")
    return torch.stack([down, across], -1).reshape(-1, 2).double()


class TestNonCartesian(OperatorContract):
    cases = (
        Case("radial", lambda: NonCartesian(spokes(), SIZE), (2, *SIZE), loose=1.0 + 1e-9),
        Case("coils", lambda: NonCartesian(spokes(4), SIZE, birdcage(SIZE, 3)), (2, *SIZE)),
        Case("few points", lambda: NonCartesian(spokes(1, 5, 5), (5, 5)), (2, 5, 5)),
    )


@pytest.mark.parametrize("size", [(6, 7), (8, 5)])
def test_on_the_grid_it_is_the_centred_transform(size: tuple[int, int]) -> None:
    maps, x = birdcage(size, 2), images((2, *size))
    off = NonCartesian(grid(*size), size, maps)
    on = bl.operators.MultiCoil(torch.ones(size), maps, centred=True).double()
    torch.testing.assert_close(off(x).flatten(1), on(x).flatten(1), rtol=0.0, atol=1e-6)


def test_it_is_the_sum_that_is_written() -> None:
    points = spokes()
    found = dense(NonCartesian(points, SIZE), (2, *SIZE))
    at = grid(*SIZE)
    phase = 2 * math.pi * (points[:, None] * at[None] / torch.tensor(SIZE)).sum(-1)
    matrix = torch.polar(torch.full_like(phase, 1 / math.sqrt(42)), -phase)
    rows = torch.cat([matrix.real, -matrix.imag], 1), torch.cat([matrix.imag, matrix.real], 1)
    torch.testing.assert_close(found, torch.cat(rows), rtol=0.0, atol=1e-11)


def test_of_a_large_one_the_adjoint_is_checked_and_no_norm_is_claimed() -> None:
    operator = NonCartesian(spokes(60, 64, 64, 64), (64, 64))
    assert bl.check_adjoint(operator, (2, 64, 64)).passed
    assert operator.gram_bounds((2, 64, 64)).upper == inf


def test_an_image_comes_back_from_radial_lines() -> None:
    image = bl.data.shepp_logan(16)[0, 0]
    x = torch.stack([image, 0.5 * image])[None]
    operator = NonCartesian(spokes(14, 16, 16, 16), (16, 16))
    y = operator(x)
    tv = bl.regularisers.TotalVariation(1e-3, 0.01, coupled=True)
    energy = bl.Variational(bl.fidelities.SquaredL2(operator), tv)
    tol = bl.Tolerance(residual=1e-4)
    found = bl.minimise(energy.at(y), bl.solvers.LBFGS(), tol=tol).require().x
    assert float((found - x).square().mean()) < 0.02 * float(x.square().mean())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: NonCartesian(torch.zeros(3, 3), SIZE), r"\(m, 2\)"),
        (lambda: NonCartesian(torch.full((3, 2), 4.0), SIZE), "radians"),
        (lambda: NonCartesian(torch.full((3, 2), torch.nan), SIZE), "finite"),
        (lambda: NonCartesian(spokes(), (0, 7)), "size"),
        (lambda: NonCartesian(spokes(), SIZE, torch.ones(2, *SIZE)), "complex"),
        (lambda: NonCartesian(spokes(), SIZE, norm=-1.0), "norm"),
    ],
)
def test_bad_sampling_is_refused(make, said: str) -> None:
    with pytest.raises(bl.InputError, match=said):
        make()


def test_it_is_saved_with_a_fit(tmp_path) -> None:
    operator = NonCartesian(spokes(), SIZE)
    energy = bl.Variational(bl.fidelities.SquaredL2(operator), bl.regularisers.Tikhonov(0.1))
    x = images((2, *SIZE), torch.float32)
    pairs = bl.data.simulate(x, operator, bl.data.GaussianNoise(0.01))
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    bl.learn(problem, budget=bl.Budget(steps=1)).save(tmp_path / "fit")
    again = bl.load(tmp_path / "fit").energy
    torch.testing.assert_close(again.fidelity.operator(x), operator(x), rtol=0.0, atol=0.0)

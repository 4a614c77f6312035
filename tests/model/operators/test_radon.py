"""Tomography: line integrals against those known in closed form, adjoint, norm, back-projection."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.linear.bounds import power_estimate
from bilevel.model.operators import Radon
from contracts.operators import Case, OperatorContract, dense


def fan(size: tuple[int, int] = (7, 9), angles: int = 11) -> Radon:
    return Radon(size, angles, source=20.0, behind=5.0)


class TestRadon(OperatorContract):
    cases = (
        Case("parallel", lambda: Radon((8, 8), 10), (1, 8, 8), loose=1.35),
        Case("odd", lambda: Radon((7, 10), 9, detectors=14, spacing=0.9), (1, 7, 10), loose=1.35),
        Case("fan", fan, (1, 7, 9), loose=1.35),
        Case("angles", lambda: Radon((6, 6), [0.0, 30.0, 45.0, 90.0]), (1, 6, 6), loose=1.35),
    )


def bump(size: int, x0: float, y0: float, radius: float, pixel: float) -> Tensor:
    """(1 - r²/R²)² within a disc: smooth, with line integrals 16/15 (R² - s²)^2.5/R⁴."""
    at = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) * pixel
    square = (at[None] - x0) ** 2 + (at[:, None] - y0) ** 2
    return (1 - square / radius**2).clamp_min(0.0).square()[None, None]


@pytest.mark.parametrize("source", [None, 300.0])
@pytest.mark.parametrize("pixel", [1.0, 0.5])
def test_integrals_of_a_smooth_disc(source: float | None, pixel: float) -> None:
    size, x0, y0, radius = 128, 10.0 * pixel, -17.0 * pixel, 30.0 * pixel
    distance = None if source is None else source * pixel
    operator = Radon((size, size), 24, pixel=pixel, spacing=pixel, source=distance, precise=True)
    found = operator(bump(size, x0, y0, radius, pixel))[0, 0]
    whole = 180.0 if source is None else 360.0
    theta = torch.arange(24, dtype=torch.float64)[:, None] * math.radians(whole / 24)
    count = found.shape[1]
    t = (torch.arange(count, dtype=torch.float64)[None] - (count - 1) / 2) * pixel
    along, ahead = (theta.cos(), theta.sin()), (-theta.sin(), theta.cos())
    if distance is None:
        off = t - (x0 * along[0] + y0 * along[1])
    else:
        start = (-distance * ahead[0], -distance * ahead[1])
        ray = (t * along[0] - start[0], t * along[1] - start[1])
        length = (ray[0].square() + ray[1].square()).sqrt()
        off = ((x0 - start[0]) * ray[1] - (y0 - start[1]) * ray[0]) / length
    expected = 16 / 15 * (radius**2 - off**2).clamp_min(0.0) ** 2.5 / radius**4
    assert float((found - expected).abs().max()) <= 0.01 * float(expected.max())


def test_entries_are_those_of_the_formula() -> None:
    """Line integrals of the piecewise linear interpolation, ray by ray."""
    size, pixel = (6, 9), 0.7
    for operator in (
        Radon(size, 7, detectors=10, spacing=0.8, pixel=pixel, precise=True),
        Radon(size, [3.0, 44.0, 130.0], 8, pixel=pixel, source=9.0, behind=2.0, precise=True),
    ):
        matrix = dense(operator, (1, *size)).reshape(-1, *size)
        g = operator.geometry
        for k, degrees in enumerate(g.degrees):
            theta = math.radians(degrees)
            along = (math.cos(theta), math.sin(theta))
            ahead = (-along[1], along[0])
            for j in range(g.count):
                t = (j - (g.count - 1) / 2) * g.spacing
                end = [t * along[i] + g.behind * ahead[i] for i in (0, 1)]
                far = g.source is not None
                begin = [-g.source * ahead[i] if far else end[i] - ahead[i] for i in (0, 1)]
                expected = one_ray(begin, end, size, pixel)
                found = matrix[k * g.count + j]
                torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-6)


def one_ray(begin: list[float], end: list[float], size: tuple[int, int], pixel: float) -> Tensor:
    """Joseph's method, pixel by pixel."""
    found = torch.zeros(size, dtype=torch.float64)
    move = [end[i] - begin[i] for i in (0, 1)]
    main = 0 if abs(move[0]) >= abs(move[1]) else 1  # along x, or y
    steps, across = (size[1], size[0]) if main == 0 else size
    length = pixel * math.hypot(*move) / abs(move[main])
    for step in range(steps):
        at = (step - (steps - 1) / 2) * pixel
        place = begin[1 - main] + (at - begin[main]) * move[1 - main] / move[main]
        place = place / pixel + (across - 1) / 2
        for cross in range(across):
            share = max(0.0, 1 - abs(place - cross))
            found[(cross, step) if main == 0 else (step, cross)] += share * length
    return found


@pytest.mark.parametrize("source", [None, 90.0])
def test_of_a_larger_one_the_bound_is_near_the_norm(source: float | None) -> None:
    operator = Radon((64, 64), 90, detectors=100, source=source, precise=True)
    gram = LinearMap.shared(lambda x: operator.adjoint(operator(x)))
    below = power_estimate(gram, (1, 64, 64)) ** 0.5
    assert below <= operator.gram_bounds((1, 64, 64)).upper ** 0.5 <= 1.35 * below


@pytest.mark.parametrize(("spacing", "pixel"), [(1.0, 1.0), (0.5, 2.0)])
@pytest.mark.parametrize("source", [None, 150.0])
def test_filtered_back_projection_gives_the_image_back(
    source: float | None, spacing: float, pixel: float
) -> None:
    image = bump(96, 8.0 * pixel, -5.0 * pixel, 30.0 * pixel, pixel).float()
    far = None if source is None else source * pixel
    angles = 180 if source is None else 240
    lengths = {"spacing": spacing * pixel, "pixel": pixel, "source": far}
    operator = Radon((96, 96), angles, behind=20.0 * pixel, **lengths)
    found = operator.filtered_back_projection(operator(image))
    inside = image > 0.05
    assert float((found - image)[inside].abs().max()) <= 0.04
    assert float(found[inside].mean()) == pytest.approx(float(image[inside].mean()), rel=0.01)
    assert torch.equal(operator.start(operator(image)), found)


def test_reconstruction_starts_from_it_and_is_certified() -> None:
    image = bl.data.shepp_logan(32)
    operator = Radon((32, 32), 24)
    y = bl.data.simulate(image, operator, bl.data.GaussianNoise(0.2)).y
    energy = bl.Variational(
        bl.fidelities.SquaredL2(operator), bl.regularisers.TotalVariation(0.5, 0.02)
    )
    energy.regulariser = energy.regulariser + bl.regularisers.Tikhonov(1e-2, learn=())
    start = energy.start(y)
    solution = bl.minimise(energy.at(y), bl.solvers.LBFGS(), tol=bl.Tolerance(rms=2e-2))
    before, after = (float((x - image).square().mean()) for x in (start, solution.x))
    assert after < 0.6 * before
    assert float(solution.require().certificate.rms) <= 2e-2


def test_the_matrix_is_not_part_of_a_saved_fit() -> None:
    operator = Radon((8, 8), 6)
    assert operator.state_dict() == {}
    again = Radon(**operator.options())  # type: ignore[arg-type]
    x = torch.rand(1, 1, 8, 8)
    assert torch.equal(again(x), operator(x))


def test_one_geometry_is_assembled_once() -> None:
    from bilevel.model.operators import radon

    radon._assembled.cache_clear()  # pyright: ignore[reportPrivateUsage]
    Radon((8, 8), 5)
    Radon((8, 8), torch.arange(5) * 36.0)
    assert radon._assembled.cache_info().misses == 1  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Radon((0, 8), 5),
        lambda: Radon((8, 8), 0),
        lambda: Radon((8, 8), [math.nan]),
        lambda: Radon((8, 8), []),
        lambda: Radon((8, 8), 5, detectors=0),
        lambda: Radon((8, 8), 5, spacing=-1.0),
        lambda: Radon((8, 8), 5, source=4.0),
        lambda: Radon((8, 8), 5, source=40.0, behind=-1.0),
        lambda: fan().filtered_back_projection(torch.zeros(1, 1, 11, 14)),
        lambda: Radon((8, 8), 5).filtered_back_projection(torch.zeros(1, 1, 5, 3)),
        lambda: Radon((8, 8), 5, detectors=9)(torch.zeros(1, 1, 9, 8)),
        lambda: Radon((8, 8), 5, detectors=9).adjoint(torch.zeros(1, 1, 9, 5)),
    ],
)
def test_bad_geometry_is_refused(make) -> None:
    with pytest.raises(InputError):
        make()

"""Magnetic resonance of complex images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.data import birdcage, estimated_sensitivities
from bilevel.ground.errors import InputError
from bilevel.model.operators import MultiCoil
from bilevel.model.operators.fourier import line_mask
from contracts.operators import Case, OperatorContract, images

SIZE = (6, 8)


def maps(coils: int = 3) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.complex(*torch.randn(2, coils, *SIZE, generator=rng))


def mask() -> Tensor:
    return line_mask(SIZE, 2.0, 0.25)


FULL = torch.ones(SIZE)


class TestMultiCoil(OperatorContract):
    cases = (
        Case("single", lambda: MultiCoil(mask()), (2, *SIZE), exact=True),
        Case("full", lambda: MultiCoil(FULL, maps()), (2, *SIZE), exact=True),
        Case("coils", lambda: MultiCoil(mask(), birdcage(SIZE, 4)), (2, *SIZE), loose=1.3),
        Case("centred", lambda: MultiCoil(mask(), maps(), centred=True), (2, *SIZE)),
        Case("odd", lambda: MultiCoil(torch.rand(5, 7), None, centred=True), (2, 5, 7), loose=1.3),
    )


def test_it_is_the_transform_of_what_each_coil_sees() -> None:
    x, s = images((2, *SIZE)), maps().to(torch.complex128)
    z = torch.complex(x[:, :1], x[:, 1:])
    plain = torch.fft.fft2(s * z, norm="ortho")
    inside = torch.fft.ifftshift(s * z, (-2, -1))
    centred = torch.fft.fftshift(torch.fft.fft2(inside, norm="ortho"), (-2, -1))
    for expected, flag in ((plain, False), (centred, True)):
        operator = MultiCoil(FULL, maps(), centred=flag).double()
        torch.testing.assert_close(operator(x), torch.cat([expected.real, expected.imag], 1))


def test_maps_are_not_rounded_to_the_precision_of_the_mask() -> None:
    s = torch.complex(*torch.rand(2, 2, *SIZE, dtype=torch.float64))
    operator = MultiCoil(mask(), s)
    assert torch.equal(operator.sensitivities, s)
    assert operator(images((2, *SIZE)).double()).dtype == torch.float64


def test_coils_on_a_circle_see_every_pixel_as_well() -> None:
    power = birdcage((12, 9), 5, dtype=torch.complex128).abs().square().sum(0)
    torch.testing.assert_close(power, torch.ones(12, 9, dtype=torch.float64))
    first, second = birdcage((12, 9), 5)[:2]
    assert float((first.abs() - second.abs()).abs().max()) > 0.1


@pytest.mark.parametrize("centred", [False, True])
def test_sensitivities_are_found_in_the_middle_of_k_space(centred: bool) -> None:
    size = (48, 40)
    truth = birdcage(size, 4)
    image = bl.data.shepp_logan(48)[0, 0, :, 4:44] + 0.2
    x = torch.stack([image, torch.zeros_like(image)])[None]
    y = MultiCoil(torch.ones(size), truth, centred=centred)(x)
    found = estimated_sensitivities(y, 16, centred=centred)
    off = (found - truth).abs().square().sum(0).sqrt()
    assert float(off[8:-8, 8:-8].median()) <= 0.1
    torch.testing.assert_close(found.abs().square().sum(0), torch.ones(size), rtol=1e-4, atol=1e-4)


def test_several_images_show_the_same_coils_whatever_their_phases() -> None:
    """Up to one phase a pixel, to which a reference combination of the coils gives a meaning."""
    size, rng = (32, 40), torch.Generator().manual_seed(3)
    truth = birdcage(size, 3, dtype=torch.complex128)
    shape = bl.data.shepp_logan(40)[0, 0, 4:36].double() + 0.3
    tilt = torch.linspace(-2.0, 2.0, 40, dtype=torch.float64)
    phases = torch.rand(5, 1, 1, generator=rng, dtype=torch.float64) * 6 + tilt
    z = torch.polar(shape.expand(5, *size), phases.expand(5, *size))
    y = MultiCoil(torch.ones(size).double(), truth)(torch.stack([z.real, z.imag], 1))
    found = estimated_sensitivities(y, 12)
    torch.testing.assert_close(found.abs().square().sum(0), torch.ones(size).double())
    alike = (found.conj() * truth).sum(0).abs()
    assert float(alike[6:-6, 6:-6].min()) > 0.99
    turned = estimated_sensitivities(torch.cat([y[:, 3:], -y[:, :3]], 1), 12)  # all by -i
    torch.testing.assert_close(turned, found)


def test_a_complex_image_comes_back() -> None:
    size = (16, 16)
    image = bl.data.shepp_logan(16)[0, 0]
    x = torch.stack([image * 0.8, image * 0.6])[None]
    operator = MultiCoil(line_mask(size, 2.0, 0.25), birdcage(size, 4))
    y = bl.data.simulate(x, operator, bl.data.GaussianNoise(0.01)).y
    tv = bl.regularisers.TotalVariation(0.002, 0.01, coupled=True)
    ridge = bl.regularisers.Tikhonov(1e-3, learn=())
    energy = bl.Variational(bl.fidelities.SquaredL2(operator), tv + ridge)
    found = bl.minimise(energy.at(y), bl.solvers.LBFGS(), tol=bl.Tolerance(rms=5e-3)).require()
    error = float((found.x - x).square().mean().sqrt())
    assert error < 0.5 * float((operator.adjoint(y) - x).square().mean().sqrt())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MultiCoil(torch.zeros(SIZE)), "mask sees nothing"),
        (lambda: MultiCoil(FULL, torch.zeros(3, *SIZE, dtype=torch.complex64)), "zero everywhere"),
        (lambda: MultiCoil(FULL, torch.ones(3, *SIZE)), "complex"),
        (lambda: MultiCoil(FULL, maps()[:, :, :5]), "complex"),
        (lambda: MultiCoil(FULL, maps() * torch.nan), "sensitivities"),
        (lambda: MultiCoil(FULL)(torch.ones(1, 1, *SIZE)), "pairs"),
        (lambda: MultiCoil(FULL, maps()).adjoint(torch.ones(1, 4, *SIZE)), "6 channels"),
        (lambda: birdcage(SIZE, 0), "coils"),
        (lambda: birdcage(SIZE, 3, radius=1.0), "radius"),
        (lambda: estimated_sensitivities(torch.ones(1, 3, 8, 8), 4), "coils"),
        (lambda: estimated_sensitivities(torch.zeros(1, 4, 8, 8), 4), "zero"),
        (lambda: estimated_sensitivities(torch.ones(1, 4, 8, 8), 9), "middle"),
    ],
)
def test_bad_measurements_are_refused(make, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()

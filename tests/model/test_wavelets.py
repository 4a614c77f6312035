"""Wavelets: orthogonality, moments, another library; sparsity with an exact minimiser."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.model.by_row import with_theta
from bilevel.model.operators import Wavelets
from bilevel.model.operators.wavelet_filters import Wavelet, scaling_filter
from bilevel.model.regularisers import ExactWaveletSparsity, WaveletSparsity
from bilevel.solve import Tolerance, minimise
from bilevel.solve.solvers import PDHG
from contracts.operators import Case, OperatorContract, dense, images
from contracts.regularisers import RegulariserContract
from contracts.zoo import wavelets

NAMES: tuple[Wavelet, ...] = get_args(Wavelet)


class TestWavelets(OperatorContract):
    cases = (
        Case("haar", lambda: Wavelets("haar", 2), (1, 5, 7), exact=True),
        Case("dilated beyond the image", lambda: Wavelets("haar", 4), (1, 5, 3), exact=True),
        Case("orthogonal", lambda: Wavelets("symlet-4", 2, decimated=True), (2, 4, 8), exact=True),
        Case(
            "details",
            lambda: Wavelets("daubechies-2", 2, approximation=False),
            (1, 5, 7),
            loose=1.1,
        ),
        Case(
            "orthogonal details",
            lambda: Wavelets("daubechies-3", 1, decimated=True, approximation=False),
            (2, 4, 6),
            exact=True,
        ),
    )


@pytest.mark.parametrize("name", NAMES)
def test_filters_are_orthogonal_to_their_shifts_and_have_vanishing_moments(name: Wavelet) -> None:
    low = torch.tensor(scaling_filter(name), dtype=torch.float64)
    taps, place = len(low), torch.arange(len(low)).double()
    for shift in range(taps // 2):
        overlap = float(low[: taps - 2 * shift] @ low[2 * shift :])
        assert overlap == pytest.approx(float(shift == 0), abs=1e-14)
    signs = (-1.0) ** place
    for moment in range(taps // 2):
        assert abs(float((signs * low * place**moment).sum())) < 1e-12


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("decimated", [False, True])
def test_the_transform_keeps_lengths_and_its_adjoint_inverts_it(
    name: Wavelet, decimated: bool
) -> None:
    shape = (1, 8, 16) if decimated else (1, 7, 5)
    matrix = dense(Wavelets(name, 3, decimated=decimated), shape)
    eye = torch.eye(matrix.shape[1], dtype=torch.float64)
    torch.testing.assert_close(matrix.T @ matrix, eye, rtol=0, atol=1e-12)
    if decimated:
        assert matrix.shape[0] == matrix.shape[1]


@pytest.mark.parametrize("name", NAMES)
def test_another_library_has_the_same_bands(name: Wavelet) -> None:
    """Up to shifts and signs."""
    pywt = pytest.importorskip("pywt")
    x = images((1, 8, 16), batch=1)
    family, _, order = name.partition("-")
    short = {"haar": "haar", "daubechies": f"db{order}", "symlet": f"sym{order}"}[family]
    theirs = pywt.swt2(x[0, 0].numpy(), short, 2, norm=True)
    found = Wavelets(name, 2)(x)[0]
    for level, (_, details) in enumerate(reversed(theirs)):
        ours = [sorted(found[3 * level + k].abs().flatten().tolist()) for k in range(3)]
        other = [sorted(abs(band).flatten().tolist()) for band in details]
        for band in other:
            assert any(band == pytest.approx(mine, abs=1e-7) for mine in ours)
    last = sorted(abs(theirs[0][0]).flatten().tolist())
    assert last == pytest.approx(sorted(found[-1].abs().flatten().tolist()), abs=1e-7)


def test_undecimated_coefficients_move_with_the_image() -> None:
    x, transform = images((1, 9, 7)), Wavelets("daubechies-2", 2)
    torch.testing.assert_close(transform(x.roll((2, 3), (2, 3))), transform(x).roll((2, 3), (2, 3)))


def test_bands_are_finest_first_rows_columns_both() -> None:
    stripes = torch.tensor([1.0, -1.0]).repeat(4).double()
    for decimated in (False, True):
        transform = Wavelets("haar", 2, decimated=decimated)
        for k, x in enumerate((stripes.expand(8, 8), stripes.expand(8, 8).T)):
            energy = transform(x[None, None])[0].square().sum((1, 2))
            bands = torch.zeros(7).double().index_add(0, transform.bands, energy)
            assert float(bands[1 - k]) == pytest.approx(64.0)


def soft(t: Tensor, weight: Tensor) -> Tensor:
    return t.sign() * (t.abs() - weight).clamp_min(0.0)


@pytest.mark.parametrize("coupled", [False, True])
def test_denoising_with_orthogonal_wavelets_is_soft_thresholding(coupled: bool) -> None:
    weight = torch.tensor([0.1, 0.2, 0.3, 0.05, 0.15, 0.25])
    channels = 2 if coupled else 1
    options = {"levels": 2, "decimated": True, "channels": channels, "coupled": coupled}
    sparse = ExactWaveletSparsity(weight, wavelet="symlet-4", **options)  # type: ignore[arg-type]
    energy = bl.Variational(bl.fidelities.SquaredL2(), sparse).double()
    y = images((channels, 8, 8), batch=2)
    found = minimise(energy.at(y), PDHG(), tol=Tolerance(rms=1e-6), max_steps=5000)
    assert bool((found.certificate.rms <= 1e-6).all())
    transform = Wavelets("symlet-4", 2, decimated=True)
    bands = torch.cat([weight.double(), torch.zeros(1).double()])[transform.bands]
    t = transform(y).unflatten(1, (channels, -1))
    if coupled:
        size = t.square().sum(1, keepdim=True).sqrt()
        t = t * soft(size, bands[:, None, None]) / size
    else:
        t = soft(t, bands[:, None, None])
    exact = transform.adjoint(t.flatten(1, 2))
    assert float((found.x - exact).square().mean().sqrt()) <= 1e-6


def test_smoothed_absolute_values_tend_to_exact_ones() -> None:
    x = images((2, 8, 4))
    weight = torch.rand(6) + 0.1
    for decimated, wavelet in ((False, "haar"), (True, "daubechies-2")):
        options = {"levels": 2, "decimated": decimated, "wavelet": wavelet}
        smooth = WaveletSparsity(weight, 1e-9, **options).double()  # type: ignore[arg-type]
        exact = ExactWaveletSparsity(weight, channels=2, **options).double()  # type: ignore[arg-type]
        torch.testing.assert_close(smooth(x), exact(x), rtol=1e-5, atol=0)


def test_weights_of_bands_with_several_channels_are_bounded() -> None:
    """Decimated, a band of the first of two levels is four channels with one weight."""
    contract, x = RegulariserContract, torch.rand(2, 1, 8, 4, dtype=torch.float64)
    for seed in range(6):
        rng = generator(seed, "shared")
        regulariser = wavelets(rng, levels=2, decimated=True).double()
        q = torch.randn(x.shape, generator=rng, dtype=x.dtype)
        radius = 10 ** (-3 * torch.rand(2, generator=rng, dtype=x.dtype))
        bound, here = regulariser.variation(x, q, radius), contract.cross(regulariser, x)
        for shift in contract.shifts(regulariser, x, q, rng):
            move = rows.expand(radius / rows.norm(shift), x) * shift
            there = contract.cross(regulariser, x + move)
            change = torch.einsum("bpn,bn->bp", there - here, q.flatten(1)).norm(dim=1)
            assert bool((change <= bound.cross * (1 + 1e-6) + 1e-9).all())
            norm = torch.linalg.matrix_norm(there, 2)
            assert bool((norm <= bound.cross_norm * (1 + 1e-6) + 1e-9).all())


def test_weights_of_rows_reach_exact_wavelets() -> None:
    sparse = ExactWaveletSparsity(0.1, levels=1)
    energy = bl.Variational(bl.fidelities.SquaredL2(), sparse).double()
    y = images((1, 5, 4), batch=2)
    own = torch.tensor([[0.1, 0.2, 0.3], [0.3, 0.4, 0.1]], dtype=torch.float64)
    joint = with_theta(energy, {"regulariser.log_weight": own.log()}, y).at(y)
    for k, weight in enumerate(own):
        alone = ExactWaveletSparsity(weight, levels=1).double()
        expected = alone(y[k : k + 1]) + 0.0
        torch.testing.assert_close(joint.value(y)[k : k + 1], expected)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Wavelets("db2"), "unknown wavelet"),  # type: ignore[arg-type]
        (lambda: WaveletSparsity(wavelet="harr"), "did you mean 'haar'"),  # type: ignore[arg-type]
        (lambda: WaveletSparsity(levels=0), "levels must be a whole number from 1 to 15"),
        (lambda: WaveletSparsity(torch.ones(3), levels=2), r"shape \(6,\), one a band"),
        (lambda: ExactWaveletSparsity(channels=0), "channels must be at least 1"),
        (lambda: ExactWaveletSparsity().check((3, 8, 8)), "1 channel"),
        (
            lambda: WaveletSparsity(decimated=True).check((1, 20, 24)),
            "3 levels of decimated wavelets need sides that 8 divides.*20x24",
        ),
        (lambda: Wavelets("haar", 2, decimated=True)(torch.ones(1, 1, 6, 8)), "that 4 divides"),
    ],
)
def test_bad_arguments_are_named(build, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()

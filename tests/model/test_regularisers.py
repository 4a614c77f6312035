from __future__ import annotations

import pytest
import torch

from bilevel.ground.errors import InputError
from bilevel.model.regularisers import (
    ExactTotalVariation,
    FieldsOfExperts,
    Tikhonov,
    TotalVariation,
    dct_filters,
)
from bilevel.model.regularisers.cascade import analyse, row_norms
from contracts.regularisers import FURTHER, LEARNED, STATES, RegulariserContract
from contracts.zoo import REGULARISERS


class TestRegularisers(RegulariserContract):
    names = (*REGULARISERS, *FURTHER, *LEARNED, *STATES)


@pytest.mark.parametrize("kind", [TotalVariation, ExactTotalVariation])
def test_coupled_channels_are_lengths_of_complex_differences(kind) -> None:
    """Whatever the common phase; and at most what the channels are one by one."""
    z = torch.randn(2, 1, 5, 4, dtype=torch.complex128)
    tv, apart = kind(0.3, coupled=True).double(), kind(0.3).double()

    def of(z: torch.Tensor, tv=tv) -> torch.Tensor:
        return tv(torch.cat([z.real, z.imag], 1))

    down, right = (torch.diff(z, dim=d, append=z.narrow(d, -1, 1)) for d in (2, 3))
    size = (down.abs().square() + right.abs().square()).sqrt()
    expected = size if kind is ExactTotalVariation else (size.square() + 0.01**2).sqrt() - 0.01
    torch.testing.assert_close(of(z), 0.3 * expected.sum((1, 2, 3)))
    torch.testing.assert_close(of(z * torch.exp(torch.tensor(1.2j))), of(z))
    assert bool((of(z) < of(z, apart)).all())
    with pytest.raises(InputError, match="isotropic"):
        kind(0.3, coupled=True, isotropic=False)


def test_coupled_experts_are_moduli_of_complex_responses() -> None:
    """Whatever the common phase; a filter of two channels would depend on it."""
    z = torch.randn(2, 1, 6, 5, dtype=torch.complex128)
    filters = torch.randn(3, 1, 3, 2, dtype=torch.float64)
    experts = FieldsOfExperts(filters, 0.3, 0.1, coupled=True).double()

    def of(z: torch.Tensor) -> torch.Tensor:
        return experts(torch.cat([z.real, z.imag], 1))

    responses = torch.conv2d(z, experts.filters.detach().to(z.dtype)).abs()
    expected = 0.3 * ((responses.square() + 0.1**2).sqrt() - 0.1)
    torch.testing.assert_close(of(z), expected.sum((1, 2, 3)))
    torch.testing.assert_close(of(z * torch.exp(torch.tensor(1.2j))), of(z))
    alone = torch.cat([z.real, torch.zeros_like(z.real)], 1)
    plain = FieldsOfExperts(filters, 0.3, 0.1).double()
    torch.testing.assert_close(experts(alone), plain(z.real))
    with pytest.raises(InputError, match="one channel"):
        FieldsOfExperts(torch.randn(3, 2, 3, 3), coupled=True)


def test_total_variation_of_a_step() -> None:
    x = torch.zeros(1, 1, 4, 6, dtype=torch.float64)
    x[..., 3:] = 1
    tv = TotalVariation(weight=2.0, smoothing=1e-6).double()
    assert tv(x).item() == pytest.approx(2.0 * 4, rel=1e-5)


def test_isotropic_is_the_length_of_both_differences() -> None:
    x = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    x[..., 0, 0] = 1
    both = TotalVariation(1.0, 1e-6).double()(x).item()
    each = TotalVariation(1.0, 1e-6, isotropic=False).double()(x).item()
    assert both == pytest.approx(2**0.5, rel=1e-5)
    assert each == pytest.approx(2.0, rel=1e-5)


def test_colour_channels_are_penalised_one_by_one() -> None:
    x = torch.rand(2, 3, 5, 4, dtype=torch.float64)
    tv = TotalVariation(0.1, 0.1).double()
    alone = sum(tv(x[:, c : c + 1]) for c in range(3))
    torch.testing.assert_close(tv(x), alone)


def test_fields_of_experts_sees_channels_together() -> None:
    filters = torch.randn(2, 3, 3, 3, dtype=torch.float64)
    foe = FieldsOfExperts(filters, 0.1).double()
    x = torch.rand(2, 3, 6, 5, dtype=torch.float64)
    point = x.clone().requires_grad_()
    expected = torch.autograd.grad(foe(point).sum(), point)[0]
    torch.testing.assert_close(foe.grad(x), expected)
    bound = foe.bounds((3, 6, 5)).lipschitz
    v = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    for _ in range(50):
        v = foe.hessian(torch.zeros_like(x))(v)
        size = v.flatten(1).norm(dim=1)
        v = v / size[:, None, None, None]
    assert bool((size <= bound).all())


def test_dct_filters_are_orthonormal_without_mean() -> None:
    filters = dct_filters(5).double().flatten(1)
    torch.testing.assert_close(
        filters @ filters.T, torch.eye(24, dtype=torch.float64), atol=1e-6, rtol=0
    )
    assert filters.sum(1).abs().max() < 1e-6


def test_student_t_is_weakly_convex() -> None:
    foe = FieldsOfExperts(weight=0.1, potential="student-t")
    bounds = foe.bounds((1, 16, 16))
    assert float(bounds.mu) == pytest.approx(-float(bounds.lipschitz) / 8)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TotalVariation(weight=-1.0), "weight must be positive"),
        (lambda: TotalVariation(weight=float("nan")), "weight must be finite"),
        (lambda: TotalVariation(weight=1e35), "weight must lie in"),
        (lambda: TotalVariation(smoothing=0.0), "smoothing must be a positive"),
        (lambda: TotalVariation(weight=torch.ones(3)), "map of shape"),
        (lambda: TotalVariation(potential="hubber"), "did you mean 'huber'"),
        (lambda: TotalVariation(learn=("wieght",)), "did you mean 'weight'"),
        (lambda: Tikhonov(0.0), "weight must be positive"),
        (lambda: FieldsOfExperts(torch.ones(3, 3)), "filters must have shape"),
        (lambda: FieldsOfExperts(torch.full((1, 1, 2, 2), torch.nan)), "filters must be finite"),
        (lambda: FieldsOfExperts(weight=torch.ones(3)), "weight must be a number or have shape"),
        (lambda: FieldsOfExperts(potential="cosh"), "unknown potential"),
        (lambda: dct_filters(1), "size of at least 2"),
    ],
)
def test_bad_arguments_are_named(build, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize(
    ("regulariser", "shape"),
    [
        (TotalVariation(torch.ones(4, 5)), (1, 5, 4)),
        (FieldsOfExperts(), (1, 4, 9)),
        (FieldsOfExperts(), (3, 9, 9)),
        (Tikhonov(1.0) + TotalVariation(torch.ones(4, 5)), (1, 5, 4)),
    ],
)
def test_images_that_do_not_fit_are_refused(regulariser, shape) -> None:
    with pytest.raises(InputError):
        regulariser.check(shape)


@pytest.mark.parametrize("size", [(3, 4), (5, 9), (11, 8), (12, 20)])
def test_row_norms_of_a_cascade_are_those_of_its_matrix(size) -> None:
    banks = [
        torch.randn(2, 2, 3, 3, dtype=torch.float64),
        torch.randn(3, 2, 5, 3, dtype=torch.float64),
        torch.randn(4, 3, 3, 5, dtype=torch.float64),
    ]
    pixels = 2 * size[0] * size[1]
    basis = torch.eye(pixels, dtype=torch.float64).reshape(pixels, 2, *size)
    exact = analyse(banks, basis).square().sum(0).sqrt()
    torch.testing.assert_close(row_norms(banks, *size), exact)

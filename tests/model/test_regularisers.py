from __future__ import annotations

import pytest
import torch

from bilevel.ground.errors import InputError
from bilevel.model import powers
from bilevel.model.metrics import Metric
from bilevel.model.regularisers import (
    DirectionalTV,
    ExactDirectionalTV,
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
    experts = FieldsOfExperts(filters, 0.3, 0.1, coupled=True, boundary="valid").double()

    def of(z: torch.Tensor) -> torch.Tensor:
        return experts(torch.cat([z.real, z.imag], 1))

    responses = torch.conv2d(z, experts.filters.detach().to(z.dtype)).abs()
    expected = 0.3 * ((responses.square() + 0.1**2).sqrt() - 0.1)
    torch.testing.assert_close(of(z), expected.sum((1, 2, 3)))
    torch.testing.assert_close(of(z * torch.exp(torch.tensor(1.2j))), of(z))
    alone = torch.cat([z.real, torch.zeros_like(z.real)], 1)
    plain = FieldsOfExperts(filters, 0.3, 0.1, boundary="valid").double()
    torch.testing.assert_close(experts(alone), plain(z.real))
    with pytest.raises(InputError, match="one channel"):
        FieldsOfExperts(torch.randn(3, 2, 3, 3), coupled=True)


def test_directional_total_variation_of_lengths_is_the_isotropic_one() -> None:
    x = torch.rand(2, 3, 6, 5, dtype=torch.float64)
    plain, directional = TotalVariation(0.3, 0.02).double(), DirectionalTV(0.3, 0.02).double()
    torch.testing.assert_close(directional(x), plain(x))
    torch.testing.assert_close(directional.grad(x), plain.grad(x))
    own, known = directional.bounds((3, 6, 5)), plain.bounds((3, 6, 5))
    assert float(own.mu) == 0 and float(own.lipschitz) == pytest.approx(float(known.lipschitz))


@pytest.mark.parametrize("exponent", [0.4, 1.0, 1.6])
def test_directional_total_variation_tends_to_its_exact_form(exponent: float) -> None:
    x = torch.rand(2, 1, 6, 5, dtype=torch.float64)
    angle = 90 * torch.rand(6, 5)
    exact = ExactDirectionalTV(0.3, exponent, angle, 7.0, scale=0.5).double()
    smooth = DirectionalTV(0.3, 1e-9, exponent, angle, 7.0, scale=0.5).double()
    torch.testing.assert_close(smooth(x), exact(x), rtol=1e-2 if exponent < 1 else 1e-5, atol=0)


@pytest.mark.parametrize("p", [0.3, 0.7, 1.0, 1.3, 1.99])
def test_constants_of_powers_are_those_of_a_dense_grid(p: float) -> None:
    q = torch.logspace(-5, 6, 200_001, dtype=torch.float64)
    exponent = torch.tensor(p, dtype=torch.float64)
    third = (2 - p) * (1 + q) ** (p / 2 - 3) * q.sqrt() * (3 - (1 - p) * q).abs()
    along = (1 + q) ** (p / 2 - 2) * (1 - (1 - p) * q)
    assert float(powers.lipschitz(exponent)) == pytest.approx(float(third.max()), rel=1e-6)
    least = min(0.0, float(along.min()))
    assert float(powers.curvature_min(exponent)) == pytest.approx(least, rel=1e-6, abs=1e-12)


def test_metrics_are_exponentials_also_near_and_far_from_isotropy() -> None:
    for size in (0.0, 1e-9, 1e-3, 0.09, 0.11, 1.5):
        b, c, s = (torch.tensor(v, dtype=torch.float64) for v in (0.3, 0.6 * size, 0.8 * size))
        first, mixed, second = Metric(b, c, s).entries()
        expected = torch.linalg.matrix_exp(torch.tensor([[b + c, s], [s, b - c]]))
        found = torch.tensor([[first, mixed], [mixed, second]])
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-15)
        assert float(Metric(b, c, s).largest()) == pytest.approx(
            float(torch.linalg.norm(expected, 2))
        )
    point = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda *v: Metric(*v).entries(), point)


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
        (lambda: DirectionalTV(exponent=0.2), r"exponent must lie in \[0.3, 2\]"),
        (lambda: DirectionalTV(exponent=float("nan")), "exponent must be finite"),
        (lambda: DirectionalTV(anisotropy=0.5), r"anisotropy must lie in \[1, 50\]"),
        (lambda: DirectionalTV(anisotropy=torch.tensor([[1.0, 60.0]])), "anisotropy must lie in"),
        (lambda: DirectionalTV(angle=400.0), "angle must lie in"),
        (lambda: DirectionalTV(angle=torch.ones(3)), "must be a number or a map"),
        (lambda: DirectionalTV(torch.ones(3, 4), exponent=torch.ones(4, 3)), "maps must have one"),
        (lambda: DirectionalTV(angle=torch.ones(2, 2), grid=(3, 3)), "one value for each knot"),
        (lambda: DirectionalTV(scale=0.0), "scale must be positive"),
        (lambda: DirectionalTV(learn=("angle",)), "unknown learnable parameter"),
        (lambda: ExactDirectionalTV(exponent=2.5), "exponent must lie in"),
        (lambda: ExactDirectionalTV(exponent=0.7, learn=("weight",)), "cannot be learned where"),
        (
            lambda: ExactDirectionalTV(angle=torch.ones(2, 3), anisotropy=torch.ones(3, 2)),
            "one size",
        ),
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
        (DirectionalTV(angle=torch.ones(4, 5)), (1, 5, 4)),
        (DirectionalTV(grid=(6, 2)), (1, 5, 4)),
        (ExactDirectionalTV(torch.ones(4, 5)), (1, 5, 4)),
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

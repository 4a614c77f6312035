"""Ridge regularisers with splines: the Huber profile among them, noise levels, released weights."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.ground.theta import learnable

R = bl.regularisers


def banks() -> list[Tensor]:
    return [torch.randn(2, 1, 3, 3), torch.randn(5, 2, 3, 3)]


@pytest.mark.parametrize("weakly_convex", [True, False])
def test_it_begins_as_the_huber_profile(weakly_convex: bool) -> None:
    filters, x = banks(), torch.rand(2, 1, 9, 11, dtype=torch.float64)
    spline = R.SplineRidge(filters, 0.3, 15.0, 20, weakly_convex=weakly_convex).double()
    huber = R.RidgeRegulariser(filters, 0.3, 20.0, 15.0, weakly_convex=weakly_convex).double()
    torch.testing.assert_close(spline(x), huber(x), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(spline.grad(x), huber.grad(x), rtol=1e-5, atol=1e-7)
    v = torch.randn_like(x)
    torch.testing.assert_close(spline.hessian(x)(v), huber.hessian(x)(v), rtol=1e-5, atol=1e-6)


def test_scales_follow_the_noise_level() -> None:
    """exp(q(s))/(s + ε) between the places of the range, as another regulariser without levels."""
    filters, x = banks(), torch.rand(1, 1, 9, 11, dtype=torch.float64)
    q = torch.randn(5, 3)
    noisy = R.SplineRidge(filters, 0.3, q.exp(), noise_level=0.15, noise_range=0.2).double()
    log = 0.5 * q[:, 1] + 0.5 * q[:, 2] - math.log(0.15 + 0.2e-5 / 6)
    plain = R.SplineRidge(filters, 0.3, log.exp()).double()
    torch.testing.assert_close(noisy(x), plain(x), rtol=1e-5, atol=0)


def test_images_in_other_units_are_the_same_problem() -> None:
    y, filters = torch.rand(1, 1, 12, 12, dtype=torch.float64), banks()
    found = []
    for unit in (1e-6, 1.0, 65535.0):
        ridge = R.SplineRidge(filters, noise_level=0.05 * unit)
        energy = bl.Variational(bl.fidelities.SquaredL2(), ridge).double()
        energy.settle(unit * y)
        solution = bl.minimise(
            energy.at(unit * y), bl.solvers.LBFGS(), tol=bl.Tolerance(rms=1e-6 * unit)
        )
        found.append(solution.x / unit)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=1e-5)


def test_a_level_for_each_row_must_lie_in_the_range() -> None:
    ridge = R.SplineRidge(banks(), 0.1, noise_level=0.1, noise_range=0.2)
    energy, y = bl.Variational(bl.fidelities.SquaredL2(), ridge), torch.rand(2, 1, 8, 8)
    levels = torch.tensor([0.1, 0.3])
    with pytest.raises(InputError, match=r"noise_level must lie in \[0, 0.2\]"):
        bl.argmin(energy, y, tol=1e-3, theta={"regulariser.noise_level": levels})
    assert "noise_level" not in " ".join(learnable(energy))


def test_normalised_is_the_same_regulariser() -> None:
    x = torch.rand(1, 1, 9, 9)
    for made in (
        R.RidgeRegulariser(banks(), 0.3, 20.0, 5.0, norm=0.7, weakly_convex=True),
        R.SplineRidge(banks(), 0.3, norm=3.0, noise_level=0.05),
    ):
        for proved in (True, False):
            twin = made.normalised(proved=proved)
            torch.testing.assert_close(twin(x), made(x), rtol=1e-4, atol=0)
            fixed = made.normalised(proved=proved, keep_weight=True)
            assert torch.equal(fixed.log_weight, made.log_weight)
        strict = made.normalised(keep_weight=True)
        assert float(strict.bounds((1, 9, 9)).mu) == pytest.approx(-0.3, rel=1e-5)


def test_the_estimated_norm_is_that_of_large_images() -> None:
    filters = [bank.double() for bank in R.random_cascade((2, 3), 3, seed=1)]
    response = conv2d(
        conv2d(torch.ones(1, 1, 1, 1).double(), filters[0].flip(2, 3), padding=2),
        filters[1].flip(2, 3),
        padding=2,
    )
    spectrum = torch.fft.fft2(response, s=(256, 256)).abs().square().sum((0, 1))
    assert float(R.estimated_norm(filters)) == pytest.approx(float(spectrum.max().sqrt()))
    leaf = filters[1].requires_grad_()
    assert torch.autograd.gradcheck(lambda f: R.estimated_norm([filters[0], f], 16), leaf)


def test_random_filters_are_those_of_convolutions_in_pytorch() -> None:
    ridge = R.RidgeRegulariser.random()
    assert [tuple(bank.shape) for bank in ridge.filters] == [
        (4, 1, 5, 5),
        (8, 4, 5, 5),
        (64, 8, 5, 5),
    ]
    for bank in list(ridge.filters)[1:]:
        end = 1 / math.sqrt(bank[0].numel())  # that of torch.nn.Conv2d
        assert 0.95 * end <= float(bank.detach().abs().max()) <= end
    assert float(ridge.bounds((1, 9, 9)).mu) == pytest.approx(-1.0, rel=1e-5)
    assert float(ridge.log_scaling.detach()[0].exp()) == pytest.approx(20.0, rel=1e-5)
    again = R.RidgeRegulariser.random()
    assert all(torch.equal(a, b) for a, b in zip(ridge.filters, again.filters, strict=True))


def released(folder: Path, **changed: Tensor | None) -> Path:
    """A small file in the form of the authors'."""
    state = {
        "conv_layer.conv_layers.0.parametrizations.weight.original": torch.randn(2, 1, 3, 3),
        "conv_layer.conv_layers.1.weight": torch.randn(5, 2, 3, 3),
        "activation_cvx.coefficients": torch.randn(1, 11).cumsum(1) / 50,
        "activation_ccv.coefficients": torch.randn(1, 11).cumsum(1) / 50,
        "mu_": torch.tensor([2.0]),
        "spline_scaling.coefficients": 4 + torch.rand(5, 4),
    }
    state = {k: v for k, v in {**state, **changed}.items() if v is not None}
    torch.save({"epoch": 3, "state_dict": state}, folder / "released.pth")
    return folder / "released.pth"


def test_released_weights_give_the_formula_of_their_authors(tmp_path: Path) -> None:
    path, level = released(tmp_path), 17.0
    ridge = R.SplineRidge.load(path, level / 255).double()
    p = {k: v.double() for k, v in torch.load(path)["state_dict"].items()}
    first, second = (v for k, v in p.items() if k.startswith("conv_layer"))
    x = torch.rand(1, 1, 10, 10, dtype=torch.float64).requires_grad_()
    t = conv2d(conv2d(x, first - first.mean((2, 3), keepdim=True), padding=1), second, padding=1)
    t = t / ridge.norm
    q, place = p["spline_scaling.coefficients"], level / 10  # knots at 0, 10, 20, 30
    exponent = (2 - place) * q[:, 1] + (place - 1) * q[:, 2]
    s = (exponent.exp() / (level + 1e-5))[:, None, None]

    def activation(kind: str, t: Tensor) -> Tensor:
        c = p[f"activation_{kind}.coefficients"][0]
        slopes = (c.diff() / 0.02).clamp(0, 1)
        slopes[0] = slopes[-1] = 0
        values = torch.cat([torch.zeros(1, dtype=c.dtype), 0.02 * slopes.cumsum(0)])
        values = 0.5 * (values - values.flip(0))
        place = ((t.clamp(-0.1, 0.1) + 0.1) / 0.02).clamp(0, 9.999999)
        low = place.floor().long()
        return values[low] + (place - low) * (values[low + 1] - values[low])

    force = p["mu_"].exp() * activation("cvx", s * t) - activation("ccv", s * t)
    (expected,) = torch.autograd.grad((t * (force / s).detach()).sum(), x)
    torch.testing.assert_close(ridge.grad(x).detach(), expected, rtol=1e-4, atol=1e-6)


BANK = torch.rand(2, 1, 3, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: R.SplineRidge([BANK], slopes=0), "slopes must be a number"),
        (lambda _: R.SplineRidge([BANK], slopes=-2 * torch.ones(3)), r"slopes must lie in \[-1,"),
        (lambda _: R.SplineRidge([BANK], slopes=torch.ones(2, 2)), "slopes must be a number"),
        (
            lambda _: R.SplineRidge([BANK], slopes=-torch.ones(3), weakly_convex=False),
            r"slopes must lie in \[0,",
        ),
        (lambda _: R.SplineRidge([BANK], scaling=torch.ones(3)), "scaling must be a number"),
        (lambda _: R.SplineRidge([BANK], scaling=torch.ones(2, 3)), "scaling must be a number"),
        (lambda _: R.SplineRidge([BANK], noise_level=-0.1), "noise_level must lie in"),
        (lambda _: R.SplineRidge([BANK], noise_level=math.inf), "noise_level must lie in"),
        (
            lambda _: R.SplineRidge([BANK], noise_level=0.3, noise_range=0.2),
            r"noise_level must lie in \[0, 0.2\]",
        ),
        (lambda _: R.SplineRidge([BANK], noise_range=0.2), "needs a noise_level"),
        (lambda _: R.SplineRidge([BANK], learn=("noise_level",)), "learnable parameter"),
        (lambda _: R.RidgeRegulariser.random(()), "at least one channel"),
        (lambda _: R.RidgeRegulariser.random(size=4), "odd size"),
        (lambda folder: R.SplineRidge.load(folder / "none", 0.1), "no file"),
        (lambda folder: R.SplineRidge.load(text(folder), 0.1), "holds no weakly convex"),
        (lambda folder: R.SplineRidge.load(code(folder), 0.1), "holds no weakly convex"),
        (lambda folder: R.SplineRidge.load(released(folder, mu_=None), 0.1), "mu_"),
        (lambda folder: R.SplineRidge.load(released(folder), 0.5), "noise_level must lie in"),
    ],
)
def test_bad_input_is_named(call, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        call(tmp_path)


def text(folder: Path) -> Path:
    (folder / "text.pth").write_text("not tensors")
    return folder / "text.pth"


def code(folder: Path) -> Path:
    """A file that would build something else than tensors."""
    torch.save({"state_dict": Path("x")}, folder / "code.pth")
    return folder / "code.pth"

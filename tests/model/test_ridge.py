"""Ridge regularisers: the formula written out, the cascade and its norm, weights from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import conv2d

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.ground.theta import add, norm
from bilevel.model.regularisers.cascade import analyse, layer_norm, synthesise

Saved = dict[str, Tensor]


def random_weights() -> Saved:
    """In the form of Hertrich et al. 2025, with scales as large as the learned ones."""
    saved = {
        "filters_0": torch.randn(4, 1, 5, 5),
        "filters_1": torch.randn(8, 4, 5, 5),
        "filters_2": torch.randn(16, 8, 5, 5),
        "cascade_norm": torch.tensor([2000.0]),
        "log_scaling": 1 + 3 * torch.rand(16),
        "log_scale": torch.tensor([0.7]),
        "alpha": torch.tensor([0.4]),
        "beta": torch.tensor([4.5]),
    }
    saved["filters_0"] -= saved["filters_0"].mean((2, 3), keepdim=True)
    return saved


def written_out(saved: Saved, x: Tensor, rho: float) -> Tensor:
    """R(x) as the authors define it, in float64."""
    p = {name: value.double() for name, value in saved.items()}
    w = x
    for k in range(3):
        w = conv2d(w, p[f"filters_{k}"], padding=2)
    w = w / p["cascade_norm"]
    a, b, s, c = p["alpha"], p["beta"], p["log_scale"], p["log_scaling"][:, None, None]

    def psi(t: Tensor) -> Tensor:
        return torch.where(t.abs() <= 1, t * t / 2, t.abs() - 0.5)

    profile = (-b).exp() * psi((b + c + s).exp() * w) - rho * psi((c + s).exp() * w)
    return (a - 2 * s).exp() * ((-2 * c).exp() * profile).flatten(1).sum(1)


def check_formula(path: Path, rho: float, x: Tensor) -> None:
    saved = load_file(path)
    ridge = bl.regularisers.RidgeRegulariser.load(path, weakly_convex=rho > 0).double()
    point = x.double().requires_grad_()
    value = written_out(saved, point, rho)
    (slope,) = torch.autograd.grad(value.sum(), point)
    with torch.no_grad():
        found, gradient = ridge.value_and_grad(x.double())
    torch.testing.assert_close(found, value.detach(), rtol=1e-5, atol=0)
    assert float((gradient - slope).norm() / slope.norm()) <= 1e-5
    torch.testing.assert_close(ridge(x.double()).detach(), found)
    torch.testing.assert_close(ridge.grad(x.double()).detach(), gradient)


@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_the_formula_written_out(tmp_path: Path, rho: float) -> None:
    save_file(random_weights(), tmp_path / "ridge.safetensors")
    check_formula(tmp_path / "ridge.safetensors", rho, torch.rand(2, 1, 21, 26))


@pytest.mark.parametrize(("name", "rho"), [("crr", 0.0), ("wcrr", 1.0)])
def test_the_formula_with_learned_weights(external_data: Path, name: str, rho: float) -> None:
    path = external_data.parent / "peers" / f"{name}_bilevel_ift_denoising.safetensors"
    if not path.is_file():
        pytest.skip("needs the learned weights beside the larger image sets")
    check_formula(path, rho, torch.rand(2, 1, 40, 33))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 2, 7, 8, 9, 12, 31])
@pytest.mark.parametrize("channels", [(1, 4, 8, 64), (3, 9, 12), (2, 20)])
def test_synthesis_is_the_transpose_of_analysis(
    width: int, channels: tuple[int, ...], dtype: torch.dtype
) -> None:
    """In float32, few outputs of many channels take the paired way, even and odd widths."""
    sides = [(5, 5), (3, 7), (1, 3)]
    banks = [
        torch.randn(m, c, *side, dtype=dtype) / 5
        for c, m, side in zip(channels, channels[1:], sides, strict=False)
    ]
    x = torch.randn(2, channels[0], 11, width, dtype=dtype)
    t = analyse(banks, x)
    p = torch.randn_like(t)
    point = x.clone().requires_grad_()
    (pulled,) = torch.autograd.grad((analyse(banks, point) * p).sum(), point)
    close = 1e-4 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(synthesise(banks, p), pulled, rtol=close, atol=close)


@pytest.mark.parametrize("shape", [(4, 1, 5, 5), (3, 8, 3, 5), (8, 3, 7, 1)])
def test_the_norm_of_a_layer_is_bounded_and_nearly_reached(shape: tuple[int, ...]) -> None:
    bank = torch.randn(shape, dtype=torch.float64)
    c = shape[1]
    basis = torch.eye(c * 14 * 15, dtype=torch.float64).reshape(-1, c, 14, 15)
    dense = analyse([bank], basis).flatten(1)
    exact = float(torch.linalg.matrix_norm(dense, 2))
    assert exact <= float(layer_norm(bank)) <= 1.2 * exact


@pytest.mark.parametrize("side", [17, 33, 63])
def test_the_norm_of_large_filters_is_bounded(side: int) -> None:
    bank = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(side)).double()
    exact = float(torch.fft.fft2(bank, s=(1024, 1024)).abs().max())
    assert exact <= float(layer_norm(bank)) <= 1.5 * exact


def test_norms_make_the_cascade_a_contraction() -> None:
    banks = [torch.randn(2, 1, 3, 3), torch.randn(5, 2, 3, 3)]
    ridge = bl.regularisers.RidgeRegulariser(banks, weight=2.0, sharpness=50.0, weakly_convex=True)
    bounds = ridge.bounds((1, 9, 9))
    assert float(bounds.mu) == pytest.approx(-2.0, rel=1e-5)
    assert float(bounds.lipschitz) == pytest.approx(98.0, rel=1e-5)


def test_learned_filters_have_right_gradients_and_a_bound_that_holds() -> None:
    banks = [torch.randn(2, 1, 3, 3) / 3, torch.randn(3, 2, 3, 3) / 3]
    ridge = bl.regularisers.RidgeRegulariser(banks, weight=0.3, sharpness=3.0)
    energy = bl.Variational(bl.fidelities.SquaredL2(), ridge).double()
    target = torch.rand(2, 1, 8, 9, dtype=torch.float64)
    pairs = bl.data.Pairs(target + 0.1 * torch.randn_like(target), target, ("a", "b"))
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    assert bl.check_hypergradient(problem, problem.theta).passed
    exact = problem.value_and_grad(problem.theta, tol=1e-11)
    assert exact.error < 1e-10
    for tol in (1e-2, 1e-4):
        rough = problem.value_and_grad(problem.theta, tol=tol)
        assert norm(add(rough.grad, exact.grad, -1.0)) <= rough.error + exact.error < float("inf")


def test_zero_mean_filters_are_kept_and_everything_survives_saving(tmp_path: Path) -> None:
    banks = [torch.rand(2, 1, 3, 3), torch.randn(3, 2, 3, 3)]
    ridge = bl.regularisers.RidgeRegulariser(banks, 0.3, 20.0, 5.0, weakly_convex=True)
    assert float(ridge.filters[0].detach().sum((2, 3)).abs().max()) < 1e-6
    energy = bl.Variational(bl.fidelities.SquaredL2(), ridge)
    images = bl.data.embedded_images(size=16)[:2]
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    fit = bl.learn(problem, budget=bl.Budget(steps=2))
    learned = fit.theta["regulariser.filters.0"]
    assert not torch.equal(learned, banks[0])
    assert float(learned.sum((2, 3)).abs().max()) < 1e-5
    fit.save(tmp_path)
    x = fit.reconstruct(pairs.y).x
    torch.testing.assert_close(bl.load(tmp_path).reconstruct(pairs.y).x, x)


BANK = torch.rand(2, 1, 3, 3)
ridge = bl.regularisers.RidgeRegulariser


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: ridge([]), "at least one bank"),
        (lambda _: ridge([BANK[0]]), r"filters\[0\] must have shape"),
        (lambda _: ridge([torch.rand(2, 1, 4, 4)]), "odd sides"),
        (lambda _: ridge([BANK, BANK]), r"filters\[1\] must have shape \(m, 2"),
        (lambda _: ridge([BANK / 0]), "finite"),
        (lambda _: ridge([BANK], sharpness=0.5), "sharpness must lie in"),
        (lambda _: ridge([BANK], scaling=torch.ones(3)), "scaling must be a number"),
        (lambda _: ridge([BANK], weight=-1.0), "weight must be positive"),
        (lambda _: ridge([BANK], norm=0.0), "norm"),
        (lambda _: ridge([BANK], learn=("filter",)), "did you mean 'filters'"),
        (lambda _: ridge([BANK]).check((3, 8, 8)), "do not fit"),
        (lambda folder: ridge.load(folder / "none", weakly_convex=True), "no file"),
        (lambda folder: ridge.load(foreign(folder), weakly_convex=True), "holds no ridge"),
        (lambda folder: ridge.load(text(folder), weakly_convex=True), "holds no ridge"),
    ],
)
def test_bad_input_is_named(call, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        call(tmp_path)


def foreign(folder: Path) -> Path:
    save_file({"filters_0": BANK}, folder / "foreign.safetensors")
    return folder / "foreign.safetensors"


def text(folder: Path) -> Path:
    (folder / "text").write_text("not tensors")
    return folder / "text"

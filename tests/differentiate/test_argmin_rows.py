"""Parameters with a value for each row: as one call a row, with true certificates."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import bilevel as bl
from bilevel.model.by_row import with_theta

R, F = bl.regularisers, bl.fidelities
ROWS, SIZE = 3, (4, 5)


def blur() -> bl.operators.Operator:
    near = torch.tensor([1.0, 4.0, 1.0]) / 6
    return bl.operators.Convolution(near[:, None] * near)


def ridge(weight: float = 0.2) -> bl.regularisers.Regulariser:
    return R.Tikhonov(weight, learn=())


def experts() -> bl.regularisers.Regulariser:
    torch.manual_seed(3)
    return R.FieldsOfExperts(torch.randn(2, 1, 2, 2), 0.1, 0.5)


def profiles() -> bl.regularisers.Regulariser:
    torch.manual_seed(4)
    return R.RidgeRegulariser([torch.randn(2, 1, 3, 3)], weight=0.1, sharpness=2.0)


def of_levels() -> bl.regularisers.Regulariser:
    torch.manual_seed(5)
    bank = torch.randn(2, 1, 3, 3)
    return R.SplineRidge([bank], 0.1, 3.0, 4, noise_level=2.0, noise_range=5.0)


def splines() -> bl.regularisers.Regulariser:
    torch.manual_seed(6)
    spline = R.LinearSpline(torch.tensor([0.5, 1.5, 2.0]), 1 + torch.rand(2, 3), slope_max=2.0)
    return R.FieldsOfExperts(torch.randn(2, 1, 2, 2), 0.1, 0.5, potential=spline)


TERM = "regulariser.log_weight"
LEVEL = "regulariser.noise_level"
FIRST = "regulariser.terms.0.log_weight"


@dataclass(frozen=True)
class Given:
    """An energy, and what of it is given for each row: by name, one value or a map."""

    energy: Callable[[], bl.Variational]
    shapes: dict[str, tuple[int, ...]]
    smooth: bool = True
    tol: float = 1e-11


CASES: dict[str, Given] = {
    "quadratic": Given(lambda: bl.Variational(F.SquaredL2(blur()), R.Tikhonov(0.3)), {TERM: ()}),
    "data": Given(
        lambda: bl.Variational(F.SquaredL2(blur(), learn=("weight",)), ridge()),
        {"fidelity.log_weight": ()},
    ),
    "counts": Given(
        lambda: bl.Variational(F.KullbackLeibler(background=0.5, learn=("weight",)), ridge()),
        {"fidelity.log_weight": ()},
    ),
    "total variation": Given(
        lambda: bl.Variational(F.SquaredL2(blur()), R.TotalVariation(0.2, 0.1) + ridge()),
        {FIRST: (), "regulariser.terms.0.log_smoothing": ()},
    ),
    "map": Given(lambda: bl.Variational(F.SquaredL2(), R.TotalVariation(0.2, 0.1)), {TERM: SIZE}),
    "map of a map": Given(
        lambda: bl.Variational(F.SquaredL2(), R.TotalVariation(torch.full(SIZE, 0.1), 0.2)),
        {TERM: SIZE},
    ),
    "coupled": Given(
        lambda: bl.Variational(F.SquaredL2(), R.TotalVariation(0.2, 0.1, coupled=True)),
        {TERM: ()},
    ),
    "experts": Given(lambda: bl.Variational(F.SquaredL2(), experts()), {TERM: (2,)}),
    "filters": Given(
        lambda: bl.Variational(F.SquaredL2(), experts()), {"regulariser.filters": (2, 1, 2, 2)}
    ),
    "ridge": Given(lambda: bl.Variational(F.SquaredL2(), profiles()), {TERM: ()}),
    "noise levels": Given(
        lambda: bl.Variational(F.SquaredL2(blur()), of_levels() + ridge()),
        {"regulariser.terms.0.noise_level": ()},
    ),
    "noise levels and weights": Given(
        lambda: bl.Variational(F.SquaredL2(), of_levels()), {TERM: (), LEVEL: ()}
    ),
    "splines": Given(
        lambda: bl.Variational(F.SquaredL2(), splines()), {"regulariser.potential.slopes": (2, 3)}
    ),
    "sparse": Given(
        lambda: bl.Variational(F.SquaredL2(blur()), R.Sparsity(0.1) + ridge()), {FIRST: ()}, False
    ),
    "absolute data": Given(
        lambda: bl.Variational(F.L1(weight=0.5, learn=("weight",)), ridge(1.0)),
        {"fidelity.log_weight": ()},
        False,
    ),
    "positive": Given(
        lambda: bl.Variational(F.SquaredL2(), R.TotalVariation(0.2, 0.1) + R.Box(0.3)),
        {FIRST: ()},
        False,
    ),
    "exact": Given(
        lambda: bl.Variational(F.SquaredL2(), R.ExactTotalVariation(0.1)), {TERM: ()}, False, 1e-7
    ),
    "exact map": Given(
        lambda: bl.Variational(F.SquaredL2(), R.ExactTotalVariation(0.1)), {TERM: SIZE}, False, 1e-7
    ),
    "exact, absolute data": Given(
        lambda: bl.Variational(
            F.L1(blur(), weight=0.5, learn=("weight",)), R.ExactTotalVariation(0.1) + ridge(0.5)
        ),
        {"fidelity.log_weight": (), FIRST: ()},
        False,
        1e-6,
    ),
}


def values(case: Given, model: bl.Variational) -> dict[str, Tensor]:
    """What the energy has, a little more or less in every row and every pixel."""
    random = torch.Generator().manual_seed(1)
    known = dict(model.named_parameters())
    return {
        name: known[name].detach()
        + 0.3 * torch.randn((ROWS, *shape), generator=random, dtype=torch.float64)
        for name, shape in case.shapes.items()
    }


def data() -> Tensor:
    random = torch.Generator().manual_seed(2)
    return torch.rand(ROWS, 1, *SIZE, generator=random, dtype=torch.float64)


def layer(case: Given, model: bl.Variational, y: Tensor, theta: dict[str, Tensor]) -> Tensor:
    finest = None if case.tol < 1e-10 else 1e-8
    tol = bl.Tolerance(rms=case.tol)
    return bl.argmin(model, y, tol=tol, theta=theta, max_steps=100_000, adjoint_rtol=finest)


@pytest.mark.parametrize("name", CASES)
def test_as_one_call_a_row(name: str) -> None:
    """Images and gradients by θ and by y."""
    case = CASES[name]
    model, y = case.energy().double(), data().requires_grad_()
    theta = {n: v.requires_grad_() for n, v in values(case, model).items()}
    upstream = torch.randn(y.shape, dtype=torch.float64)
    x = layer(case, model, y, theta)
    grads = torch.autograd.grad((x * upstream).sum(), [y, *theta.values()])
    for k in range(ROWS):
        alone = copy.deepcopy(model)
        row = {n: v[k].detach().requires_grad_() for n, v in theta.items()}
        for n, value in row.items():
            if value.shape != dict(alone.named_parameters())[n].shape:  # a map for a number
                alone.regulariser.log_weight = nn.Parameter(value.detach())
        point = y[k : k + 1].detach().requires_grad_()
        one = layer(case, alone, point, row)
        own = torch.autograd.grad((one * upstream[k]).sum(), [point, *row.values()])
        torch.testing.assert_close(x[k : k + 1], one, rtol=0, atol=20 * case.tol)
        for together, single in zip(grads, (own[0][0], *own[1:]), strict=True):
            scale = float(single.abs().max())
            torch.testing.assert_close(together[k], single, rtol=0, atol=1e-4 * scale + 1e-7)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.smooth])
def test_gradcheck(name: str) -> None:
    case = CASES[name]
    model, y = case.energy().double(), data().requires_grad_()
    theta = {n: v.requires_grad_() for n, v in values(case, model).items()}

    def of(y: Tensor, *given: Tensor) -> Tensor:
        return layer(case, model, y, dict(zip(theta, given, strict=True)))

    assert torch.autograd.gradcheck(of, (y, *theta.values()), fast_mode=True, atol=1e-6)


def test_gradcheck_of_a_weight_of_exact_total_variation() -> None:
    case = CASES["exact"]
    model, theta = case.energy().double(), values(case, case.energy().double())

    def of(given: Tensor) -> Tensor:
        return layer(case, model, data(), {TERM: given})

    leaf = theta[TERM].requires_grad_()
    assert torch.autograd.gradcheck(of, leaf, eps=1e-4, atol=1e-4, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_certificates_of_rows_are_true(name: str, dtype: torch.dtype) -> None:
    """The distance to a far better solution is at most what is proved, row by row."""
    case = CASES[name]
    model, y = case.energy().to(dtype), data().to(dtype)
    theta = {n: v.to(dtype) for n, v in values(case, case.energy().double()).items()}
    lower = with_theta(model, theta, y).at(y)
    solver = bl.solvers.automatic(lower).solver
    rough = bl.minimise(lower, solver, tol=bl.Tolerance(rms=1e-2))
    exact = with_theta(
        copy.deepcopy(model).double(), {n: v.double() for n, v in theta.items()}, y.double()
    ).at(y.double())
    best = bl.minimise(exact, solver, tol=bl.Tolerance(rms=case.tol), max_steps=100_000)
    assert bool(rough.converged.all()) and bool(best.converged.all())
    away = (rough.x.double() - best.x).square().mean((1, 2, 3)).sqrt()
    assert bool((away <= rough.certificate.rms + case.tol).all())
    assert float(away.max()) > 0 or name == "absolute data"  # x̂ = y, met exactly
    spread = exact.bounds.lipschitz.max() / exact.bounds.lipschitz.min()
    for k in range(ROWS):
        part = exact.rows(torch.tensor([k]))
        one = {n: v[k : k + 1].double() for n, v in theta.items()}
        alone = with_theta(copy.deepcopy(model).double(), one, y[k : k + 1].double())
        own = alone.at(y[k : k + 1].double()).bounds
        torch.testing.assert_close(part.bounds.lipschitz, own.lipschitz)
        torch.testing.assert_close(part.bounds.mu, own.mu)
    assert float(spread) >= 1


def test_a_network_predicts_the_weight_of_every_image_and_every_pixel() -> None:
    """Trained end to end, the loss falls: noise differs from image to image."""

    class Network(nn.Module):
        """Local variances of the data to log-weights."""

        def __init__(self, map: bool) -> None:
            super().__init__()
            self.energy = bl.Variational(F.SquaredL2(), R.TotalVariation(0.1, 0.02, learn=()))
            self.conv, self.map = nn.Conv2d(1, 1, 3, padding=1), map

        def forward(self, y: Tensor) -> Tensor:
            rough = (y[..., 1:, :] - y[..., :-1, :]).square()
            rough = nn.functional.pad(rough, (0, 0, 0, 1)).log1p()
            found = self.conv(rough)[:, 0] - 2.5
            theta = {TERM: found if self.map else found.mean((1, 2))}
            return bl.argmin(self.energy, y, tol=bl.Tolerance(rms=3e-3), theta=theta)

    target = bl.data.embedded_images(12)[:4]
    levels = torch.tensor([0.02, 0.05, 0.2, 0.3])[:, None, None, None]
    y = target + levels * torch.randn_like(target)
    for wide in (False, True):
        torch.manual_seed(0)
        network = Network(wide)
        optimiser = torch.optim.Adam(network.conv.parameters(), lr=0.1)
        losses = []
        for _ in range(8):
            optimiser.zero_grad()
            loss = (network(y) - target).square().mean()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.97 * losses[0]


def test_values_that_do_not_fit_are_named() -> None:
    model, y = bl.Variational(F.SquaredL2(blur()), R.TotalVariation(0.2, 0.1)).double(), data()
    tol = bl.Tolerance(rms=1e-3)

    def refused(theta: dict[str, Tensor], energy: bl.Energy = model) -> str:
        with pytest.raises(bl.InputError) as error:
            bl.argmin(energy, y, tol=tol, theta=theta)
        return str(error.value)

    said = refused({TERM: torch.zeros(2).double()})
    for part in (TERM, "()", "(3,)", "(3, 4, 5)", "got (2,)"):
        assert part in said
    assert "(3, 1, 4, 5)" in refused({TERM: torch.zeros(ROWS, 1, *SIZE).double()})
    assert "(3, 4, 5)" not in refused({"regulariser.log_smoothing": torch.zeros(2).double()})
    assert "did you mean" in refused({"regulariser.log_wieght": torch.zeros(ROWS).double()})
    assert "finite" in refused({TERM: torch.full((ROWS,), torch.nan).double()})
    assert "float32" in refused({TERM: torch.zeros(ROWS)})
    kernel = torch.tensor([[0.1, 0.2], [0.4, 0.3]])
    learned = bl.operators.Convolution(kernel, "reflecting", learn=("kernel",))
    name = "fidelity.operator.kernel"
    other = bl.Variational(F.SquaredL2(learned), ridge()).double()
    shape = dict(other.named_parameters())[name].shape
    assert "of an operator" in refused({name: torch.zeros(ROWS, *shape).double()}, other)

    class Own(bl.Energy):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor(1.0).double())

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return 0.5 * ((x - y) ** 2 + self.w * x**2).flatten(1).sum(1)

    assert "Variational" in refused({"w": torch.ones(ROWS).double()}, Own())


def test_one_value_for_all_rows_is_still_that() -> None:
    model, y = bl.Variational(F.SquaredL2(), R.Tikhonov(0.3)).double(), data()
    one = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    each = torch.full((ROWS,), 0.1, dtype=torch.float64, requires_grad=True)
    tol = bl.Tolerance(rms=1e-12)
    found = [bl.argmin(model, y, tol=tol, theta={TERM: value}) for value in (one, each)]
    torch.testing.assert_close(found[0], found[1])
    for x in found:
        x.square().sum().backward()
    torch.testing.assert_close(one.grad, each.grad.sum())  # pyright: ignore


def test_half_precision_of_a_network_is_widened() -> None:
    model, y = bl.Variational(F.SquaredL2(), R.Tikhonov(0.3)), data().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theta = {TERM: torch.full((ROWS,), -1.0, dtype=torch.bfloat16)}
        x = bl.argmin(model, y, tol=bl.Tolerance(rms=1e-5), theta=theta)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, y / (1 + torch.tensor(-1.0).exp()), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # of torch.func
@pytest.mark.parametrize("shape", [(), (2,)])
def test_forward_mode_by_what_is_given_is_refused(shape: tuple[int, ...]) -> None:
    """A tangent that reached nothing would be a derivative of 0."""
    y = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    tv = bl.regularisers.TotalVariation(0.05, 0.01, learn=())
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv)

    def loss(w: torch.Tensor) -> torch.Tensor:
        theta = {"regulariser.log_weight": w}
        return bl.argmin(energy, y, tol=bl.Tolerance(rms=1e-3), theta=theta).square().sum()

    w = torch.full(shape, -3.0)
    for derivative in (torch.func.jacfwd(loss), lambda w: torch.func.jvp(loss, (w,), (w,))):
        with pytest.raises(bl.InputError, match="reverse mode"):
            derivative(w)
    assert bool((torch.func.grad(loss)(w) != 0).all())


def test_numbers_are_no_tensors() -> None:
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
    theta = {"regulariser.log_weight": -3.0}
    with pytest.raises(bl.InputError, match="must be a tensor"):
        bl.argmin(energy, torch.ones(1, 1, 4, 4), tol=bl.Tolerance(rms=1e-3), theta=theta)  # type: ignore[dict-item]


def test_what_is_left_to_the_data_is_settled_before_others_are_given() -> None:
    y = 255 * torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([3.0, 7.0]).log()
    found = with_theta(tv := left_open(), {"regulariser.log_weight": weights}, y)
    settled = left_open()
    settled.settle(y)
    torch.testing.assert_close(tv.regulariser.log_smoothing, settled.regulariser.log_smoothing)
    assert float(tv.regulariser.smoothing.detach()) > 1
    again = with_theta(settled, {"regulariser.log_weight": weights}, y)
    torch.testing.assert_close(found.at(y).value(y), again.at(y).value(y))


def left_open() -> bl.Variational:
    return bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation())

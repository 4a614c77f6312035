"""Risk estimates have the right mean; derivatives are those of the reconstruction itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bilevel.model import Variational
from bilevel.model.fidelities import SquaredL2
from bilevel.model.operators import Convolution, Differences, Identity, Matrix, Operator
from bilevel.model.regularisers import TotalVariation
from bilevel.model.regularisers.regulariser import Regulariser
from bilevel.model.regularisers.tikhonov import Tikhonov
from bilevel.select import Path, Point, rules
from bilevel.select.degrees import Degrees
from bilevel.select.rule import Rule
from bilevel.solve.solvers import NewtonCG

DRAWS, SIGMA = 500, 0.2
EXACT, MONTE_CARLO = Degrees("exact"), Degrees("monte carlo", probes=2)
BLUR = Convolution(torch.tensor([[0.1, 0.2, 0.1], [0.2, 0.4, 0.2], [0.1, 0.2, 0.1]]).double() / 1.6)


def truth_of(size: int = 6) -> Tensor:
    image = torch.zeros(1, 1, size, size).double()
    image[..., size // 2 :] = 1
    image[..., 1, 1] = 0.5
    return image


def matrix() -> Matrix:
    random = torch.Generator().manual_seed(4)
    return Matrix(torch.randn(18, 36, generator=random).double() / 6, (1, 6, 6))


REGULARISERS: dict[str, Regulariser] = {
    "tv": TotalVariation(1.0, 0.1).double(),
    "tikhonov": Tikhonov(1.0, Differences()).double(),
}


def noisy(operator: Operator, rows: int) -> Tensor:
    clean = operator(truth_of())
    random = torch.Generator().manual_seed(11)
    shape = (rows, *clean.shape[1:])
    return clean + SIGMA * torch.randn(shape, generator=random, dtype=torch.float64)


def path_of(operator: Operator, regulariser: str, y: Tensor, rtol: float = 1e-5) -> Path:
    energy = Variational(SquaredL2(operator).double(), REGULARISERS[regulariser])
    return Path(energy, y, accuracy=1e-5, rtol=rtol, solver=NewtonCG())


def squared_error(x: Tensor, target: Tensor) -> Tensor:
    return (x - target).square().flatten(1).mean(1)


def within_three_standard_errors(estimate: Tensor, loss: Tensor) -> None:
    away = estimate - loss
    standard_error = float(away.std()) / DRAWS**0.5
    assert 0 < standard_error < float(loss.mean())
    assert abs(float(away.mean())) < 3 * standard_error


@pytest.mark.parametrize("regulariser", REGULARISERS)
@pytest.mark.parametrize("weight", [0.05, 0.5])
def test_sure_is_unbiased(regulariser: str, weight: float) -> None:
    point = drawn(Identity(), regulariser, weight)
    within_three_standard_errors(
        rules.SURE(SIGMA, EXACT).value(point), squared_error(point.x, truth_of())
    )


@pytest.mark.parametrize("regulariser", REGULARISERS)
@pytest.mark.parametrize("operator", [BLUR, matrix()], ids=["blur", "matrix"])
def test_the_predicted_risk_is_unbiased(operator: Operator, regulariser: str) -> None:
    point = drawn(operator, regulariser, 0.05)
    loss = squared_error(point.prediction, operator(truth_of()))
    within_three_standard_errors(rules.PredictedRisk(SIGMA, EXACT).value(point), loss)


@pytest.mark.parametrize("regulariser", REGULARISERS)
@pytest.mark.parametrize("operator", [BLUR, matrix()], ids=["blur", "matrix"])
def test_gsure_is_unbiased(operator: Operator, regulariser: str) -> None:
    rule = rules.GSURE(SIGMA, EXACT, truncation=0.2)
    point = drawn(operator, regulariser, 0.05)
    inverse = rule.begin(point.energy, point.y).lifted[0]
    target = inverse(operator(truth_of()))
    loss = squared_error(inverse(operator(point.x)), target)
    within_three_standard_errors(rule.value(point), loss)


def test_monte_carlo_sure_is_nearly_unbiased() -> None:
    rule = rules.SURE(SIGMA, Degrees("monte carlo", probes=4))
    point = drawn(Identity(), "tv", 0.2)
    within_three_standard_errors(rule.value(point), squared_error(point.x, truth_of()))


def drawn(operator: Operator, regulariser: str, weight: float) -> Point:
    path = path_of(operator, regulariser, noisy(operator, DRAWS), rtol=1e-4)
    return path.at(torch.full((DRAWS,), weight).double())


@pytest.mark.parametrize("operator", [Identity(), BLUR], ids=["denoise", "blur"])
def test_exact_degrees_are_the_trace_of_the_jacobian(operator: Operator) -> None:
    y = noisy(operator, 1)
    weight = torch.full((1,), 0.2).double()
    step, m = 1e-4, y[0].numel()
    moves = step * torch.eye(m, dtype=torch.float64).reshape(m, *y.shape[1:])
    path = Path(path_of(operator, "tv", y).energy, torch.cat([y + moves, y - moves]), accuracy=1e-9)
    ahead, behind = operator(path.at(weight.expand(2 * m)).x).chunk(2)
    jacobian = (ahead - behind).flatten(1) / (2 * step)
    found = EXACT.of(path_of(operator, "tv", y, rtol=1e-10).at(weight))
    assert 1 < float(found) < m - 1
    assert float(found) == pytest.approx(float(jacobian.trace()), rel=1e-4)


def test_the_degrees_of_every_row_are_the_mean_over_the_same_probes() -> None:
    y, weight, step = noisy(BLUR, 3), torch.tensor([0.1, 0.2, 0.4]).double(), 1e-4
    degrees = Degrees(probes=2, seed=1)
    found = degrees.of(path_of(BLUR, "tv", y, rtol=1e-9).at(weight))
    products = []
    for b in degrees.vectors(y):
        ahead, behind = (
            Path(path_of(BLUR, "tv", y).energy, y + s * b, accuracy=1e-9).at(weight).x
            for s in (step, -step)
        )
        products.append((b * BLUR(ahead - behind)).flatten(1).sum(1) / (2 * step))
    assert found.tolist() == pytest.approx(torch.stack(products).mean(0).tolist(), rel=1e-4)


def test_random_probes_agree_with_the_exact_trace_on_average() -> None:
    y = noisy(Identity(), 1)
    point = path_of(Identity(), "tv", y).at(torch.full((1,), 0.2).double())
    each = torch.stack([Degrees(seed=seed).of(point)[0] for seed in range(100)])
    exact = float(EXACT.of(point))
    assert abs(float(each.mean()) - exact) < 3 * float(each.std()) / 10


SMOOTH: dict[str, tuple[Operator, Rule]] = {
    "sure": (Identity(), rules.SURE(SIGMA, MONTE_CARLO)),
    "risk": (BLUR, rules.PredictedRisk(SIGMA, MONTE_CARLO)),
    "gsure": (BLUR, rules.GSURE(SIGMA, MONTE_CARLO)),
    "gsure of a matrix": (matrix(), rules.GSURE(SIGMA, MONTE_CARLO)),
    "discrepancy": (BLUR, rules.Discrepancy(SIGMA)),
    "corrected": (BLUR, rules.Discrepancy(SIGMA, corrected=True, degrees=MONTE_CARLO)),
    "gaussianity": (BLUR, rules.Gaussianity(SIGMA)),
    "oracle": (BLUR, rules.Oracle(truth_of().expand(2, -1, -1, -1))),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_slopes_are_those_of_the_criterion(name: str) -> None:
    operator, rule = SMOOTH[name]
    y, step = noisy(operator, 2), 1e-3
    log = torch.tensor([0.1, 0.5]).double().log()
    energy = path_of(operator, "tv", y).energy
    path = Path(energy, y, accuracy=1e-9, rtol=1e-8, solver=NewtonCG())
    ahead, behind = (rule.value(path.at((log + t).exp())) for t in (step, -step))
    found = rule.slope(path.at(log.exp()))
    expected = (ahead - behind) / (2 * step)
    assert float(expected.abs().min()) > 1e-4
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-4)

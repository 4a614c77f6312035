"""Criteria of learning beside the rules of the same name, under masks, and at the edge."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.risk import spectrum
from bilevel.risk.pseudo_inverse import PseudoInverse
from contracts.criteria import CRITERIA, CriterionContract

SIGMA, BACKGROUND, WEIGHT = 0.1, 0.3, 0.2
SHAPE = (1, 6, 8)


def hidden() -> Tensor:
    mask = torch.ones(6, 8, dtype=torch.float64)
    mask[1:4, 2:7] = 0.0
    return mask


def operators() -> dict[str, bl.operators.Operator]:
    kernel = torch.tensor([[0.1, 0.5, 0.2]]).double()
    dense = torch.randn(20, 48, generator=torch.Generator().manual_seed(5)).double() / 7
    return {
        "identity": bl.operators.Identity(),
        "mask": bl.operators.Mask(hidden()),
        "blur": bl.operators.Convolution(kernel, "circular").double(),
        "matrix": bl.operators.Matrix(dense, SHAPE),
    }


def energy_of(name: str, weight: float = WEIGHT, *, counts: bool = False) -> bl.Variational:
    """Strongly convex also where nothing is seen."""
    operator = operators()[name]
    fidelity = (
        bl.fidelities.KullbackLeibler(operator, BACKGROUND)
        if counts
        else bl.fidelities.SquaredL2(operator)
    )
    parts = bl.regularisers.TotalVariation(weight, 0.1) + bl.regularisers.Tikhonov(weight)
    return bl.Variational(fidelity, parts).double()


def data(name: str, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    x = torch.rand(1, *SHAPE, generator=random, dtype=torch.float64)
    y = operators()[name](x)
    return y + SIGMA * torch.randn(y.shape, generator=random, dtype=torch.float64)


def of_criterion(name: str, criterion: bl.learn.Criterion, weight: float, y: Tensor) -> float:
    counts = isinstance(criterion, bl.criteria.PURE)
    energy = energy_of(name, weight, counts=counts)
    problem = bl.UnsupervisedProblem(energy, y, criterion)
    return problem.value(problem.theta, tol=1e-10)


class TestCriteria(CriterionContract):
    names = tuple(CRITERIA)


@dataclass(frozen=True)
class TooSure(bl.criteria.SURE):
    """Its noise is half as large as it is told, but for a fixed part."""

    def prepare(self, energy, y):
        return bl.criteria.SURE(0.5 * self.sigma + 0.01, self.probes, self.seed).prepare(energy, y)


def test_the_contract_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    contract = CriterionContract()
    wrong = replace(CRITERIA["SURE"], criterion=lambda s: TooSure(s * SIGMA, 2, 3))
    monkeypatch.setitem(CRITERIA, "wrong", wrong)
    with pytest.raises(AssertionError):
        contract.test_values_are_those_of_the_rule("wrong", "blur")
    with pytest.raises(AssertionError):
        contract.test_scale_of_the_data("wrong")


@pytest.mark.parametrize(
    "criterion",
    [
        bl.criteria.SURE(SIGMA),
        bl.criteria.GSURE(SIGMA),
        bl.criteria.PURE(50.0),
        bl.criteria.Whiteness(),
        bl.criteria.HoldOut(0.3),
    ],
    ids=lambda criterion: type(criterion).__name__,
)
def test_hidden_data_do_not_count(criterion: bl.learn.Criterion) -> None:
    y = data("mask")
    here, there = y, torch.where(hidden() == 0, 3.0, y)
    values = [of_criterion("mask", criterion, WEIGHT, d) for d in (here, there)]
    assert values[0] == pytest.approx(values[1], rel=1e-9)
    seen = torch.where(hidden() == 0, y, y + 0.1)
    assert abs(of_criterion("mask", criterion, WEIGHT, seen) - values[0]) > 1e-6


def test_pure_under_a_mask_is_its_definition() -> None:
    peak, criterion = 50.0, bl.criteria.PURE(50.0, seed=3)
    y, a, seen = data("mask"), operators()["mask"], hidden()
    energy = energy_of("mask", counts=True)
    there = bl.UnsupervisedProblem(energy, y, criterion).y[1:]
    m, z = int(seen.sum()), seen * (y + BACKGROUND)
    s = 2 / (peak**0.5 * m**0.3)
    c = (there - y) / s
    torch.testing.assert_close((seen * c).square(), z)
    solved = [
        a(bl.minimise(energy.at(d), bl.solvers.LBFGS(), tol=bl.Tolerance(rms=1e-11)).x)
        for d in (y, there)
    ]
    derivative = float((c * (solved[1] - solved[0])).sum()) / s
    misfit = float((seen * (solved[0] - y)).square().sum())
    expected = (misfit + 2 / peak * derivative - float(z.sum()) / peak) / m
    assert of_criterion("mask", criterion, WEIGHT, y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["mask", "blur", "matrix"])
def test_the_adjoint_and_the_norm_of_a_pseudo_inverse(name: str) -> None:
    inverse = PseudoInverse(operators()[name], SHAPE, 0.1)
    random = torch.Generator().manual_seed(0)
    x = torch.randn(3, *SHAPE, generator=random, dtype=torch.float64)
    y = torch.randn(3, *data(name).shape[1:], generator=random, dtype=torch.float64)
    assert float((inverse(y) * x).sum()) == pytest.approx(
        float((y * inverse.adjoint(x)).sum()), rel=1e-4
    )
    units = torch.eye(y[0].numel(), dtype=torch.float64).view(-1, *y.shape[1:])
    norm = float(torch.linalg.matrix_norm(inverse(units).flatten(1), ord=2)) ** 2
    assert norm <= inverse.square_bound() * (1 + 1e-5)


def test_residuals_that_vanish_have_a_finite_whiteness() -> None:
    y = torch.full((1, 1, 12, 12), 0.5).double()
    tv = bl.regularisers.TotalVariation(0.1, 0.1)
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
    for patch, most in ((None, 144.0), (4, 16.0)):
        problem = bl.UnsupervisedProblem(energy, y, bl.criteria.Whiteness(patch=patch))
        found = problem.value_and_grad(problem.theta, tol=1e-8)
        assert found.value == most
        assert all(bool(slope.isfinite().all()) for slope in found.grad.values())


def test_patches_tell_smoothing_here_from_roughness_there() -> None:
    """Opposite correlations in the two halves: white as a whole, but in no patch."""
    noise = torch.randn(1, 1, 64, 128, generator=torch.Generator().manual_seed(0)).double()
    beside = torch.roll(noise, 1, 2)
    both = noise + torch.cat([0.4 * beside[..., :64], -0.4 * beside[..., 64:]], 3)
    plain, mixed = (
        [float(spectrum.whiteness(r, patch)) for patch in (None, 16)] for r in (noise, both)
    )
    assert abs(mixed[0] - plain[0]) < 0.15
    assert mixed[1] > plain[1] + 0.3


def test_patches_reach_both_ends() -> None:
    residual = torch.zeros(1, 1, 21, 19).double()
    residual[..., -1, -1] = residual[..., 0, 0] = 1.0
    assert float(spectrum.whiteness(residual, 8)) == pytest.approx(1.0)
    wave = torch.ones(1, 1, 4, 4).double()
    assert float(spectrum.whiteness(wave, 8)) == pytest.approx(16.0)


def test_a_patch_of_one_pixel_is_refused() -> None:
    for kind in (bl.criteria.Whiteness, bl.rules.Whiteness):
        with pytest.raises(bl.InputError, match="patch must be at least 2"):
            kind(patch=1)
    with pytest.raises(bl.InputError, match="the truncation"):
        bl.criteria.GSURE(SIGMA, truncation=0.0)

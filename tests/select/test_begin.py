"""What a rule computes once for each search, before any weight is tried."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.model import Variational
from bilevel.model.fidelities import KullbackLeibler, SquaredL2
from bilevel.model.operators import (
    Composition,
    Convolution,
    Downsampling,
    FourierMask,
    Identity,
    Mask,
    Matrix,
    Operator,
)
from bilevel.model.regularisers import TotalVariation
from bilevel.risk.pseudo_inverse import PseudoInverse
from bilevel.select import Choice, Rule, compare, rules, select

SIGMA = 0.1
BOX = Convolution(torch.full((3, 3), 1 / 9).double())
DRAW = torch.Generator().manual_seed(3)
HALF = (torch.rand(12, 12, generator=DRAW) < 0.5).double()
MATRIX = Matrix(torch.randn(150, 144, generator=DRAW).double() / 12, (1, 12, 12))


def energy_of(operator: Operator) -> Variational:
    return Variational(SquaredL2(operator).double(), TotalVariation(1.0, 0.05).double())


def noisy(operator: Operator, rows: int = 1) -> Tensor:
    truth = torch.zeros(rows, 1, 12, 12).double()
    truth[..., 6:] = 0.8
    clean = operator(truth)
    random = torch.Generator().manual_seed(0)
    return clean + SIGMA * torch.randn(clean.shape, generator=random, dtype=torch.float64)


def chosen(operator: Operator, rule: Rule, rows: int = 1) -> Choice:
    return select(energy_of(operator), noisy(operator, rows), rule, width=0.2)


class Estimates:
    """A noise level in the place of the estimated one, and how often it was asked for."""

    def __init__(self, *levels: float) -> None:
        self.levels, self.count = torch.tensor(levels).double(), 0

    def __call__(self, y: Tensor) -> Tensor:
        self.count += 1
        return self.levels[: len(y)]


RULES = {
    "discrepancy": rules.Discrepancy,
    "gaussianity": rules.Gaussianity,
    "sure": rules.SURE,
    "risk": rules.PredictedRisk,
    "gsure": rules.GSURE,
}


@pytest.mark.parametrize("name", RULES)
def test_a_level_is_estimated_once_for_all_weights(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimates = Estimates(SIGMA, 2 * SIGMA)
    monkeypatch.setattr(bl.data, "noise_level", estimates)
    found = chosen(Identity(), RULES[name](None), rows=2)
    assert estimates.count == 1
    known = chosen(Identity(), RULES[name](estimates.levels), 2).weight
    torch.testing.assert_close(found.weight, known, rtol=1e-6, atol=0)


NO_IMAGES = {
    "mask": Mask(HALF),
    "fourier": FourierMask(HALF),
    "matrix": MATRIX,
    "masked blur": Composition(Mask(HALF), BOX),
}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_no_level_is_estimated_from_data_that_are_no_images(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimates = Estimates(SIGMA)
    monkeypatch.setattr(bl.data, "noise_level", estimates)
    with pytest.raises(InputError, match=r"whole images alone.*give sigma"):
        chosen(NO_IMAGES[name], rules.PredictedRisk(None))
    assert estimates.count == 0


@pytest.mark.parametrize("operator", [BOX, Downsampling(2), Composition(Downsampling(2), BOX)])
def test_blurred_and_small_images_have_a_level(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bl.data, "noise_level", Estimates(SIGMA))
    found = chosen(operator, rules.PredictedRisk(None))
    known = chosen(operator, rules.PredictedRisk(SIGMA)).weight
    torch.testing.assert_close(found.weight, known, rtol=1e-6, atol=0)


def test_counts_have_no_such_level() -> None:
    energy = Variational(KullbackLeibler().double(), TotalVariation(1.0, 0.05).double())
    with pytest.raises(InputError, match="SquaredL2"):
        select(energy, noisy(Identity()).clamp_min(0), rules.PredictedRisk(None))


@pytest.mark.parametrize("operator", [BOX, MATRIX], ids=["blur", "matrix"])
def test_gsure_inverts_the_residual_alone_at_each_weight(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    inverted, tried, plain = [], [], PseudoInverse.__call__

    def counted(inverse: PseudoInverse, y: Tensor) -> Tensor:
        inverted.append(len(y))
        return plain(inverse, y)

    monkeypatch.setattr(PseudoInverse, "__call__", counted)
    y = noisy(operator)
    select(energy_of(operator), y, rules.GSURE(SIGMA), record=lambda w, value: tried.append(w))
    evidence = 16  # what fresh probes at the weight chosen may ask for, once
    assert len(inverted) <= len(tried) + 2 + evidence


def test_regularisers_with_further_channels_are_refused_before_anything_is_solved() -> None:
    y = torch.rand(1, 1, 6, 6)
    for kind in (
        bl.regularisers.TotalGeneralisedVariation,
        bl.regularisers.ExactInfimalConvolutionTV,
    ):
        energy = Variational(SquaredL2(), kind(1.0))
        rule = rules.Discrepancy(SIGMA)
        with pytest.raises(InputError, match=f"image alone.*{kind.__name__}.*criterion"):
            select(energy, y, rule)
        with pytest.raises(InputError, match="image alone"):
            compare(energy, y, {"discrepancy": rule})

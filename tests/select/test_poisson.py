"""Rules for counts: against sums over all counts, the exact risk, and solves at shifted data."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import bilevel as bl
from bilevel.risk.spectrum import standardised
from bilevel.select import Outcome, Path
from bilevel.select.degrees import Degrees
from bilevel.select.rules.poisson_discrepancy import expected_divergence

BACKGROUND = 0.05


def energy_with(weight: float = 1.0) -> bl.Variational:
    tv = bl.regularisers.TotalVariation(weight, 0.1)
    return bl.Variational(bl.fidelities.KullbackLeibler(background=BACKGROUND), tv).double()


def drawn(truth: Tensor, peak: float, draws: int) -> bl.data.Pairs:
    noise = bl.data.PoissonNoise(peak, BACKGROUND)
    return bl.data.simulate(truth.expand(draws, -1, -1, -1), bl.operators.Identity(), noise)


def at_truth(pairs: bl.data.Pairs) -> Any:
    """What rules see of a reconstruction that is the truth itself."""
    residual = pairs.target - pairs.y
    return SimpleNamespace(
        energy=energy_with(), y=pairs.y, prediction=pairs.target, residual=residual
    )


def step(side: int) -> Tensor:
    truth = torch.linspace(0.2, 0.6, side, dtype=torch.float64).expand(1, 1, side, side).clone()
    truth[..., side // 3 : side // 2, :] = 1.0
    return truth


@pytest.mark.parametrize("mean", [1e-7, 1e-4, 0.03, 0.5, 4.0, 77.0, 900.0, 2500.0])
def test_expected_divergence_is_the_sum_over_all_counts(mean: float) -> None:
    k = np.arange(0, int(mean + 15 * mean**0.5 + 40))
    ratio = np.where(k > 0, k / mean, 1.0)
    exact = (stats.poisson.pmf(k, mean) * (mean - k + k * np.log(ratio))).sum()
    found = float(expected_divergence(torch.tensor(mean, dtype=torch.float64)))
    assert found == pytest.approx(exact, rel=2e-5)


def test_expected_and_masked_targets_are_met_by_the_truth_on_average() -> None:
    """Also where most counts are zero, where a half for every datum is far off."""
    pairs = drawn(0.4 * step(20), 1.5, 400)
    point = at_truth(pairs)
    bias: dict[str, float] = {}
    for target in ("half", "expected", "masked"):
        excess = bl.rules.PoissonDiscrepancy(1.5, target).value(point)
        bias[target] = float(excess.mean() / (excess.std() / len(excess) ** 0.5))
    assert abs(bias["expected"]) < 3
    assert abs(bias["masked"]) < 3
    assert abs(bias["half"]) > 10


@pytest.mark.parametrize("target", ["half", "expected", "masked"])
def test_the_choice_meets_the_discrepancy_asked_for(target: str) -> None:
    peak = 20.0
    pairs = drawn(step(16), peak, 2)
    rule = bl.rules.PoissonDiscrepancy(peak, target)
    choice = bl.select(energy_with(), pairs.y, rule, width=1e-3, accuracy=1e-5)
    assert bool(choice.found.all())
    k, mean = (peak * (data + BACKGROUND) for data in (pairs.y, choice.x))
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Poisson(k.clamp_min(1e-300)), torch.distributions.Poisson(mean)
    )
    known = {
        "half": torch.full_like(mean, 0.5),
        "expected": expected_divergence(mean),
        "masked": (expected_divergence(mean) - mean * (-mean).exp()) / (1 - (-mean).exp()),
    }[target]
    used = k > 0.5 if target == "masked" else k > -1
    excess = torch.where(used, divergence - known, 0.0).mean((1, 2, 3))
    assert float(excess.abs().max()) < 1e-3


def test_pure_is_unbiased_for_the_risk() -> None:
    """The mean over draws; all draws share their probes, so that these must be exact here."""
    peak, truth = 60.0, step(6)
    pairs = drawn(truth, peak, 500)
    path = Path(energy_with(), pairs.y, accuracy=1e-4)
    point = path.at(torch.full((500,), 0.05, dtype=torch.float64))
    error = (point.x - truth).square().mean((1, 2, 3))
    gap = bl.rules.PURE(peak, Degrees("exact")).value(point) - error
    assert abs(float(gap.mean())) < 3 * float(gap.std()) / 500**0.5
    assert float(gap.std()) / 500**0.5 < 0.05 * float(error.mean())


def test_pure_is_the_exact_identity_to_first_order() -> None:
    """The exact one by 64 solves at y - e_i/peak; the more photons, the smaller the difference."""
    weight, off = torch.tensor([0.05], dtype=torch.float64), []
    for peak in (20.0, 200.0):
        pairs = drawn(step(8), peak, 1)
        path = Path(energy_with(), pairs.y, accuracy=1e-7, rtol=1e-9)
        found = bl.rules.PURE(peak, Degrees("exact")).value(path.at(weight))
        z, shifts = pairs.y + BACKGROUND, torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)
        shifted = Path(
            energy_with(), (pairs.y - shifts / peak).clamp_min(-BACKGROUND), accuracy=1e-7
        )
        own = shifted.at(weight.expand(64)).x.flatten(1).diagonal().view(1, 1, 8, 8) + BACKGROUND
        f = path.at(weight).x + BACKGROUND
        exact = (f.square() - 2 * z * own + z.square() - z / peak).mean((1, 2, 3))
        off.append(float((found - exact).abs()) * peak)
    assert off[0] < 0.05
    assert off[1] < off[0] / 3


def test_pure_finds_nearly_the_best_weight() -> None:
    peak, images = 30.0, bl.data.embedded_images(24)[1:2].double()
    pairs = bl.data.simulate(
        images, bl.operators.Identity(), bl.data.PoissonNoise(peak, BACKGROUND)
    )
    best = bl.select(energy_with(), pairs.y, bl.rules.Oracle(images), width=0.3, accuracy=3e-3)
    found = bl.select(energy_with(), pairs.y, bl.rules.PURE(peak), width=0.3, accuracy=3e-3)
    errors = [(choice.x - images).square().mean((1, 2, 3)) for choice in (found, best)]
    assert bool((errors[0] < 1.2 * errors[1]).all())


def test_residuals_of_counts_are_standardised_to_one_variance() -> None:
    pairs = drawn(step(12), 40.0, 600)
    point = at_truth(pairs)
    variance = standardised(point.residual, point.prediction, BACKGROUND).square().mean(0)
    plain = point.residual.square().mean(0)
    assert float(variance.max() / variance.min()) < 2 < float(plain.max() / plain.min())
    assert float(variance.mean()) == pytest.approx(1 / 40, rel=0.02)


def test_rules_for_counts_refuse_what_they_cannot_do_in_words() -> None:
    y = torch.full((2, 1, 4, 4), 0.5, dtype=torch.float64)
    gauss = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(1.0, 0.1))
    for rule in (bl.rules.PURE(10.0), bl.rules.PoissonDiscrepancy(10.0)):
        with pytest.raises(bl.InputError, match="the fidelity KullbackLeibler, but got SquaredL2"):
            bl.select(gauss.double(), y, rule)
        y[1] = -BACKGROUND
        with pytest.raises(bl.InputError, match=r"all counts are zero, but got rows \[1\]"):
            bl.select(energy_with(), y, rule)
        y[1] = 0.5
    with pytest.raises(bl.InputError, match="peak must be a positive"):
        bl.rules.PURE(-1.0)
    with pytest.raises(bl.InputError, match="did you mean 'masked'"):
        bl.rules.PoissonDiscrepancy(1.0, "mask")
    with pytest.raises(bl.InputError, match="must be a positive finite number"):
        bl.fidelities.KullbackLeibler(background=0.0)


def test_rows_that_single_precision_ends_are_solved_where_that_is_accurate_enough() -> None:
    y = drawn(step(48), 20.0, 1).y.float()
    tv = bl.regularisers.TotalVariation(1.0, 0.005)
    energy = bl.Variational(bl.fidelities.KullbackLeibler(background=BACKGROUND), tv)
    for accuracy, outcome in ((1e-4, Outcome.FOUND), (1e-6, Outcome.UNSOLVED)):
        choice = bl.select(energy, y, bl.rules.PoissonDiscrepancy(20.0), accuracy=accuracy)
        assert choice.outcome == (outcome,)
        assert float(choice.certificate.residual) > 0.03 * accuracy

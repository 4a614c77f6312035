"""What rules say where there is no clear answer, and where the input does not fit."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model import Variational
from bilevel.model.fidelities import L1, SquaredL2
from bilevel.model.operators import Convolution, Identity, Operator
from bilevel.model.regularisers import TotalVariation
from bilevel.select import Choice, Outcome, Path, rules
from bilevel.select.degrees import Degrees
from bilevel.select.rule import Rule
from bilevel.select.select import select

SIGMA = 0.1
BOX = Convolution(torch.full((3, 3), 1 / 9).double())


def image(rows: int = 1) -> Tensor:
    truth = torch.zeros(rows, 1, 12, 12).double()
    truth[..., 6:] = 0.8
    truth[:, :, 2:5, 2:4] = 0.5
    return truth


def noise(rows: int = 1, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return SIGMA * torch.randn(rows, 1, 12, 12, generator=random, dtype=torch.float64)


def energy_of(operator: Operator | None = None) -> Variational:
    operator = Identity() if operator is None else operator
    return Variational(SquaredL2(operator).double(), TotalVariation(1.0, 0.05).double())


def chosen(y: Tensor, rule: Rule, span: tuple[float, float] | None = None) -> Choice:
    return select(energy_of(), y, rule, span=span, width=0.1)


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


KNOWING = {
    "discrepancy": rules.Discrepancy,
    "sure": rules.SURE,
    "gsure": rules.GSURE,
    "gaussianity": rules.Gaussianity,
}
NOT_KNOWING = {
    "gcv": rules.GCV(),
    "robust gcv": rules.GCV(0.3),
    "l-curve": rules.LCurve(),
    "quasi-optimality": rules.QuasiOptimality(),
    "whiteness": rules.Whiteness(),
    "hold-out": rules.HoldOut(),
}


@pytest.mark.parametrize("name", KNOWING)
def test_without_noise_data_are_kept(name: str) -> None:
    choice = chosen(image(), KNOWING[name](1e-3))
    assert rms(choice.x - image()) < 5e-3


@pytest.mark.parametrize("name", ["sure", "gsure"])
def test_where_there_is_only_noise_hardly_any_is_left(name: str) -> None:
    choice = chosen(0.5 + noise(), KNOWING[name](SIGMA))
    assert rms(choice.x - 0.5) < 0.25 * SIGMA


def test_residuals_below_the_noise_are_told_in_words() -> None:
    choice = chosen(0.5 + noise(), rules.Discrepancy(1.2 * SIGMA))
    assert choice.outcome == (Outcome.NO_ROOT,)
    assert "smaller than the noise" in choice.advice[0]
    assert "no more than noise" in choice.advice[0]


def test_residuals_above_the_noise_are_told_in_words() -> None:
    choice = chosen(image() + noise(), rules.Discrepancy(SIGMA / 10), span=(0.1, 1.0))
    assert choice.outcome == (Outcome.NO_ROOT,)
    assert "larger than the noise" in choice.advice[0]
    assert float(choice.weight) == pytest.approx(0.1)


def test_gaussianity_answers_at_the_edge_where_discrepancy_has_no_root() -> None:
    choice = chosen(image() + noise(), rules.Gaussianity(SIGMA / 10), span=(0.1, 1.0))
    assert choice.outcome == (Outcome.EDGE,)
    assert float(choice.weight) == pytest.approx(0.1)


@pytest.mark.parametrize("name", KNOWING)
def test_a_level_off_by_two_moves_the_weight_its_way(name: str) -> None:
    y = image() + noise()
    low, right, high = (float(chosen(y, KNOWING[name](f * SIGMA)).weight) for f in (0.5, 1, 2))
    assert low < right < high


@pytest.mark.parametrize("name", NOT_KNOWING)
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_constant_data_without_noise_give_finite_answers(name: str, value: float) -> None:
    y = torch.full((1, 1, 12, 12), value).double()
    choice = chosen(y, NOT_KNOWING[name])
    assert rms(choice.x - value) < 1e-3
    assert bool((choice.weight > 0).all()) and bool(choice.weight.isfinite().all())
    assert not bool(choice.curve.value.isnan().any())
    assert choice.advice[0] or choice.outcome == (Outcome.FOUND,)


@pytest.mark.parametrize("name", NOT_KNOWING)
def test_a_rule_that_knows_no_level_scales_with_the_data(name: str) -> None:
    y, rule = image() + noise(), NOT_KNOWING[name]
    weight = torch.tensor([0.1]).double()
    tv = TotalVariation(1.0, 0.5).double()
    scaled = Variational(SquaredL2().double(), tv)
    values = []
    for energy, factor in ((energy_of(), 1.0), (scaled, 10.0)):
        data = factor * y
        path = Path(rule.prepare(energy, data), data, accuracy=1e-7 * factor, rtol=1e-8)
        values.append(float(rule.value(path.at(factor * weight))))
    units = {"gcv": 100.0, "robust gcv": 100.0, "quasi-optimality": 10.0, "hold-out": 100.0}
    assert values[1] == pytest.approx(
        units.get(name, 1.0) * values[0], rel=0.02 if name == "l-curve" else 1e-4
    )


def test_a_risk_that_falls_to_the_edge_is_no_answer() -> None:
    choice = chosen(image() + noise(), rules.SURE(SIGMA), span=(1.0, 10.0))
    assert choice.outcome == (Outcome.EDGE,)
    assert float(choice.weight) == pytest.approx(1.0)
    assert "widen the range" in choice.advice[0]


def test_quasi_optimality_says_that_denoising_rests_at_the_edge() -> None:
    choice = chosen(image() + noise(), rules.QuasiOptimality(), span=(1e-4, 0.1))
    assert choice.outcome == (Outcome.EDGE,)
    assert "rest" in choice.advice[0]


def test_a_criterion_that_does_not_change_is_flat() -> None:
    choice = chosen(image() + noise(), rules.SURE(SIGMA), span=(1e-12, 1e-11))
    assert choice.outcome == (Outcome.FLAT,)
    assert "any of these weights" in choice.advice[0]


@pytest.mark.parametrize("name", KNOWING)
def test_every_row_has_its_own_level(name: str) -> None:
    y = torch.cat([image() + noise(), image() + 2 * noise(seed=1)])
    levels = torch.tensor([SIGMA, 2 * SIGMA]).double()
    weight = torch.full((2,), 0.1).double()
    together = Path(energy_of(), y, accuracy=1e-7, rtol=1e-6).at(weight)
    both = KNOWING[name](levels).value(together)
    for k, level in enumerate(levels):
        alone = Path(energy_of(), y[k : k + 1], accuracy=1e-7, rtol=1e-6).at(weight[:1])
        one = KNOWING[name](float(level)).value(alone)
        assert float(both[k]) == pytest.approx(float(one), rel=1e-5)
        part = Path(energy_of(), y, accuracy=1e-7, rtol=1e-6).at(weight[:1], torch.tensor([k]))
        assert float(KNOWING[name](levels).value(part)) == pytest.approx(float(one), rel=1e-5)


@pytest.mark.parametrize("name", KNOWING)
@pytest.mark.parametrize(
    "sigma", [0.0, -0.1, float("nan"), torch.ones(3).double(), torch.ones(2, 1).double()], ids=str
)
def test_levels_that_do_not_fit_are_refused(name: str, sigma: float | Tensor) -> None:
    with pytest.raises(InputError, match="sigma"):
        chosen(image(2), KNOWING[name](sigma))


ALL = [*(make(SIGMA) for make in KNOWING.values()), *NOT_KNOWING.values()]


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: type(rule).__name__)
def test_data_that_are_not_finite_or_no_images_are_refused(rule: Rule) -> None:
    spoilt = image()
    spoilt[0, 0, 3, 3] = torch.nan
    with pytest.raises(InputError, match="finite"):
        chosen(spoilt, rule)
    with pytest.raises(InputError, match="shape"):
        chosen(image()[0], rule)


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: type(rule).__name__)
def test_other_fidelities_are_refused(rule: Rule) -> None:
    energy = Variational(L1().double(), TotalVariation(1.0, 0.05).double())
    with pytest.raises(InputError):
        select(energy, image(), rule)


def test_sure_is_for_denoising() -> None:
    with pytest.raises(InputError, match="GSURE"):
        select(energy_of(BOX), image(), rules.SURE(SIGMA))


def test_targets_must_fit() -> None:
    with pytest.raises(InputError, match="targets"):
        chosen(image(2), rules.Oracle(image(1)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: rules.GCV(robustness=0.0),
        lambda: rules.GCV(robustness=1.5),
        lambda: rules.GSURE(SIGMA, truncation=0.0),
        lambda: rules.HoldOut(part=1.0),
        lambda: rules.HoldOut(part=0.0),
        lambda: rules.Discrepancy(SIGMA, tau=0.0),
        lambda: Degrees("fast"),
        lambda: Degrees(probes=0),
        lambda: Degrees("monte carlo", step=0.0),
    ],
)
def test_options_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(InputError):
        make()


def test_nothing_to_hold_out_is_refused() -> None:
    with pytest.raises(InputError, match="held out"):
        chosen(image(), rules.HoldOut(part=1e-9))


def test_a_step_is_needed_where_no_level_is_known() -> None:
    with pytest.raises(InputError, match="step"):
        chosen(image() + noise(), rules.GCV(degrees=Degrees("monte carlo")))
    choice = chosen(image() + noise(), rules.GCV(degrees=Degrees("monte carlo", step=0.01)))
    assert choice.outcome[0] in (Outcome.FOUND, Outcome.DOUBTFUL)  # 144 data


def test_slopes_that_are_not_known_are_refused() -> None:
    point = Path(energy_of(), image(), accuracy=1e-3).at(torch.ones(1).double())
    assert "slope" not in dir(rules.Whiteness())
    with pytest.raises(InputError, match="monte carlo"):
        rules.SURE(SIGMA).slope(point)


def test_hold_out_reconstructs_from_all_data_in_the_end() -> None:
    y = image() + noise()
    choice = chosen(y, rules.HoldOut())
    alone = Path(energy_of(), y, accuracy=1e-6).at(choice.weight)
    assert rms(choice.x - alone.x) < 2e-3


FULL = {
    **{name: make(SIGMA) for name, make in KNOWING.items()},
    "corrected": rules.Discrepancy(SIGMA, corrected=True),
    "monte carlo": rules.SURE(SIGMA, Degrees("monte carlo")),
    **NOT_KNOWING,
}


@pytest.mark.parametrize("name", FULL)
def test_single_precision_gives_the_same_values_of_colour_images(name: str) -> None:
    rule, y = FULL[name], torch.cat([image() + noise(seed=s) for s in range(3)], 1)
    weight = torch.tensor([0.1]).double()

    def value(data: Tensor) -> float:
        energy = energy_of().to(data)
        path = Path(rule.prepare(energy, data), data, accuracy=1e-4, rtol=1e-4)
        return float(rule.value(path.at(weight)))

    exact = value(y)
    assert value(y.float()) == pytest.approx(exact, rel=0.01, abs=2e-4)


def test_a_reconstruction_that_missed_its_accuracy_is_told() -> None:
    y = image() + noise()
    choice = select(energy_of(), y, rules.Discrepancy(SIGMA), accuracy=1e-17, span=(0.05, 0.3))
    assert choice.outcome == (Outcome.UNSOLVED,)
    assert "accuracy" in choice.advice[0]


def test_groups_of_rows_give_what_all_give_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    y, target = (
        torch.cat([image() + noise(seed=s) for s in range(5)]),
        image().expand(5, -1, -1, -1),
    )
    sigma = torch.full((5,), SIGMA).double()
    for rule in (rules.Oracle(target), rules.Discrepancy(sigma), rules.SURE(sigma), rules.LCurve()):
        once = select(energy_of(), y, rule)
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules["bilevel.select.select"], "TOGETHER", 2 * y[0].numel())
            parted = select(energy_of(), y, rule)
        assert parted.rule == once.rule
        assert parted.outcome == once.outcome
        assert bool((parted.weight.log() - once.weight.log()).abs().max() < 0.02)
        assert rms(parted.x - once.x) < 2e-3
        assert parted.certificate.rms.shape == once.certificate.rms.shape
        assert bool((parted.curve.at(parted.weight) - once.value).abs().max() < 1e-2)


def test_a_path_refuses_rows_that_are_not_its_own() -> None:
    path = Path(energy_of(), torch.cat([image()] * 4), accuracy=1e-3, rows=torch.tensor([2, 3]))
    path.at(torch.ones(1).double(), torch.tensor([3]))
    with pytest.raises(InputError, match="other rows"):
        path.at(torch.ones(1).double(), torch.tensor([1]))

"""Several rules on the same images."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.select import Outcome
from bilevel.select.point import Point
from bilevel.select.rule import Rule

SIGMA = 0.1
RULES = {"sure": bl.rules.SURE(SIGMA), "discrepancy": bl.rules.Discrepancy(SIGMA)}


@pytest.fixture(scope="module")
def pairs() -> bl.data.Pairs:
    images = bl.data.embedded_images(size=24)[:2].double()
    return bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(SIGMA))


def denoising(operator: bl.operators.Operator | None = None) -> bl.Variational:
    fidelity = bl.fidelities.SquaredL2(operator)
    return bl.Variational(fidelity, bl.regularisers.TotalVariation(1.0, 0.01)).double()


@pytest.fixture(scope="module")
def found(pairs: bl.data.Pairs) -> bl.Comparison:
    return bl.compare(denoising(), pairs.y, RULES, target=pairs.target, learned=0.08)


def test_rules_stand_beside_what_was_learned_and_the_oracle(found: bl.Comparison) -> None:
    assert set(found.choices) == {"sure", "discrepancy", "learned", "oracle"}
    assert found.rules == ("sure", "discrepancy")
    assert not found.failures
    assert bool((found.choices["learned"].weight == 0.08).all())


def test_each_choice_is_that_of_select(found: bl.Comparison, pairs: bl.data.Pairs) -> None:
    for name, rule in RULES.items():
        alone = bl.select(denoising(), pairs.y, rule)
        assert torch.equal(found.choices[name].weight, alone.weight)
        assert found.choices[name].cost.gradient_evaluations == alone.cost.gradient_evaluations


def test_no_choice_beats_the_oracle(found: bl.Comparison, pairs: bl.data.Pairs) -> None:
    best = found.error("oracle")
    for name in found.choices:
        assert bool((found.error(name) >= best * (1 - 1e-3)).all()), name
    noise = (pairs.y - pairs.target).square().flatten(1).mean(1).sqrt()
    assert bool((found.error("sure") < 0.7 * noise).all())


def test_the_criterion_at_the_choice_is_that_of_the_curve(found: bl.Comparison) -> None:
    oracle = found.choices["oracle"]
    assert torch.allclose(oracle.value.sqrt(), found.error("oracle"), rtol=1e-4)
    assert torch.allclose(found.choices["learned"].value.sqrt(), found.error("learned"), rtol=1e-6)
    for k in range(2):
        _, values = oracle.curve.row(k)
        assert float(oracle.value[k]) == float(values.min())


def test_rules_that_do_not_apply_are_kept_with_their_words(pairs: bl.data.Pairs) -> None:
    blur = bl.operators.Convolution(torch.full((3, 3), 1 / 9).double())
    found = bl.compare(denoising(blur), pairs.y, RULES)
    assert list(found.choices) == ["discrepancy"]
    assert "PredictedRisk" in found.failures["sure"]
    with pytest.raises(bl.InputError, match="none of the rules applies"):
        bl.compare(denoising(blur), pairs.y, {"sure": RULES["sure"]})


def test_errors_need_the_truth(pairs: bl.data.Pairs) -> None:
    found = bl.compare(denoising(), pairs.y, {"sure": RULES["sure"]})
    with pytest.raises(bl.InputError, match="target"):
        found.error("sure")


@pytest.mark.parametrize("rules", [{}, {"oracle": RULES["sure"]}])
def test_bad_names_are_refused(rules: dict[str, Rule], pairs: bl.data.Pairs) -> None:
    with pytest.raises(bl.InputError, match="names other than"):
        bl.compare(denoising(), pairs.y, rules)


class Pressed(bl.rules.Discrepancy):
    def value(self, point: Point) -> Tensor:
        raise KeyboardInterrupt


def test_an_interrupt_keeps_what_is_done(pairs: bl.data.Pairs) -> None:
    rules = {"discrepancy": RULES["discrepancy"], "pressed": Pressed(SIGMA), "sure": RULES["sure"]}
    found = bl.compare(denoising(), pairs.y, rules, target=pairs.target)
    assert found.interrupted
    assert list(found.choices) == ["discrepancy"]


def test_every_weight_tried_is_heard(pairs: bl.data.Pairs) -> None:
    heard: dict[str, list[Tensor]] = {}

    def listen(name: str) -> AbstractContextManager:
        weights = heard.setdefault(name, [])
        return nullcontext(lambda weight, value: weights.append(weight))

    found = bl.compare(denoising(), pairs.y[:1], RULES, heard=listen)
    for name, choice in found.choices.items():
        assert sorted(float(w) for w in heard[name]) == choice.curve.row(0)[0].tolist()


def test_a_learned_weight_whose_reconstruction_missed_its_accuracy_says_so(
    pairs: bl.data.Pairs,
) -> None:
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(1.0, 0.05))
    found = bl.compare(energy, pairs.y.float(), {}, learned=1.0, accuracy=1e-9)
    choice = found.choices["learned"]
    assert set(choice.outcome) == {Outcome.UNSOLVED}
    assert "accuracy" in choice.advice[0]

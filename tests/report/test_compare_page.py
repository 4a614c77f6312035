"""The page of chosen weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import bilevel as bl
from bilevel.report import Compared, compare_page, compare_table, compare_verdict, summaries
from bilevel.report.choices import chosen
from bilevel.report.compare_figures import (
    SHAPES,
    criterion_chart,
    quality_chart,
    styles,
    weights_chart,
)
from bilevel.report.compare_words import advices, agreement, central, nearest
from bilevel.report.race_figures import looks_of
from bilevel.select import Outcome
from report.test_figures import checked, labels
from report.test_page import read

SIGMA = 0.1
RULES = {
    "sure": bl.rules.SURE(SIGMA),
    "discrepancy": bl.rules.Discrepancy(SIGMA),
    "far": bl.rules.Discrepancy(2.0),
}


def energy(operator: bl.operators.Operator | None = None) -> bl.Variational:
    return bl.Variational(
        bl.fidelities.SquaredL2(operator), bl.regularisers.TotalVariation(1.0, 0.05)
    )


@pytest.fixture(scope="module")
def pairs() -> bl.data.Pairs:
    images = bl.data.embedded_images(size=16)[:2]
    noise = bl.data.GaussianNoise(SIGMA)
    return bl.data.simulate(images, bl.operators.Identity(), noise, ids=("one <b>", "two"))


@pytest.fixture(scope="module")
def known(pairs: bl.data.Pairs) -> Compared:
    found = bl.compare(energy(), pairs.y, RULES, target=pairs.target, learned=0.08)
    return Compared(pairs.ids, found)


def one(known: Compared, *names: str) -> Compared:
    """The first image without the truth, with some of the rules."""
    whole = known.comparison

    def first(choice: bl.Choice) -> bl.Choice:
        certificate = replace(choice.certificate, rms=choice.certificate.rms[:1])
        curve = replace(
            choice.curve, weight=choice.curve.weight[:, :1], value=choice.curve.value[:, :1]
        )
        changes = {"weight": choice.weight[:1], "x": choice.x[:1], "outcome": choice.outcome[:1]}
        return replace(
            choice, certificate=certificate, curve=curve, advice=choice.advice[:1], **changes
        )

    return Compared(
        known.ids[:1],
        bl.Comparison(
            whole.y[:1], whole.before[:1], {name: first(whole.choices[name]) for name in names}
        ),
    )


def test_what_a_page_with_the_truth_says(known: Compared) -> None:
    text = compare_page([known], configuration={"noise": {"sigma": 0.1}}, title="A title <i>")
    page = read(text)
    for part in (
        "A title <i>",
        "Without seeing the truth",
        "one <b>",
        "to the oracle",
        "Means over 2 images",
        "far one <b>, two: no weight of the range meets the condition",
        known.comparison.choices["far"].advice[0],
        "reconstructions are proved",
        "sigma = 0.1",
    ):
        assert part in page.words, part
    pictures = 2 * (len(known.comparison.choices) + 2) + 2
    assert page.html.count("data:image/png") == pictures
    curves = 2 * 3
    assert page.html.count('<svg class="chart"') == curves + 2
    assert page.html.count('class="special"') == 2


def test_what_a_page_of_one_rule_says(known: Compared) -> None:
    page = read(compare_page([one(known, "sure")]))
    assert "sure chooses the weight" in page.words
    assert "oracle" not in page.words
    assert "PSNR" not in page.words
    assert "What needs attention" not in page.words
    assert page.html.count('<svg class="chart"') == 1
    page = read(compare_page([one(known, "far")]))
    assert "far finds no weight for one <b>" in page.words
    assert "What needs attention" in page.words


def test_rules_that_were_left_out_are_named(known: Compared) -> None:
    lone = one(known, "sure", "discrepancy")
    failed = replace(lone.comparison, failures={"gone": "it is <b>gone</b>"}, interrupted=True)
    page = read(compare_page([Compared(lone.ids, failed)]))
    assert "left out: it is <b>gone</b>." in page.words
    assert "Ctrl-C ended the work early" in page.words


def test_the_verdict_names_the_nearest_rule(known: Compared) -> None:
    found = summaries([known])
    best = max(("sure", "discrepancy", "far"), key=lambda name: found[name].psnr)
    sentences = compare_verdict([known])
    assert f"{best} comes closest" in sentences[0]
    assert "0.08 for all" in sentences[1]


def test_means_are_those_of_the_images(known: Compared, pairs: bl.data.Pairs) -> None:
    x = known.comparison.choices["sure"].x
    squares = (x.double() - pairs.target.double()).square().flatten(1).mean(1)
    found = summaries([known])["sure"]
    assert found.psnr == pytest.approx(float((-10 * squares.log10()).mean()), abs=1e-9)
    assert found.found == 2
    assert found.weights[0] <= found.weights[1]


def weighing(known: Compared, **weights: float) -> Compared:
    """The first image, the choices having other weights; 'far' stands behind none."""
    lone = one(known, *weights)
    changed = {
        name: replace(choice, weight=torch.tensor([weights[name]]).double())
        for name, choice in lone.comparison.choices.items()
    }
    return Compared(lone.ids, replace(lone.comparison, choices=changed))


def test_agreement_counts_weights_near_the_median_that_rules_stand_behind(known: Compared) -> None:
    assert agreement([weighing(known, sure=0.1, discrepancy=0.15, far=9.0)])[0] == "2 of 2"
    assert agreement([weighing(known, sure=0.1, discrepancy=0.9, far=0.4)])[0] == "1 of 2"
    assert agreement([one(known, "far")])[0] == "none"


def test_the_central_rule_is_shown_where_the_truth_is_not_known(known: Compared) -> None:
    assert central([weighing(known, far=0.1, sure=0.1)]) == "sure"
    assert central([one(known, "far")]) is None
    page = read(compare_page([weighing(known, far=0.1, sure=0.3)]))
    assert "data and reconstruction by sure" in page.words


def test_what_is_said_where_the_truth_is_not_known(known: Compared) -> None:
    said = compare_verdict([weighing(known, sure=0.1, discrepancy=0.3, far=9.0)])[0]
    assert said == "2 of 3 rules find a weight; these lie between 0.1 and 0.3, their median is 0.2."
    assert compare_verdict([one(known, "far")])[0].startswith("far finds no weight")
    twice = one(known, "far").comparison
    both = replace(twice, choices={"far": twice.choices["far"], "further": twice.choices["far"]})
    assert compare_verdict([Compared(["a"], both)]) == ["None of 2 rules finds a weight."]


def test_a_learned_weight_alone_makes_a_page_too(known: Compared) -> None:
    page = read(compare_page([one(known, "learned")]))
    assert "The weight learned from other images is 0.08." in page.words


def test_of_rules_that_are_level_the_first_is_named(known: Compared) -> None:
    found = summaries([known])
    rules = {"discrepancy": found["discrepancy"], "sure": found["sure"], "twin": found["sure"]}
    assert nearest(rules) == "sure"


def test_advice_is_given_once_for_all_images(known: Compared) -> None:
    (found,) = advices(chosen([known]))
    assert found[0] == "far"
    assert found[1].startswith("one <b>, two: ")


def test_charts_are_well_formed_and_mark_the_choices(known: Compared) -> None:
    looks = styles(list(known.comparison.choices))
    assert set(looks) >= set(labels(weights_chart(chosen([known]), looks))) & set(looks)
    checked(quality_chart(known, 0, looks, "0"))
    for name in RULES:
        checked(criterion_chart(known, 1, name, looks[name], "1", wide=False))


def test_a_criterion_that_is_nowhere_finite_draws_nothing_but_axes(known: Compared) -> None:
    lone = one(known, "sure")
    choice = lone.comparison.choices["sure"]
    lost = replace(choice.curve, value=torch.full_like(choice.curve.value, torch.inf))
    choices = {"sure": replace(choice, curve=lost, outcome=(Outcome.EDGE,), advice=("look",))}
    page = compare_page([Compared(lone.ids, replace(lone.comparison, choices=choices))])
    assert '<svg class="chart"' not in page
    read(page)


def test_every_look_has_a_shape_for_the_legend() -> None:
    looks = looks_of(str(k) for k in range(30))
    assert {look.marker for look in looks.values()} <= set(SHAPES)


def test_data_of_another_shape_are_shown_as_images() -> None:
    operator = bl.operators.Downsampling(2)
    truth = bl.data.shepp_logan(16).float()
    y = bl.data.simulate(truth, operator, bl.data.GaussianNoise(0.05)).y
    found = bl.compare(energy(operator), y, {"discrepancy": bl.rules.Discrepancy(0.05)})
    read(compare_page([Compared(["small"], found)]))


def test_names_must_fit_and_something_must_be_chosen(known: Compared) -> None:
    with pytest.raises(bl.InputError, match="need as many ids"):
        Compared(["one"], known.comparison)
    with pytest.raises(bl.InputError, match="nothing was chosen"):
        compare_page([Compared(known.ids, replace(known.comparison, choices={}))])


def test_the_table_shows_quality_only_where_it_is_known(known: Compared) -> None:
    assert "PSNR [dB]" in [c.header for c in compare_table(summaries([known]).values()).columns]
    alone = compare_table(summaries([one(known, "sure")]).values())
    assert "PSNR [dB]" not in [c.header for c in alone.columns]
    assert alone.row_count == 1

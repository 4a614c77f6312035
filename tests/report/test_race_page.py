"""The page of a race."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

import bilevel as bl
from bilevel.report import race_page, race_verdict
from bilevel.report.race_figures import MEASURES, gap_chart, looks, norm_chart, resolution
from report.test_figures import checked
from report.test_page import read


@pytest.fixture(scope="module")
def race() -> bl.Race:
    def problem() -> bl.BilevelProblem:
        images = bl.data.shepp_logan(16).repeat(2, 1, 1, 1)
        pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
        energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(0.02))
        return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)

    runners = {"maid": bl.algorithms.MAID(), "l-bfgs": bl.algorithms.LBFGS()}
    return bl.race(problem, runners, bl.Budget(steps=3))


def ended(race: bl.Race, name: str, **changes: float) -> bl.Race:
    """The race with the final look of one algorithm changed."""
    entries = (
        replace(e, final=replace(e.final, **changes)) if e.name == name else e for e in race.entries
    )
    return replace(race, entries=tuple(entries))


def test_what_a_race_page_says(race: bl.Race) -> None:
    page = read(race_page(race, configuration={"budget": {"steps": 3}}, title="A race <b>"))
    for part in (
        "A race <b>",
        f"{race.winner.name} wins",
        "2 algorithms from the same start on the same problem, 3 outer steps each",
        "budget used up",
        "(proved)",
        "Total variation: weight",
        "Every final loss is proved to within",
        "steps = 3",
        "‖projected gradient‖",
    ):
        assert part in page.words, part
    assert page.html.count('<svg class="chart"') == 6
    assert page.html.count('class="winner"') == 1


def test_a_clear_winner_is_named(race: bl.Race) -> None:
    best = race.best.final.corrected
    worse = ended(race, "l-bfgs", corrected=best + race.scale, value=best + race.scale)
    assert worse.winner.name == "maid"
    text = race_verdict(worse)
    assert text.startswith("maid wins")
    assert "1 algorithm did not come within 1 %" in text
    assert "never" in read(race_page(worse)).words


def test_the_lowest_loss_is_named_where_it_does_not_win(race: bl.Race) -> None:
    cheap, dear = race.entries
    history = tuple(
        replace(r, cost=replace(r.cost, hvps=10**6 * (r.step + 1))) for r in dear.fit.history
    )
    costly = replace(dear, fit=replace(dear.fit, history=history))
    lower = race.best.final.corrected - 1e-3 * race.scale
    found = ended(replace(race, entries=(cheap, costly)), dear.name, corrected=lower)
    assert found.best.name == dear.name
    assert found.winner.name == cheap.name
    assert f"The lowest loss of all is that of {dear.name}" in race_verdict(found)


def test_nothing_proved_is_said(race: bl.Race) -> None:
    entries = (
        replace(e, final=replace(e.final, interval=math.inf, error=math.inf, estimate=math.nan))
        for e in race.entries
    )
    page = read(race_page(replace(race, entries=tuple(entries))))
    assert "No interval of the final loss is proved for" in page.words
    assert "(estimated)" in page.words
    assert "(proved)" not in page.words


def test_failures_and_interrupts_are_told(race: bl.Race) -> None:
    page = read(race_page(replace(race, failures={"other": "needs a smooth energy"})))
    assert "could not run: needs a smooth energy" in page.words
    page = read(race_page(replace(race, interrupted=True, entries=race.entries[:1])))
    assert "Ctrl-C ended the race early" in page.words
    assert "ran alone" in page.words


def test_a_race_without_a_finite_loss_has_no_winner(race: bl.Race) -> None:
    lost = ended(ended(race, "maid", value=math.nan), "l-bfgs", value=math.nan)
    with pytest.raises(bl.InputError, match="no algorithm ended with a finite loss"):
        race_page(lost)
    assert "maid" in race_page(ended(race, "l-bfgs", value=math.nan))


@pytest.mark.parametrize("measure", MEASURES)
def test_charts_draw_every_algorithm(race: bl.Race, measure: str) -> None:
    for svg in (gap_chart(race, measure), norm_chart(race, measure)):
        checked(svg)
        for look in looks(race).values():
            assert look.css in svg


def test_looks_below_the_best_loss_are_left_out(race: bl.Race) -> None:
    best, least = race.best, resolution(race)
    first, *others = best.fit.history

    def drawn(corrected: float) -> str:
        history = (first, replace(first, corrected=corrected), *others)
        entry = replace(best, fit=replace(best.fit, history=history))
        entries = tuple(entry if e is best else e for e in race.entries)
        return gap_chart(replace(race, entries=entries), "work")

    wrong = best.final.corrected - 10 * least
    assert drawn(wrong) == drawn(math.nan)
    assert drawn(wrong) != drawn(best.final.corrected + 10 * least)


def test_many_algorithms_look_different(race: bl.Race) -> None:
    entries = tuple(replace(race.entries[0], name=f"a{k}") for k in range(18))
    styles = looks(replace(race, entries=entries))
    assert len({(look.colour, look.dash) for look in styles.values()}) == 18

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from bilevel.report import Scores
from bilevel.report.gallery import gallery, median_card, shown_side
from bilevel.solve import Status
from report.examples import make_samples


def graded(count: int):
    """Samples whose gains grow with their number."""
    samples = make_samples(count)
    better = torch.linspace(0.9, 0.1, count)[:, None, None, None]
    after = samples.target + better * (samples.before - samples.target)
    return replace(samples, after=after)


def test_picks_run_from_the_largest_gain_to_the_smallest() -> None:
    samples = graded(9)
    cards = gallery((samples,), Scores.of(samples), side=99, most=3)
    assert [card.id for card in cards] == ["sample-8", "sample-4", "sample-0"]
    assert median_card((samples,), Scores.of(samples), side=99).id == "sample-4"


def test_few_samples_are_all_shown_once() -> None:
    samples = graded(2)
    cards = gallery((samples,), Scores.of(samples), side=99, most=4)
    assert [card.id for card in cards] == ["sample-1", "sample-0"]


def test_a_card_has_five_tiles_and_says_what_it_shows() -> None:
    samples = replace(make_samples(1), status=torch.tensor([Status.MAX_STEPS]))
    (card,) = gallery((samples,), Scores.of(samples), side=16, most=1)
    titles = [tile.title for tile in card.tiles]
    assert titles == ["Before", "After", "Truth", "Error before", "Error after"]
    assert "20.00" in card.tiles[0].caption
    assert card.tiles[3].caption == "rms 0.1"
    assert card.tiles[4].caption == "rms 0.02"
    assert "max steps" in card.note
    assert "middle 16 × 16 of 24 × 20 pixels" in card.note
    assert card.bar.high == pytest.approx(0.1, abs=1e-4)
    assert all(tile.alt for tile in card.tiles)


def test_no_errors_and_no_certificate() -> None:
    samples = make_samples(1, before=0.0, after=0.0, certificate=math.inf)
    (card,) = gallery((samples,), Scores.of(samples), side=99, most=1)
    assert "not proved" in card.note
    assert card.tiles[3].caption == "rms 0"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("cards", [1, 5, 13])
def test_pictures_of_a_page_stay_small(cards: int, channels: int) -> None:
    side = shown_side(cards, channels)
    values = cards * (3 * channels + 2) * side**2
    assert values * 4 / 3 < 5e6
    assert 100 <= side <= 384

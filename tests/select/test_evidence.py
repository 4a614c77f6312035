"""FOUND means that nothing in the data speaks against the weight."""

from __future__ import annotations

import pytest
import torch

import bilevel as bl
from bilevel.select import Outcome
from contracts import situations
from contracts.situations import LOST, Situation

QUICK = ("sure", "whiteness", "hold-out")
STEADY = ("sure", "gcv", "whiteness")
BIASED = ("discrepancy", "gaussianity")
"""Known to smooth too much by more than 1 dB even where all that they assume is true."""


def found_and_lost(cases: list[Situation], names: tuple[str, ...] | None = None) -> list[str]:
    return [
        f"{rule} on {name}: {lost:.1f} dB"
        for rule, name, outcome, lost, _ in situations.results(cases, names)
        if outcome is Outcome.FOUND and lost > LOST
    ]


def test_no_weight_is_found_where_an_assumption_fails() -> None:
    """Some 40 hard situations; noiseless ones for one rule, since they are slow to solve."""
    cases = [s for s in situations.hard(32) if not s.name.startswith("cell")]
    noisy = [s for s in cases if "noiseless" not in s.name]
    assert not found_and_lost(cases, ("sure",))
    assert not found_and_lost(noisy, ("sure, estimated", "whiteness"))
    assert not found_and_lost(list(situations.tiny()), QUICK)


def test_ordinary_weights_are_still_found() -> None:
    rows = list(situations.results(list(situations.ordinary(48, (0.1,)))[:2], STEADY))
    assert [row for row in rows if row[2] is not Outcome.FOUND] == []


@pytest.mark.long
def test_hardly_a_weight_is_found_in_hard_situations() -> None:
    """Goal 0; two of 360 stay, by 1.1 and 1.5 dB: the optimum lies within a factor of three."""
    cases = list(situations.hard())
    assert len(found_and_lost(cases)) <= 2
    assert not found_and_lost(list(situations.tiny()))


@pytest.mark.long
def test_nearly_all_ordinary_weights_are_found() -> None:
    rows = [
        row
        for row in situations.results(list(situations.ordinary()))
        if row[0] not in ("l-curve", "quasi-optimality")  # unfit for denoising
    ]
    doubted = [row for row in rows if row[2] is Outcome.DOUBTFUL]
    assert len(doubted) <= 0.05 * len(rows), doubted
    assert not [r for r in rows if r[2] is Outcome.FOUND and r[3] > LOST and r[0] not in BIASED]


def test_correlated_noise_is_named() -> None:
    x = situations.picture("camera", 64)
    y = x + 0.1 * situations.blurred(situations.white(x, 0), 1.5)
    choice = bl.select(situations.energy(), y, bl.rules.SURE(bl.data.noise_level(y)))
    assert choice.outcome == (Outcome.DOUBTFUL,)
    assert "not white" in choice.advice[0]


def test_an_implausible_level_is_named() -> None:
    x = situations.picture("camera", 64)
    y = x + 0.1 * situations.white(x, 0)
    choice = bl.select(situations.energy(), y, bl.rules.SURE(0.04))
    assert choice.outcome == (Outcome.DOUBTFUL,)
    assert "sigma = 0.04" in choice.advice[0]


def test_the_oracle_assumes_nothing() -> None:
    x = situations.picture("camera", 8)
    choice = bl.select(situations.energy(), x + 0.1 * situations.white(x, 0), bl.rules.Oracle(x))
    assert Outcome.DOUBTFUL not in choice.outcome
    assert isinstance(choice.x, torch.Tensor)

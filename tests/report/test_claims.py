from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from bilevel.learn import Fit, Status
from bilevel.report import Scores
from bilevel.report.claims import Standing, certified_accuracy, claims, learning_claims
from bilevel.solve import Status as SolveStatus
from report.examples import make_samples, unproved, with_last


def said(found: list, fragment: str) -> Standing:
    """The standing of the one claim that says it."""
    (claim,) = [c for c in found if fragment in c.text]
    return claim.standing


def test_certified_reconstructions() -> None:
    scores = Scores.of(make_samples(2, certificate=2.5e-4))
    assert said(claims(scores), "All 2 reconstructions lie within 2.50") is Standing.PROVED
    assert "proved to lie within" in certified_accuracy(scores)
    one = Scores.of(make_samples(1))
    assert said(claims(one), "The reconstruction lies") is Standing.PROVED


def test_nothing_certified() -> None:
    scores = Scores.of(make_samples(2, certificate=math.inf))
    assert said(claims(scores), "No strong convexity is proved") is Standing.OPEN
    assert "not certified" in certified_accuracy(scores)


def test_some_certified() -> None:
    samples = replace(make_samples(2), certificate=torch.tensor([1e-4, math.inf]))
    scores = Scores.of(samples)
    assert "1 of 2 reconstructions lie" in claims(scores)[0].text
    assert certified_accuracy(scores) == "certified for 1 of 2 images"


def test_a_useless_certificate_is_called_so() -> None:
    scores = Scores.of(make_samples(2, certificate=0.5))
    assert "too wide to be of much use" in claims(scores)[0].text
    assert "says little" in certified_accuracy(scores)


def test_unfinished_solves_are_counted() -> None:
    status = torch.tensor([SolveStatus.STALLED, SolveStatus.CONVERGED])
    scores = Scores.of(replace(make_samples(2), status=status))
    expected = "1 reconstruction did not reach the accuracy asked for (stalled)"
    assert said(claims(scores), expected) is Standing.OPEN


@pytest.mark.parametrize(
    ("status", "standing"),
    [
        (Status.CONVERGED, Standing.PROVED),
        (Status.STATIONARY, Standing.ESTIMATED),
        (Status.BUDGET, Standing.OPEN),
    ],
)
def test_the_end(tiny_fit: Fit, status: Status, standing: Standing) -> None:
    assert said(learning_claims(replace(tiny_fit, status=status)), status.value) is standing


def test_the_loss_interval(tiny_fit: Fit) -> None:
    narrow = with_last(tiny_fit, corrected=1e-3, interval=1e-4)
    (text,) = [c.text for c in learning_claims(narrow) if "of PSNR" in c.text]
    assert "29.59" in text
    assert "30.46" in text
    wide = learning_claims(with_last(tiny_fit, corrected=1e-3, interval=2e-3))
    assert said(wide, "this interval reaches zero") is Standing.PROVED


def test_the_gradient(tiny_fit: Fit) -> None:
    good = with_last(tiny_fit, gradient_norm=1e-2, error=1e-4)
    assert said(learning_claims(good), "direction can be trusted") is Standing.PROVED
    bad = with_last(tiny_fit, gradient_norm=1e-2, error=1.0, estimate=1e-5)
    assert said(learning_claims(bad), "more than its norm") is Standing.OPEN
    estimated = with_last(tiny_fit, error=math.inf, estimate=1e-5)
    assert said(learning_claims(estimated), "is estimated as") is Standing.ESTIMATED


def test_nothing_is_known(tiny_fit: Fit) -> None:
    fit = replace(tiny_fit, history=tuple(map(unproved, tiny_fit.history)))
    found = learning_claims(fit)
    assert said(found, "carries no proved interval") is Standing.OPEN
    assert said(found, "neither bounded nor estimated") is Standing.OPEN
    assert all("Every sample reached" not in c.text for c in found)


def test_missed_accuracy_is_counted(tiny_fit: Fit) -> None:
    steps = len(tiny_fit.history)
    all_met = replace(tiny_fit, history=tuple(replace(r, uncertified=0) for r in tiny_fit.history))
    assert said(learning_claims(all_met), "Every sample reached") is Standing.PROVED
    found = learning_claims(with_last(all_met, uncertified=2))
    assert said(found, f"In 1 of {steps} outer steps some samples missed") is Standing.OPEN


def test_no_history(tiny_fit: Fit) -> None:
    found = learning_claims(replace(tiny_fit, history=()))
    assert said(found, "not convex in θ") is Standing.OPEN
    assert len(found) == 2


def test_the_price_of_parameters_is_told_apart(tiny_fit: Fit) -> None:
    """PSNR is that of the loss alone, and a loss that stands for none is told none."""
    plain = with_last(tiny_fit, value=0.01, corrected=0.01, interval=1e-4, psnr=20.0)
    priced = with_last(tiny_fit, value=0.51, corrected=0.51, interval=1e-4, psnr=20.0, penalty=0.5)
    texts = [
        next(c.text for c in learning_claims(fit) if "training loss" in c.text)
        for fit in (plain, priced)
    ]
    assert "penalty of θ 0.5" in texts[1]
    assert texts[0].partition(": ")[2] == texts[1].partition(": ")[2] != ""
    weighted = with_last(plain, psnr=math.nan)
    assert said(learning_claims(weighted), "0.01 ±") is Standing.PROVED
    assert all("nan" not in c.text for c in learning_claims(weighted))

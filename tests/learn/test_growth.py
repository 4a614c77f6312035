"""Whether a history tells by itself that the loss fell."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

import bilevel as bl
from bilevel.learn import Record
from bilevel.learn.algorithms import ISGD
from bilevel.learn.growth import told

TENTH = 10
History = list[Record]


def line(batch_size: int) -> Record:
    images, noise = bl.data.embedded_images(size=12)[:2], bl.data.GaussianNoise(0.1)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise)
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    fit = bl.learn(problem, ISGD(batch_size=batch_size), budget=bl.Budget(steps=1))
    return fit.history[-1]


def history(first: float, last: float, *, spread: float = 0.3, count: int = 100) -> History:
    """Batches around ``first`` in the first tenth, and around ``last`` afterwards."""
    template, rng = line(1), torch.Generator().manual_seed(0)
    noise = (spread * torch.randn(count, generator=rng)).tolist()
    values = [(first if k < count // TENTH else last) + off for k, off in enumerate(noise)]
    return [replace(template, value=v, corrected=v, uncertified=0) for v in values]


def changed(lines: History, places: slice, **values: float) -> History:
    lines[places] = [replace(one, **values) for one in lines[places]]
    return lines


def test_many_batches_tell() -> None:
    assert not line(1).whole
    assert told(history(2.0, 1.0))


@pytest.mark.parametrize(
    "silent",
    [
        lambda: history(2.0, 2.0),
        lambda: history(1.0, 2.0),
        lambda: history(2.0, 1.0, spread=3.0),
        lambda: history(2.0, 1.0, count=79),
        lambda: changed(history(2.0, 1.0), slice(-5, -4), uncertified=1),
        lambda: changed(history(2.0, 1.0), slice(2, 3), uncertified=1),
        lambda: changed(history(2.0, 1.0), slice(-5, -4), gradient_norm=math.nan),
        lambda: changed(history(2.0, 1.0), slice(-TENTH, None), corrected=2.1),
        lambda: changed(history(2.0, 1.0), slice(0, TENTH), corrected=0.9),
    ],
    ids=[
        "the same",
        "grown",
        "spread",
        "few",
        "unsolved at the end",
        "unsolved at the beginning",
        "no gradient",
        "loose at the end",
        "loose at the beginning",
    ],
)
def test_what_tells_nothing(silent: Callable[[], History]) -> None:
    assert not told(silent())


def test_of_all_samples_two_lines_are_enough() -> None:
    whole = line(2)
    assert whole.whole
    better = replace(whole, value=0.5 * whole.value, corrected=0.5 * whole.corrected, uncertified=0)
    assert told([whole, better])
    assert not told([better, replace(whole, uncertified=0)])
    assert not told([whole, replace(better, corrected=2 * whole.corrected)])

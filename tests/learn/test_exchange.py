"""Exchanges keep the budget and end where none that the gradient proposes lowers the loss."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

import bilevel as bl

NAME = "fidelity.sampling"
WIDTH, TAKEN = 7, 3


def problem() -> bl.BilevelProblem:
    """Three of seven lines of real images, beside that of frequency zero."""
    images = bl.data.embedded_images(size=8)[:3].double()
    full = bl.operators.FourierMask(torch.ones(8, 8, dtype=torch.float64))
    pairs = bl.data.simulate(images, full, bl.data.GaussianNoise(0.02))
    kept = torch.arange(8)[None] == 0
    fidelity = bl.fidelities.SampledL2(full, torch.full((1, 8), 0.5), kept, 1 + TAKEN)
    tv = bl.regularisers.TotalVariation(0.01, 0.05, learn=("weight",))
    energy = bl.Variational(fidelity, tv + bl.regularisers.Tikhonov(0.01, learn=())).double()
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


def mask(lines: tuple[int, ...]) -> torch.Tensor:
    found = torch.zeros(WIDTH, dtype=torch.float64)
    found[list(lines)] = 1.0
    return found


def test_exchanges_come_near_to_the_best_of_all_masks() -> None:
    p = problem()
    losses = {
        lines: p.value({**p.theta, NAME: mask(lines)}, tol=1e-5)
        for lines in combinations(range(WIDTH), TAKEN)
    }
    ranked = sorted(losses, key=lambda lines: losses[lines])
    start = {**p.theta, NAME: mask(ranked[-1])}
    found = bl.exchanged(p, start, tol=1e-5)
    lines = tuple(found[NAME].nonzero().flatten().tolist())
    assert len(lines) == TAKEN
    assert bool(((found[NAME] == 0) | (found[NAME] == 1)).all())
    assert ranked.index(lines) < len(ranked) / 4
    others = {k: v for k, v in found.items() if k != NAME}
    assert all(torch.equal(v, p.theta[k]) for k, v in others.items())


def test_one_evaluation_changes_nothing() -> None:
    p = problem()
    start = {**p.theta, NAME: mask((0, 1, 2))}
    assert torch.equal(bl.exchanged(p, start, tol=1e-3, evaluations=1)[NAME], start[NAME])


def test_masks_that_are_not_binary_and_names_that_are_none_are_refused() -> None:
    p = problem()
    with pytest.raises(bl.InputError, match="binarised"):
        bl.exchanged(p, p.theta, tol=1e-3)
    with pytest.raises(bl.InputError, match="no mask 'mask'"):
        bl.exchanged(p, p.theta, "mask", tol=1e-3)

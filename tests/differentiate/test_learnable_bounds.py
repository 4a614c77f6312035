"""Proved errors of hypergradients where a blur, a kernel or a sampling mask is learned."""

from __future__ import annotations

import pytest
import torch

from contracts.bounds import Claim, claims
from contracts.learnable import KINDS, problem


def attacked(seeds: range) -> list[Claim]:
    """All claims; none is violated."""
    found: list[Claim] = []
    for seed in seeds:
        known = problem(seed)
        for claim in claims(known, seed):
            kind = list(KINDS)[seed % len(KINDS)]
            assert not claim.violated, (kind, seed, known.case.y.dtype, claim)
            found.append(claim)
    proved = [c for c in found if c.bound < torch.inf and c.error > c.rounding]
    assert len(proved) > 0.3 * len(found)
    tight = torch.tensor([c.bound / c.error for c in proved], dtype=torch.float64)
    assert float(tight.median()) < 1e4  # not true by being huge
    return found


@pytest.mark.parametrize("first", range(0, 20, 4))
def test_bounds_hold(first: int) -> None:
    attacked(range(first, first + 4))


@pytest.mark.long
@pytest.mark.parametrize("first", range(100, 600, 50))
def test_bounds_hold_on_five_hundred_problems(first: int) -> None:
    attacked(range(first, first + 50))

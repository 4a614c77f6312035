"""Covering rows cover, are few, and lose nothing of the product."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from contracts.rows import covering, rows

FACTORS = [range(9), "abcdefghijklm", (10, 20, 30, 40, 50), ("x", "y")]


def test_every_pair_meets_in_few_rows() -> None:
    found = covering(*FACTORS)
    for i, j in combinations(range(len(FACTORS)), 2):
        met = {(row[i], row[j]) for row in found}
        assert met == set(product(FACTORS[i], FACTORS[j]))
    assert len(found) <= 1.1 * 9 * 13
    assert found == covering(*FACTORS)


def test_every_value_occurs_evenly() -> None:
    found = covering(range(9), "xyz", strength=1)
    assert sorted(row[0] for row in found) == list(range(9))
    assert all(sum(row[1] == v for row in found) == 3 for v in "xyz")


@pytest.mark.parametrize("strength", [1, 2])
def test_the_rest_is_long(strength: int) -> None:
    params = rows(*FACTORS, strength=strength)
    assert [p.values for p in params] == list(product(*FACTORS))
    quick = [p.values for p in params if not p.marks]
    assert sorted(quick, key=str) == sorted(covering(*FACTORS, strength=strength), key=str)

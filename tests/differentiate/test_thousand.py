"""What certificates and hypergradients claim encloses the truth on a thousand random problems."""

from __future__ import annotations

import pytest

from contracts.enclosed import Check
from contracts.thousand import COUNTS, LEAST, share, summary, tried

BLOCK = 20
FEW = {
    "smooth": (13, 70, 119),
    "learned operator": (0, 9),
    "composite": (2, 7, 12, 27),
    "exact": (1,),
    "wide": (2,),
    "wells": (6,),
}


def test_claims_are_violated_where_they_are_false() -> None:
    assert Check("distance", "here", 1.0, 1.1, 0.0).violated
    assert Check("distance", "here", 1.0, float("nan"), 0.0).violated
    assert Check("least curvature", "here", -1.0, -0.9, 1e-3).violated
    assert not Check("distance", "here", 1.0, 1.1, 0.2).violated


@pytest.mark.parametrize("family", FEW)
def test_nothing_false_is_claimed_of_a_few(family: str) -> None:
    found = tried(family, FEW[family])
    assert sum(check.proved for check in found) > 0.5 * len(found)


@pytest.mark.parametrize(
    ("family", "first"), [(f, k) for f, n in COUNTS.items() for k in range(0, n, BLOCK)]
)
def test_nothing_false_is_claimed_of_a_thousand(family: str, first: int) -> None:
    found = tried(family, range(first, min(first + BLOCK, COUNTS[family])))
    print(summary(family, found))
    for (of_family, of), least in LEAST.items():
        if of_family == family:
            assert share(found, of) >= least, of

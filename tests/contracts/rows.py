"""Rows of a product of factors: those that cover every pair, and the rest for long runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations, product
from typing import Any

import pytest

Row = tuple[Any, ...]
Covered = tuple[tuple[int, Any], ...]


def covering(*factors: Iterable[Any], strength: int = 2) -> list[Row]:
    """Rows in which any two values of different factors meet; of ``strength`` 1: every one occurs.

    Greedy and deterministic: a row begins with what is still missing first, and every other
    factor takes the value that covers most (of these the one used least, then the first).
    """
    values = [list(factor) for factor in factors]
    missing = dict.fromkeys(s for row in product(*values) for s in _subsets(row, strength))
    used = {(i, v): 0 for i, column in enumerate(values) for v in column}
    found: list[Row] = []
    while missing:
        chosen = dict(next(iter(missing)))
        for i, column in enumerate(values):
            if i not in chosen:
                chosen[i] = max(column, key=lambda v: (_gain(chosen, i, v, missing), -used[i, v]))
        row = tuple(chosen[i] for i in range(len(values)))
        for subset in _subsets(row, strength):
            missing.pop(subset, None)
        for key in enumerate(row):
            used[key] += 1
        found.append(row)
    return found


def rows(*factors: Iterable[Any], strength: int = 2) -> list[Any]:
    """The whole product for ``parametrize``; what :func:`covering` leaves out is marked long."""
    values = [list(factor) for factor in factors]
    quick = set(covering(*values, strength=strength))
    return [
        pytest.param(*row, marks=() if row in quick else pytest.mark.long)
        for row in product(*values)
    ]


def _subsets(row: Row, strength: int) -> Iterator[Covered]:
    return combinations(enumerate(row), strength)


def _gain(chosen: dict[int, Any], factor: int, value: Any, missing: dict[Covered, None]) -> int:
    """How many missing subsets of two values or fewer a value would complete."""
    alone = ((factor, value),) in missing
    pairs = (tuple(sorted([(i, v), (factor, value)], key=_place)) for i, v in chosen.items())
    return int(alone) + sum(pair in missing for pair in pairs)


def _place(entry: tuple[int, Any]) -> int:
    return entry[0]

"""The list of long tests names tests that exist."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LISTED = (ROOT / "tests" / "long.txt").read_text().splitlines()
NAMES = sorted({entry.removesuffix(" /2").partition("[")[0] for entry in LISTED})


def test_the_list_is_in_order() -> None:
    assert sorted(set(LISTED)) == LISTED


@pytest.mark.parametrize(
    "name", sorted({entry.removesuffix(" /2").partition("[")[0] for entry in LISTED})
)
def test_what_is_listed_is_there(name: str) -> None:
    file, *parts = name.split("::")
    body: list[ast.stmt] = ast.parse((ROOT / file).read_text()).body
    for part in parts:
        found = [
            n for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == part
        ]
        if not found:
            assert "Test" in parts[0], name  # inherited from a contract
            return
        body = found[0].body

"""What every test shares: a fixed seed, deterministic hypothesis.

One thread a worker, or OMP_NUM_THREADS where that is set.
Nothing is compiled on the way, except where a test asks for it: results would depend on time.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import settings

os.environ.setdefault("BILEVEL_COMPILE", "never")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
settings.register_profile("bilevel", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("bilevel")


LONG = (Path(__file__).parent / "long.txt").read_text().splitlines()
"""Tests that take seconds and try what shorter ones try too: with all rows, one [row] or, by /2,
every second one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rows = Counter[str]()
    for item in items:
        name = item.nodeid.partition("[")[0]
        rows[name] += 1
        listed = item.nodeid in LONG or name in LONG
        if listed or (f"{name} /2" in LONG and rows[name] % 2 == 0):
            item.add_marker(pytest.mark.long)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def external_data() -> Path:
    """The folder of the larger image sets; a test that needs it is skipped where there is none."""
    from bilevel.data import find_data

    folder = find_data()
    if folder is None:
        pytest.skip("needs the larger image sets: set BILEVEL_DATA to their folder")
    return folder

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from bilevel.report.provenance import pretty, versions

CONFIGURATION = {
    "title": "demo",
    "data": {"images": "/home/someone/pictures/bsds500", "sigma": 0.1, "crops": None},
    "model": {"learn": ["weight", "smoothing"], "deep": {"on": True, "size": 3}},
}


def test_reads_as_toml() -> None:
    assert pretty(CONFIGURATION).splitlines() == [
        'title = "demo"',
        "",
        "[data]",
        'images = "…/bsds500"',
        "sigma = 0.1",
        'crops = "none"',
        "",
        "[model]",
        'learn = ["weight", "smoothing"]',
        "",
        "[model.deep]",
        "on = true",
        "size = 3",
    ]


@pytest.mark.parametrize("path", ["/a/b/c", "C:\\a\\b\\c", "~/b/c", Path("/a/b/c")])
def test_places_are_left_out(path: object) -> None:
    assert pretty({"a": path}) == 'a = "…/c"'
    assert pretty({"a": [{"b": path}]}) == 'a = [{ b = "…/c" }]'


def test_relative_paths_stay() -> None:
    assert pretty({"a": "data/bsd68"}) == 'a = "data/bsd68"'
    assert pretty({}) == ""


def test_versions_name_what_computes_and_not_the_machine() -> None:
    found = versions()
    assert found["PyTorch"] == torch.__version__
    assert found["Python"] == platform.python_version()
    assert found["bilevel"][0].isdigit()
    assert set(found) == {"bilevel", "PyTorch", "NumPy", "SciPy", "Python", "platform"}

"""``bilevel noise``: what pictures show, in the numbers of the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bilevel import data
from cli.test_cases import CASES
from cli.tiny import Run


def test_the_stack_of_a_microscope(run: Run) -> None:
    """Gain 1; the dark value is offset - read_noise²/gain = 96."""
    outcome = run("noise", CASES / "mito stack µ.tif", "--json")
    assert outcome.code == 0
    found = json.loads(outcome.out)
    assert list(found) == [f"mito stack µ.tif#{k}" for k in range(1, 6)]
    assert all(one["white"] for one in found.values())
    said = [one["grows"] for one in found.values() if one["grows"] is not None]
    assert said
    for growth in said:
        assert growth["gain"] == pytest.approx(1.0, rel=0.15)
        assert growth["dark"] == pytest.approx(96, abs=3)


def test_correlated_noise_is_said_to_be(run: Run) -> None:
    outcome = run("noise", CASES / "corr.npy")
    assert outcome.code == 0
    assert "no: neighbours" in outcome.out
    (found,) = json.loads(run("noise", CASES / "corr.npy", "--json").out).values()
    assert found["white"] is False
    assert found["grows"] is None
    assert found["flat"] == pytest.approx(0.1, rel=0.35)


def test_levels_are_in_the_numbers_of_the_file(run: Run, tmp_path: Path) -> None:
    x = data.embedded_image("camera")[0, 0, :128, :128].double()
    y = 255 * (0.8 * x + 0.1) + 8 * torch.randn(
        x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    eight = y.round().clamp(0, 255).numpy().astype(np.uint8)
    Image.fromarray(eight).save(tmp_path / "eight.png")
    np.save(tmp_path / "floats.npy", eight.astype(np.float64))
    outcome = run("noise", tmp_path / "eight.png", tmp_path / "floats.npy", "--json")
    one, two = json.loads(outcome.out).values()
    assert one["level"] == pytest.approx(8, rel=0.2)
    assert two["level"] == pytest.approx(one["level"], rel=1e-6)


def test_bad_pictures_are_refused(run: Run, tmp_path: Path) -> None:
    assert "there is no such file" in run("noise", tmp_path / "no.png").refused()
    (tmp_path / "broken.tif").write_bytes(b"II*\0nothing")
    assert "cannot read" in run("noise", tmp_path / "broken.tif").refused()
    assert "complex" in run("noise", CASES / "ksp.npy").refused()

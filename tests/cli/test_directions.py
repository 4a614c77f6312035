"""Directions of a picture: found, and used by the other commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import bilevel as bl
from cli.tiny import Run

SIDE = 32


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Stripes under 30 degrees."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    across = rows * np.cos(np.pi / 6) - columns * np.sin(np.pi / 6)
    bl.data.save_image(tmp_path / "stripes.png", 0.5 + 0.3 * (0.8 * across).sin())
    return tmp_path / "stripes.png"


def test_maps_are_those_of_python(picture: Path, run: Run, tmp_path: Path) -> None:
    assert run("directions", picture, "--out", tmp_path / "maps", "--convex").code == 0
    image = bl.data.load_image(picture, dtype=torch.float64)
    maps = bl.directional_maps(image, exponents=(1.0, 2.0))
    for name in ("angle", "anisotropy", "exponent"):
        assert np.array_equal(np.load(tmp_path / "maps" / f"{name}.npy"), getattr(maps, name)[0])
    angle = np.load(tmp_path / "maps" / "angle.npy")[SIDE // 2, SIDE // 2]
    assert abs(angle % 180 - 30) < 3


def test_a_factor_of_their_weights_is_chosen(picture: Path, run: Run, tmp_path: Path) -> None:
    run("directions", picture, "--out", tmp_path / "maps", "--convex", "--sigma", "5/255")
    y = bl.data.load_image(picture)
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "noisy.npy", (y + 0.1 * noise)[0, 0].numpy())
    errors: dict[str, float] = {}
    for name in ("directional", "isotropic"):
        table = ("--config", tmp_path / "maps" / "directions.toml")
        options = table if name == "directional" else ()
        given = ("--sigma", "0.1", "--rule", "discrepancy", "--out", tmp_path / name)
        assert run("select", tmp_path / "noisy.npy", *options, *given).code in (0, 3)
        x = torch.from_numpy(np.load(tmp_path / name / "noisy.npy"))
        errors[name] = float((x - y[0, 0]).square().mean())
        weight = json.loads((tmp_path / name / "choices.json").read_text())
        assert weight
    assert errors["directional"] < errors["isotropic"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--sigma", "five"), "--sigma must be a number or a quotient"),
        (("--sigma", "-1"), "sigma"),
        (("--window", "4"), "window"),
        (("--wide", "99"), "wide"),
    ],
)
def test_what_does_not_fit(
    options: tuple[str, ...], says: str, picture: Path, run: Run, tmp_path: Path
) -> None:
    assert says in run("directions", picture, "--out", tmp_path / "maps", *options).refused()
    assert not (tmp_path / "maps").exists()

"""The commands on the same pictures in other units of grey values."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bilevel as bl
from cli.tiny import Run

UNITS = {"1e-6": (1e-6, 0.0), "65535": (65535.0, 0.0), "hounsfield": (4000.0, -1000.0)}
CONFIGURATION = """\
precision = "float64"

[data]
images = "pictures"

[operator]
name = "identity"

[noise]
name = "gaussian"
sigma = {sigma}

[regulariser]
name = "total-variation"

[budget]
steps = 4
"""


def written(folder: Path, factor: float, offset: float) -> Path:
    """Two pictures as NPY, their values from black to white, and a configuration."""
    (folder / "pictures").mkdir(parents=True)
    image = bl.data.embedded_image(bl.data.embedded_names()[0], grey=True)[0, 0].double()
    for k in range(2):
        crop = image[60 * k + 40 :, 60 * k + 40 :][:24, :24]
        crop = (crop - crop.min()) / (crop.max() - crop.min())
        np.save(folder / "pictures" / f"{k}.npy", (factor * crop + offset).numpy())
    (folder / "config.toml").write_text(CONFIGURATION.format(sigma=0.08 * factor))
    return folder / "config.toml"


def noisy(folder: Path, factor: float, offset: float) -> Path:
    """Data to choose a weight for."""
    crop = torch.from_numpy(np.load(folder / "pictures" / "0.npy"))
    noise = torch.randn(crop.shape, generator=torch.Generator().manual_seed(0)).double()
    np.save(folder / "noisy.npy", (crop + 0.08 * factor * noise).numpy())
    return folder / "noisy.npy"


def outcome(run: Run, folder: Path, factor: float, offset: float) -> dict[str, Any]:
    """What learning, evaluating and choosing report."""
    config, fit, chosen = written(folder, factor, offset), folder / "fit", folder / "chosen"
    learned = run("learn", config, "--out", fit)
    assert learned.code == 0, learned
    assert "PSNR and SSIM for a peak of" in learned.out
    result = run("evaluate", fit, "--images", folder / "pictures", "--out", folder / "evaluation")
    assert result.code == 0, result
    text = (folder / "evaluation" / "evaluation.csv").read_text()
    table = list(csv.DictReader(text.splitlines()))[-1]
    assert table["solve"] == "2 of 2 certified"
    assert float(table["peak"]) == pytest.approx(factor)
    data = noisy(folder, factor, offset)
    result = run("select", data, "--sigma", 0.08 * factor, "--out", chosen)
    assert result.code == 0, result
    numbers = json.loads((chosen / "choices.json").read_text())
    choice = numbers["images"]["noisy.npy"]["sure"]
    assert choice["outcome"] == "FOUND"
    about = json.loads((fit / "fit.json").read_text())
    return {
        "psnr": float(table["psnr_after"]),
        "ssim": float(table["ssim_after"]),
        "learning": about["cost"]["gradient_evaluations"],
        "weight": choice["weight"] / factor,
        "choosing": numbers["rules"]["sure"]["cost"]["gradient_evaluations"],
    }


@pytest.mark.parametrize(
    "unit", ["65535", *(pytest.param(u, marks=pytest.mark.long) for u in ("1e-6", "hounsfield"))]
)
def test_commands_do_not_depend_on_the_unit(run: Run, tmp_path: Path, unit: str) -> None:
    expected = outcome(run, tmp_path / "unit", 1.0, 0.0)
    found = outcome(run, tmp_path / "other", *UNITS[unit])
    assert found["psnr"] == pytest.approx(expected["psnr"], abs=0.01)
    assert found["weight"] == pytest.approx(expected["weight"], rel=0.02)
    for work in ("learning", "choosing"):
        assert found[work] == pytest.approx(expected[work], rel=0.2)
    if unit != "hounsfield":  # SSIM compares means
        assert found["ssim"] == pytest.approx(expected["ssim"], abs=1e-3)

"""What was learned before, in another configuration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import bilevel as bl
from bilevel.cli.config import read
from bilevel.ground.theta import learnable
from bilevel.model.term import parts_of
from cli.tiny import CONFIGURATION, Run

HEAD, _, REST = CONFIGURATION.partition("[regulariser]")
TAIL = REST[REST.index("[budget]") :]


def written(table: str, folder: Path) -> Path:
    path = folder / "next.toml"
    path.write_text(f"{HEAD}[regulariser]\n{table}\n{TAIL}")
    return path


def test_it_is_that_of_the_fit(fit: Path, tmp_path: Path) -> None:
    x = torch.rand(1, 1, 16, 16)
    saved = bl.load(fit).energy
    assert isinstance(saved, bl.Variational)
    before = parts_of(saved.regulariser)[0]
    table = f'name = "learned"\nfit = "{fit}"\nlearn = true'
    energy = read(written(table, tmp_path)).configuration.energy((1, 16, 16))
    assert torch.equal(energy.regulariser(x), before(x))
    assert set(learnable(energy)) == {"regulariser.log_weight", "regulariser.log_smoothing"}


def test_two_numbers_carry_it_over(fit: Path, run: Run, tmp_path: Path) -> None:
    of = f'[regulariser.of]\nname = "learned"\nfit = "{fit}"'
    path = written(f'name = "rescaled"\n{of}', tmp_path)
    assert run("learn", path, "--out", tmp_path / "next").code in (0, 3)
    found = bl.load(tmp_path / "next")
    assert set(found.theta) == {"regulariser.log_weight", "regulariser.log_scale"}
    np.save(tmp_path / "y.npy", np.full((16, 16), 0.5))
    arguments = ("reconstruct", tmp_path / "next", tmp_path / "y.npy", "--out", tmp_path / "x")
    assert run(*arguments).code in (0, 3)


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_what_is_no_fit(folder: str, run: Run, tmp_path: Path) -> None:
    path = written(f'name = "learned"\nfit = "{folder}"\n[ridge]\nlearn = true', tmp_path)
    refused = run("check", path).refused()
    assert "regulariser.fit" in refused

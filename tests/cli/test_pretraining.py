"""The table [pretrain]: what learning starts from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import bilevel as bl
from cli.tiny import CONFIGURATION, Run

NETWORK = """[regulariser]
name = "ridge-regulariser"
channels = [2]
size = 3
"""
DENOISING = CONFIGURATION.replace('"gaussian-blur"\nsize = 3\nsigma = 0.7', '"identity"')
HEAD, _, REST = DENOISING.partition("[regulariser]")
TAIL = REST[REST.index("[ridge]") :]


def written(tables: str, folder: Path, steps: int = 0) -> Path:
    path = folder / "own.toml"
    tail = TAIL.replace("steps = 2", f"steps = {steps}")
    path.write_text(f"{HEAD}{NETWORK}\n{tables}\n{tail}")
    return path


MATCHING = 'name = "score-matching"\nsteps = 3\nsize = 12'
THEN = '[pretrain.then]\nname = "scalar-fit"\nnames = ["log_weight"]\nsteps = 1'


def test_without_steps_the_fit_is_what_was_trained(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "fit"
    assert run("learn", written(f"[pretrain]\n{MATCHING}", tmp_path), "--out", out).code in (0, 3)
    fit, before = bl.load(out), bl.load(out / "pretrained")
    assert len(before.history) == 4
    own = dict(fit.energy.named_parameters())
    assert all(torch.equal(own[name], value) for name, value in before.theta.items())


def test_learning_goes_on_from_what_was_trained(run: Run, tmp_path: Path) -> None:
    """And the second training from the first; a fit that goes on is not trained again."""
    first: dict[str, float] = {}
    for name, tables in (("plain", ""), ("trained", f"[pretrain]\n{MATCHING}\n{THEN}")):
        out = tmp_path / name
        assert run("learn", written(tables, tmp_path, steps=1), "--out", out).code in (0, 3)
        first[name] = bl.load(out).history[0].value
    assert first["trained"] < first["plain"]
    outcome = run("learn", tmp_path / "own.toml", "--out", out, "--resume")
    assert outcome.code in (0, 3)
    assert "training before learning" not in outcome.err
    assert len(bl.load(out).history) == 3
    _forget(out / "fit.json", "memory")
    assert run("learn", tmp_path / "own.toml", "--out", out, "--resume").code in (0, 3)


def _forget(path: Path, key: str) -> None:
    """As a version wrote it that did not have the option of [pretrain] yet."""
    fit = json.loads(path.read_text())
    del fit["configuration"]["pretrain"][key]
    path.write_text(json.dumps(fit))


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('name = "score-matching"', "needs a limit; add e.g. seconds = 60"),
        ('name = "score"\nsteps = 1', "unknown pretrain"),
        ('name = "score-matching"\nsteps = 1\ndecay = 2.0', "pretrain.decay"),
        ('name = "scalar-fit"\nsteps = 1\nnames = ["nothing"]', "pretrain"),
        ('name = "score-matching"\nsteps = 1\n[criterion]\nname = "sure"', "clean images"),
    ],
)
def test_what_does_not_fit(table: str, says: str, run: Run, tmp_path: Path) -> None:
    path = written(f"[pretrain]\n{table}", tmp_path)
    outcome = run("learn", path, "--out", tmp_path / "fit")
    assert outcome.code == 2
    assert says in outcome.err.splitlines()[-1]


def test_races_start_from_what_is_given(run: Run, tmp_path: Path) -> None:
    path = written('[pretrain]\nname = "score-matching"\nsteps = 1', tmp_path, steps=2)
    arguments = ("race", path, "--algorithms", "maid", "--out", tmp_path / "race")
    assert "pretrain" in run(*arguments).refused()

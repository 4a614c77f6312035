"""Algorithms and searches from their table in a configuration to the saved fit and its page."""

from __future__ import annotations

from pathlib import Path

import pytest

import bilevel as bl
from cli.tiny import CONFIGURATION, Run

BOX = 'box = { "regulariser.terms.0.log_weight" = [-6, -1] }'
TABLES = {
    "hoag": 'schedule = { name = "polynomial", power = 3.0 }',
    "gauss-newton": "damping = 0.1",
    "dynamic-sampling": "first = 2\ngrowth = 1.5",
    "torch": 'optimiser = "Rprop"\nlr = 0.1',
    "grid": f"points = 6\n{BOX}",
    "random": f"trials = 4\n{BOX}",
    "optuna": f"trials = 4\n{BOX}",
    "dfo-ls": "last_radius = 0.1",
}


def written(table: str, folder: Path) -> Path:
    path = folder / "one.toml"
    path.write_text(CONFIGURATION.replace("[budget]", f"[algorithm]\n{table}\n[budget]"))
    return path


@pytest.mark.parametrize("name", TABLES)
def test_learned_saved_and_shown(name: str, run: Run, tmp_path: Path) -> None:
    path = written(f'name = "{name}"\n{TABLES[name]}', tmp_path)
    outcome = run("learn", path, "--out", tmp_path / "fit")
    assert outcome.code == 0, outcome
    fit = bl.load(tmp_path / "fit")
    assert len(fit.history) > 1
    assert fit.history[-1].value <= fit.history[0].value
    page = (tmp_path / "fit" / "report.html").read_text(encoding="utf-8")
    without = name in ("grid", "random", "optuna", "dfo-ls")
    assert ("No hypergradient was computed" in page) is without


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('name = "torch"\noptimiser = "Adm"', "did you mean 'Adam'"),
        ('name = "grid"', "box"),
        ('name = "grid"\nbox = { a = [1.0, 0.0] }', "low < high"),
        (f'name = "grid"\npoints = 1\n{BOX}', "points"),
        ('name = "grid"\nbox = { "regulariser.weight" = [0.0, 1.0] }', "terms.0.log_weight"),
        ('name = "dfo-ls"\nlast_radius = 2.0', "last_radius < radius"),
    ],
)
def test_what_does_not_fit_is_told(table: str, message: str, run: Run, tmp_path: Path) -> None:
    outcome = run("learn", written(table, tmp_path), "--out", tmp_path / "fit")
    assert outcome.code == 2
    assert message in outcome.err

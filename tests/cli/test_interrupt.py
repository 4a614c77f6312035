"""Ctrl-C ends learning with a fit that is saved and usable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.cli import learning
from bilevel.cli.reconstruction import Reconstructor
from bilevel.ground.errors import InputError
from cli.tiny import CONFIGURATION, Run

ENDLESS = CONFIGURATION.replace("steps = 2", "seconds = 600").replace(
    "[budget]", '[algorithm]\nname = "projected-gradient"\nstep_size = 1e-3\n[budget]'
)


# SIGINT is ignored by programs that were started in the background.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from bilevel.cli import main
sys.exit(main())
"""


def start(tmp_path: Path) -> subprocess.Popen[str]:
    """A run that would take ten minutes, two steps after its start."""
    (tmp_path / "long.toml").write_text(ENDLESS)
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", PROGRAM),
            *("learn", str(tmp_path / "long.toml"), "--out", str(tmp_path / "fit")),
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.split()[0] == "2":
            return process
    raise AssertionError("the run ended before its second step")


def test_interrupt_leaves_a_usable_fit(tmp_path: Path) -> None:
    process = start(tmp_path)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted after" in said
    assert "Traceback" not in said
    fit = bl.load(tmp_path / "fit")
    assert len(fit.history) >= 3
    assert fit.reason == "interrupted"
    assert bool(fit.reconstruct(torch.rand(1, 1, 16, 16)).converged.all())
    assert fit.configuration["budget"] == {"seconds": 600.0}


def test_a_killed_run_leaves_a_fit_that_can_be_evaluated(tmp_path: Path) -> None:
    process = start(tmp_path)
    process.kill()
    process.communicate(timeout=30)
    reconstructor = Reconstructor.load(tmp_path / "fit", 1e-3)
    assert reconstructor.configuration.operator.smallest == 3
    copied = tmp_path / "fit" / "config.toml"
    copied.write_text(copied.read_text().replace("weight = 0.02", "weight = 0.03"))
    with pytest.raises(InputError, match="not what the fit"):
        Reconstructor.load(tmp_path / "fit", 1e-3)


def test_interrupt_while_the_report_is_made_keeps_the_fit(
    run: Run, configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(learning, "learning_page", interrupted)
    outcome = run("learn", configuration, "--out", tmp_path / "fit")
    assert outcome.code == 130
    assert outcome.err.splitlines()[-1].endswith("its report is not written")
    assert len(bl.load(tmp_path / "fit").history) == 3
    assert not (tmp_path / "fit" / "report.html").exists()


def test_a_fit_that_diverged_is_saved_and_not_called_one(
    run: Run, configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def infinite(self: object, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.full((len(x),), torch.inf, dtype=x.dtype)

    monkeypatch.setattr(bl.losses.SquaredError, "value", infinite)
    outcome = run("learn", configuration, "--out", tmp_path / "fit")
    assert outcome.code == 3
    assert "loss or gradient are no longer finite; " in outcome.err
    assert bl.load(tmp_path / "fit").theta

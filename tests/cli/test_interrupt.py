"""Ctrl-C ends learning with a fit that is saved and usable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import torch
from cli.tiny import CONFIGURATION

import bilevel as bl


def start(tmp_path: Path, text: str) -> subprocess.Popen[str]:
    (tmp_path / "long.toml").write_text(text)
    return subprocess.Popen(
        [
            *(sys.executable, "-c", "import sys; from bilevel.cli import main; sys.exit(main())"),
            *("learn", str(tmp_path / "long.toml"), "--out", str(tmp_path / "fit")),
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_interrupt_leaves_a_usable_fit(tmp_path: Path) -> None:
    endless = CONFIGURATION.replace("steps = 2", "seconds = 600")
    endless = endless.replace(
        "[budget]", '[algorithm]\nname = "projected-gradient"\nstep_size = 1e-3\n[budget]'
    )
    process = start(tmp_path, endless)
    assert process.stderr is not None
    for line in process.stderr:
        if line.split()[0] == "2":
            break
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
    endless = CONFIGURATION.replace("steps = 2", "seconds = 600")
    endless = endless.replace(
        "[budget]", '[algorithm]\nname = "projected-gradient"\nstep_size = 1e-3\n[budget]'
    )
    process = start(tmp_path, endless)
    assert process.stderr is not None
    for line in process.stderr:
        if line.split()[0] == "2":
            break
    process.kill()
    process.communicate(timeout=30)
    from bilevel.cli.reconstruction import Reconstructor

    reconstructor = Reconstructor.load(tmp_path / "fit", 1e-3)
    assert reconstructor.configuration.operator.smallest == 3

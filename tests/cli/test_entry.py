"""Ways in, and what a newcomer may give there: one sentence and an exit code, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cli.tiny import CONFIGURATION, Run

CASES = Path(__file__).parent.parent / "data" / "cases"


def test_python_runs_the_package() -> None:
    arguments = [sys.executable, "-m", "bilevel", "--version"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("bilevel ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\nx / 0\n", "line 2: ZeroDivisionError"),
        ("import sys\nsys.exit(0)\n", "line 2: SystemExit"),
        ("import no_such_package\n", "line 1: ModuleNotFoundError"),
        ("def (\n", "line 1: invalid syntax"),
        ("\0", "null bytes"),
    ],
)
def test_a_file_that_cannot_be_imported(text: str, words: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(text)
    assert words in run("list", "operators", "--import", tmp_path / "parts.py").refused()


@pytest.mark.parametrize("digits", [40, 400, 4000])
def test_budgets_of_many_digits(digits: int, run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CONFIGURATION)
    arguments = ("race", tmp_path / "c.toml", "--algorithms", "nope", "--out", tmp_path / "out")
    said = run(*arguments, "--budget-steps", "9" * digits).refused()
    assert "must be a number, but got one beyond 2^63" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--rule", "sure:probes=1000000000000"), "from 1 to 1000 probes"),
        (("--regulariser", "ridge-regulariser:size=1001"), "less than or equal to 64"),
        (("--sigma", "1e30"), "must lie between"),
        (("--span", "1e-300,1e300"), "within 1e-18 and 1e+18"),
    ],
)
def test_numbers_that_no_machine_holds(
    options: tuple[str, ...], words: str, run: Run, tmp_path: Path
) -> None:
    np.save(tmp_path / "y.npy", np.random.default_rng(0).random((16, 16)))
    sigma = () if "--sigma" in options else ("--sigma", "0.1")
    said = run("select", tmp_path / "y.npy", *sigma, *options, "--out", tmp_path / "out").refused()
    assert words in said


def test_correlated_noise_is_told_of_with_the_level_assumed(run: Run, tmp_path: Path) -> None:
    outcome = run("select", CASES / "corr.npy", "--out", tmp_path / "out")
    assert outcome.code == 3
    assert "the noise is not white" in outcome.err
    assert "sigma = 0.0292 estimated" in outcome.err


def test_a_kernel_that_does_not_sum_to_one_is_told_of(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.random.default_rng(0).random((16, 16)))
    (tmp_path / "c.toml").write_text('[operator]\nname = "convolution"\nkernel = [[0.5, 0.2]]\n')
    options = ("--sigma", "0.1", "--rule", "discrepancy", "--span", "0.1,1")
    arguments = ("--config", tmp_path / "c.toml", *options, "--out", tmp_path / "out")
    assert "sums to 0.7" in run("select", tmp_path / "y.npy", *arguments).err

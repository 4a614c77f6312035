"""What happens to whoever begins: mistakes of the first day, each answered by one true sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from cli.tiny import CONFIGURATION, Run


def test_noise_far_beyond_the_range_of_the_pictures_is_in_another_unit(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(CONFIGURATION.replace('"10/255"', "25"))
    assert path.read_text() != CONFIGURATION
    assert "25/255" in run("learn", path, "--out", tmp_path / "fit").refused()


def test_a_fit_with_a_part_of_ones_own_asks_for_it(run: Run, fit: Path, tmp_path: Path) -> None:
    out = tmp_path / "own"
    shutil.copytree(fit, out)
    written = (out / "fit.json").read_text()
    assert '"TotalVariation"' in written
    (out / "fit.json").write_text(written.replace('"TotalVariation"', '"elsewhere:Vanished"'))
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((16, 16)))
    said = run("reconstruct", out, tmp_path / "a.npy", "--out", tmp_path / "x").refused()
    assert "--import" in said
    assert "damaged" not in said


def test_an_unfinished_fit_is_not_replaced_in_silence(
    run: Run, configuration: Path, tmp_path: Path
) -> None:
    out = tmp_path / "fit"
    run("learn", configuration, "--out", out)
    (out / "report.html").unlink()
    assert "replacing the fit" in run("learn", configuration, "--out", out).err


def test_colour_that_is_taken_as_grey_is_said(run: Run, fit: Path, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    outcome = run("reconstruct", fit, tmp_path / "a.png", "--out", tmp_path / "x")
    assert "colour is taken as grey" in outcome.err


def test_levels_are_named_in_the_numbers_of_the_file(run: Run, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (24, 24)).astype(np.uint8)
    np.save(tmp_path / "a.npy", values)
    said = run("select", tmp_path / "a.npy", "--sigma", "25.5", "--out", tmp_path / "x").refused()
    assert "25.5/255" in said


def test_constant_data_are_told_so(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((24, 24), 0.5))
    outcome = run("select", tmp_path / "a.npy", "--sigma", "0.1", "--out", tmp_path / "x")
    assert outcome.code == 3
    assert "nan" not in outcome.out + outcome.err


def test_a_broken_picture_is_named_without_addresses(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    said = run("select", tmp_path / "a.png", "--sigma", "0.1", "--out", tmp_path / "x").refused()
    assert "0x" not in said


def test_files_that_float32_would_round_are_reconstructed_in_float64(
    run: Run, fit: Path, tmp_path: Path
) -> None:
    values = 1e8 + np.random.default_rng(0).random((16, 16))
    np.save(tmp_path / "a.npy", values)
    run("reconstruct", fit, tmp_path / "a.npy", "--out", tmp_path / "x")
    found = np.load(tmp_path / "x" / "a.npy")
    assert found.dtype == np.float64
    assert len(np.unique(found)) > 100

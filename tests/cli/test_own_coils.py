"""Sensitivities of each sample from a folder: learned from, evaluated, used and chosen for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import bilevel as bl
from cli.tiny import Run

SIZE, COILS, NAMES = (16, 20), 3, ("a", "b", "c")
CONFIGURATION = """\
[data]
measured = "measured"
target = "target"
layout = "coils"
complex = true
count = 2
held_out = 1

[operator]
name = "multi-coil"
sensitivities = "maps"

[regulariser]
name = "total-variation"
weight = 0.01
smoothing = 0.05

[ridge]
weight = 0.01

[budget]
steps = 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three slices, each seen by other coils and on other lines."""
    rng = np.random.default_rng(0)
    for name in ("measured", "target", "maps"):
        (tmp_path / name).mkdir()
    v, u = np.mgrid[-1 : 1 : SIZE[0] * 1j, -1 : 1 : SIZE[1] * 1j]
    for k, name in enumerate(NAMES):
        x = (np.hypot(u, v) < 0.8) * (0.5 + 0.4 * (u > 0.1 * k)) * np.exp(1j * (u + k * v))
        maps = bl.data.birdcage(SIZE, COILS, dtype=torch.complex128).numpy()
        maps = np.roll(maps * np.exp(2j * k * u), k, axis=0)
        seen = (rng.random(SIZE[1]) < 0.6) | (np.abs(np.fft.fftfreq(SIZE[1])) < 0.15)
        y = np.fft.fft2(maps * x, norm="ortho")
        y = y + 0.02 * (rng.normal(size=y.shape) + 1j * rng.normal(size=y.shape))
        np.save(tmp_path / "measured" / f"{name}.npy", (seen * y).astype(np.complex64))
        np.save(tmp_path / "target" / f"{name}.npy", x.astype(np.complex64))
        np.save(tmp_path / "maps" / f"{name}.npy", maps)
    return tmp_path


def written(folder: Path, text: str = CONFIGURATION) -> Path:
    path = folder / "coils.toml"
    path.write_text(text)
    return path


def test_each_sample_is_seen_by_its_own_coils(run: Run, folder: Path) -> None:
    found = run("learn", written(folder), "--out", folder / "fit")
    assert found.code == found.owed, found.err
    fit = bl.load(folder / "fit")
    assert isinstance(fit.energy.fidelity, bl.fidelities.OwnCoils)
    given = ("--measured", folder / "measured", "--target", folder / "target")
    out = run("evaluate", folder / "fit", *given)
    assert out.code == out.owed, out.err
    files = [folder / "measured" / f"{name}.npy" for name in NAMES]
    out = run("reconstruct", folder / "fit", *files, "--layout", "coils", "--out", folder / "x")
    assert out.code == out.owed, out.err
    for name in NAMES:
        x, y, s = (np.load(folder / kind / f"{name}.npy") for kind in ("x", "measured", "maps"))
        z = torch.from_numpy(y)[None]
        seen = (z != 0).any(1, keepdim=True)
        data = fit.energy.fidelity.data(
            torch.cat([z.real, z.imag], 1), torch.from_numpy(s)[None], seen
        )
        expected = torch.complex(*fit.reconstruct(data).x[0]).numpy()
        assert x.shape == SIZE
        np.testing.assert_allclose(x, expected, atol=4e-3)
        truth = np.load(folder / "target" / f"{name}.npy")
        filled = (s.conj() * np.fft.ifft2(y, norm="ortho")).sum(0)
        assert np.abs(x - truth).std() < np.abs(filled - truth).std()


def test_other_sensitivities_make_results_again(run: Run, folder: Path) -> None:
    config = written(folder, CONFIGURATION.replace("steps = 2", "steps = 0"))
    given = ("reconstruct", config, folder / "measured", "--layout", "coils")
    assert run(*given, "--out", folder / "x").code in (0, 3)
    before = np.load(folder / "x" / "b.npy")
    np.save(folder / "maps" / "b.npy", 2 * np.load(folder / "maps" / "b.npy"))
    assert run(*given, "--out", folder / "x").code in (0, 3)
    assert np.abs(np.load(folder / "x" / "b.npy")).max() < 0.8 * np.abs(before).max()


def test_pages_of_a_stack_have_pages_of_sensitivities(run: Run, folder: Path) -> None:
    single = written(folder, CONFIGURATION.replace("steps = 2", "steps = 0"))
    given = ("reconstruct", single, "--layout", "coils")
    run(*given, folder / "measured", "--out", folder / "x")
    for kind in ("measured", "maps"):
        pages = [np.load(folder / kind / f"{name}.npy") for name in NAMES]
        np.save(folder / kind / "stack.npy", np.stack(pages))
    assert run(*given, folder / "measured" / "stack.npy", "--out", folder / "z").code in (0, 3)
    each = np.stack([np.load(folder / "x" / f"{name}.npy") for name in NAMES])
    np.testing.assert_allclose(np.load(folder / "z" / "stack.npy"), each, atol=4e-3)


def test_a_weight_is_chosen_with_them(run: Run, folder: Path) -> None:
    model = folder / "model.toml"
    text = '[operator]\nname = "multi-coil"\nsensitivities = "maps"\n'
    model.write_text(f'{text}[regulariser]\nname = "total-variation"\nsmoothing = 0.05\n')
    options = ("--config", model, "--sigma", "0.02", "--span", "0.002,0.2")
    given = (*options, "--out", folder / "chosen")
    model.write_text(f'[data]\nlayout = "coils"\n{model.read_text()}')
    out = run("select", folder / "measured", *given)
    assert out.code == out.owed, out.err
    assert "not used" not in out.err
    for name in NAMES:
        truth = np.load(folder / "target" / f"{name}.npy")
        assert np.abs(np.load(folder / "chosen" / f"{name}.npy") - truth).std() < 0.12


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "maps/b.npy").unlink(), "no sensitivities for b"),
        (lambda folder: np.save(folder / "maps/b.npy", np.ones((3, 4, 4), complex)), "4x4"),
        (lambda folder: np.save(folder / "maps/b.npy", np.zeros((3, *SIZE), complex)), "zero"),
        (lambda folder: np.save(folder / "maps/b.npy", np.ones((2, *SIZE), complex)), "2 coils"),
        (lambda folder: [p.unlink() for p in (folder / "maps").iterdir()], "no arrays"),
    ],
)
def test_what_is_missing_is_said(change, said: str, run: Run, folder: Path) -> None:
    path = written(folder, CONFIGURATION.replace("count = 2\nheld_out = 1", "count = 3"))
    change(folder)
    assert said in run("learn", path, "--out", folder / "fit").refused()


def test_a_configuration_with_a_folder_is_checked(run: Run, folder: Path) -> None:
    found = run("check", written(folder))
    assert found.code == 0, found
    assert "can be learned from" in found.out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('sensitivities = "maps"\nlearn = ["mask"]', "operator.learn: a mask is learned for coils"),
        (
            'sensitivities = "maps/a.npy"\nlearn = ["mask"]',
            "line 12: operator.learn",
        ),
        (
            'sensitivities = "estimated"\ncoils = 3',
            "line 11: operator.sensitivities",
        ),
    ],
)
def test_what_measured_data_do_not_tell_is_not_learned(
    change: str, said: str, run: Run, folder: Path
) -> None:
    text = CONFIGURATION.replace('sensitivities = "maps"', change)
    assert said in run("learn", written(folder, text), "--out", folder / "fit").refused()
    assert not (folder / "fit").exists()


def test_images_alone_have_no_coils_of_their_own(run: Run, folder: Path) -> None:
    text = CONFIGURATION.replace('measured = "measured"\ntarget = "target"', 'images = "target"')
    text = text.replace('layout = "coils"\n', "")
    noise = '[noise]\nname = "gaussian"\nsigma = 0.02\n'
    assert "go with measured data" in run("check", written(folder, text + noise)).refused()
    both = CONFIGURATION + '[criterion]\nname = "sure"\n' + noise
    assert "one operator for all" in run("check", written(folder, both)).refused()

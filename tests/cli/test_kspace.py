"""Measured k-space and complex images from a configuration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bilevel.learn import load
from cli.test_measured import PAIRS, picture, replaced
from cli.tiny import Run

CENTRED = "fourier-mask:centred=true,norm=backward"


def kspace(x: np.ndarray, seen: np.ndarray, sigma: float = 0.0) -> np.ndarray:
    """As scanners and NumPy have it: centred, without a factor; zeros where it was not sampled."""
    k = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x)))
    rng = np.random.default_rng(0)
    k = k + sigma * x.shape[0] * (rng.normal(size=k.shape) + 1j * rng.normal(size=k.shape))
    return (k * seen).astype(np.complex64)


def lines(side: int, kept: float = 0.58) -> np.ndarray:
    rng = np.random.default_rng(0)
    seen = rng.random(side) < kept
    seen[side // 2 - side // 10 : side // 2 + side // 10] = True
    return seen[None] & np.ones((side, 1), bool)


def psnr(x: np.ndarray, truth: np.ndarray) -> float:
    return float(10 * np.log10(1 / np.mean((x - truth) ** 2)))


def test_kspace_gives_a_complex_image(run: Run, tmp_path: Path) -> None:
    truth = picture(32)
    np.save(tmp_path / "ksp.npy", kspace(truth * np.exp(0.5j), lines(32), 0.02))
    out = tmp_path / "out"
    outcome = run(
        *("select", tmp_path / "ksp.npy", "--operator", CENTRED, "--sigma", 0.02 * 32),
        *("--rule", "discrepancy", "--out", out),
    )
    assert outcome.code == outcome.owed, outcome
    assert "columns of k-space hold data" in outcome.err
    assert "divided by √(h w) = 32" in outcome.err
    x = np.load(out / "ksp.npy")
    assert (x.shape, x.dtype) == ((32, 32), np.complex64)
    zero_filled = np.fft.ifft2(np.fft.ifftshift(np.load(tmp_path / "ksp.npy")))
    assert psnr(np.abs(x), truth) > psnr(np.abs(np.fft.fftshift(zero_filled)), truth) + 2
    assert np.abs(np.angle(x[truth > 0.3])).mean() == pytest.approx(0.5, abs=0.05)
    run(
        *("select", tmp_path / "ksp.npy", "--operator", CENTRED, "--sigma", 0.02 * 32),
        *("--regulariser", "total-variation:coupled=true"),
        *("--rule", "discrepancy", "--out", tmp_path / "coupled"),
    )
    assert np.array_equal(np.load(tmp_path / "coupled" / "ksp.npy"), x)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("fourier-mask:norm=backward", "in the middle, at (16, 16)"),
        (CENTRED, "lies first, at (0, 0)"),
        ("fourier-mask", "Fourier data are complex"),
    ],
)
def test_kspace_of_another_layout_is_noticed(
    options: str, says: str, run: Run, tmp_path: Path
) -> None:
    k = kspace(picture(32), lines(32))
    if "complex" in says:
        k = np.abs(k)
    elif "first" in says:
        k = np.fft.ifftshift(k)
    np.save(tmp_path / "k.npy", k)
    arguments = ("select", tmp_path / "k.npy", "--operator", options, "--sigma", "1")
    assert says in run(*arguments, "--out", tmp_path / "out").refused()


def test_kspace_without_its_operator_is_noticed(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", kspace(picture(32), lines(32)))
    said = run("select", tmp_path / "k.npy", "--sigma", "1", "--out", tmp_path / "out").refused()
    assert "fourier-mask" in said


@pytest.mark.long
def test_kspace_pairs_are_learned_from_and_reconstructed(run: Run, tmp_path: Path) -> None:
    seen = lines(16)
    for kind in ("k", "x"):
        (tmp_path / kind).mkdir()
    for k, name in enumerate("ab"):
        x = picture(16, k) * np.exp(0.5j)
        np.save(tmp_path / "k" / f"{name}.npy", kspace(x, seen, 0.02))
        np.save(tmp_path / "x" / f"{name}.npy", x)
    path = tmp_path / "mri.toml"
    path.write_text(
        PAIRS.replace('"noisy"', '"k"').replace('"sharp"', '"x"\ncomplex = true')
        .replace('"identity"', '"fourier-mask"\ncentred = true\nnorm = "backward"')
        .replace("smoothing = 0.05", "smoothing = 0.05\ncoupled = true\nweight = 0.02")
    )  # fmt: skip
    outcome = run("learn", path, "--out", tmp_path / "fit")
    assert outcome.code == outcome.owed, outcome
    fit = load(tmp_path / "fit")
    assert fit.history[-1].value <= fit.history[0].value
    other = picture(16, 5) * np.exp(0.5j)
    np.save(tmp_path / "new.npy", kspace(other, np.roll(seen, 1, 1) | seen, 0.02))
    outcome = run("reconstruct", tmp_path / "fit", tmp_path / "new.npy", "--out", tmp_path / "o")
    assert outcome.code == outcome.owed, outcome
    x = np.load(tmp_path / "o" / "new.npy")
    assert x.dtype.kind == "c"
    assert psnr(np.abs(x), np.abs(other)) > 20
    sampled = kspace(picture(16, 1) * np.exp(0.5j), np.roll(seen, 1, 1) | seen, 0.02)
    np.save(tmp_path / "k" / "b.npy", sampled)
    outcome = run("learn", path, "--out", tmp_path / "own")
    assert outcome.code == outcome.owed, outcome
    arguments = ("--measured", tmp_path / "k", "--target", tmp_path / "x")
    outcome = run("evaluate", tmp_path / "own", *arguments)
    assert outcome.code == outcome.owed, outcome


@pytest.mark.long
def test_complex_images_are_simulated_from(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    np.save(tmp_path / "x" / "a.npy", picture(16) * np.exp(0.5j))
    path = tmp_path / "mri.toml"
    path.write_text(
        PAIRS.replace('measured = "noisy"\ntarget = "sharp"', 'images = "x"\ncomplex = true')
        .replace('"identity"', '"fourier-mask"\n\n[noise]\nname = "gaussian"\nsigma = 0.01')
    )  # fmt: skip
    outcome = run("learn", path, "--out", tmp_path / "fit")
    assert outcome.code == outcome.owed, outcome
    said = run("check", replaced(path, "complex = true\n", "")).refused()
    assert "set complex = true" in said


@pytest.mark.long
def test_kspace_of_either_norm_gives_the_same_image(run: Run, tmp_path: Path) -> None:
    k = kspace(picture(16) * np.exp(0.5j), lines(16), 0.05).astype(np.complex128)
    np.save(tmp_path / "backward.npy", k)
    np.save(tmp_path / "ortho.npy", k / 16)
    for norm, sigma in (("backward", 0.8), ("ortho", 0.05)):
        outcome = run(
            *("select", tmp_path / f"{norm}.npy", "--sigma", sigma, "--rule", "discrepancy"),
            *("--operator", f"fourier-mask:centred=true,norm={norm}", "--out", tmp_path / "o"),
        )
        assert outcome.code == outcome.owed, outcome
    one, other = (np.load(tmp_path / "o" / f"{norm}.npy") for norm in ("backward", "ortho"))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

"""Inputs from the field (tests/data/cases): nothing is clipped, lost or guessed in silence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import bilevel as bl
from bilevel.cli.settings import operators
from cli.tiny import CONFIGURATION, Run

CASES = Path(__file__).parent.parent / "data" / "cases"
CROP = (slice(40, 72), slice(40, 72))  # of two dimensions: small enough to be quick


def bounded(sigma: float) -> tuple[str, ...]:
    """Options that make choosing quick at any scale of the noise."""
    smoothing = f"total-variation:smoothing={sigma}"
    return (
        *("--rule", "discrepancy", "--span", f"{sigma / 10},{sigma * 10}"),
        *("--regulariser", smoothing),
    )


def cropped(name: str, folder: Path) -> tuple[Path, np.ndarray]:
    """A small part of a case as a file of the same kind."""
    path = folder / name
    if path.suffix == ".npy":
        values = np.load(CASES / name)[(..., *CROP)]
        np.save(path, values)
        return path, values
    with tifffile.TiffFile(CASES / name) as file:
        values, imagej = file.asarray()[(..., *CROP)], bool(file.is_imagej)
    tifffile.imwrite(path, values, imagej=imagej, metadata={"axes": "ZYX"} if imagej else None)
    return path, values


def written(path: Path) -> np.ndarray:
    return np.load(path) if path.suffix == ".npy" else tifffile.imread(path)


@pytest.mark.parametrize(
    ("name", "sigma", "dtype"),
    [
        ("ct_hu.npy", 40, "float64"),
        ("ct_hu_i16.tif", 40, "float32"),
        ("f255.npy", 25, "float32"),
        ("tiny.npy", 5e-8, "float64"),
    ],
)
def test_values_keep_their_units_range_and_type(
    name: str, sigma: float, dtype: str, run: Run, tmp_path: Path
) -> None:
    path, y = cropped(name, tmp_path)
    out = tmp_path / "out"
    run("select", path, "--sigma", sigma, *bounded(sigma), "--out", out)
    x = written(out / name)
    assert x.dtype == dtype
    assert x.shape == y.shape
    # a denoised picture moves by about the noise: no value is clipped, scaled or shifted
    assert np.sqrt(np.mean((x - y) ** 2)) < 1.5 * sigma
    assert x.std() > 0.5 * y.std()


@pytest.mark.long
def test_every_page_of_a_stack_has_its_result(run: Run, tmp_path: Path) -> None:
    path, y = cropped("mito stack µ.tif", tmp_path)
    out = tmp_path / "out"
    operator = "gaussian-blur:size=9,sigma=1.3,boundary=reflecting"
    arguments = ("--operator", operator, "--sigma", "10/65535", *bounded(10 / 65535))
    outcome = run("select", path, *arguments, "--out", out)
    x = written(out / path.name)
    assert x.shape == y.shape == (5, 32, 32)
    assert x.dtype == np.float32
    assert np.sqrt(np.mean((x - y) ** 2)) < 60  # counts, offset and all
    names = [f"{path.name}#{k}" for k in range(1, 6)]
    assert list(json.loads((out / "choices.json").read_text())["images"]) == names
    for word in ("5 pages", "5/65535", "offsets stay in"):
        assert word in outcome.err


def test_a_level_in_other_units_is_refused(run: Run, tmp_path: Path) -> None:
    path, _ = cropped("mito stack µ.tif", tmp_path)
    for sigma in ("2", "1e17"):
        said = run("select", path, "--sigma", sigma, "--out", tmp_path / "out").refused()
        assert "give the level in the units of the data" in said


def test_three_slices_are_not_taken_for_colours(run: Run, tmp_path: Path) -> None:
    path, y = cropped("vol_3.npy", tmp_path)
    out = tmp_path / "out"
    arguments = ("--sigma", "1e-4", *bounded(1e-4), "--out", out)
    assert "may be a stack of slices" in run("select", path, *arguments).refused()
    assert not out.exists()
    run("select", path, "--layout", "stack", *arguments)
    assert written(out / path.name).shape == y.shape
    assert len(json.loads((out / "choices.json").read_text())["images"]) == 3
    run("select", path, "--layout", "colour", *arguments)
    assert written(out / path.name).shape == y.shape
    assert len(json.loads((out / "choices.json").read_text())["images"]) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [((), "take the operator fourier-mask"), (("--operator", "fourier-mask"), "centred = true")],
)
def test_kspace_is_asked_for_without_advice_to_drop_half_of_it(
    options: tuple[str, ...], says: str, run: Run, tmp_path: Path
) -> None:
    said = run("select", CASES / "ksp.npy", *options, "--out", tmp_path / "out").refused()
    assert says in said
    assert "real" not in said


@pytest.mark.long
def test_kspace_gives_a_complex_image(run: Run, tmp_path: Path) -> None:
    operator = "fourier-mask:centred=true,norm=backward"
    out = tmp_path / "out"
    outcome = run(
        "select", CASES / "ksp.npy", "--operator", operator, "--rule", "gcv", "--out", out
    )
    assert outcome.code == 0, outcome
    x = np.load(out / "ksp.npy")
    assert x.dtype == np.complex64
    error = np.mean((np.abs(x) - np.load(CASES / "truth_cam.npy")) ** 2)
    assert 10 * np.log10(1 / error) > 26


def test_a_kernel_in_colour_is_refused(run: Run, tmp_path: Path) -> None:
    taps = np.zeros((5, 5, 3))
    taps[2, 1, 0] = taps[2, 2, 1] = taps[2, 3, 2] = 1.0
    Image.fromarray((255 * taps).astype(np.uint8)).save(tmp_path / "k.png")
    np.save(tmp_path / "y.npy", np.ones((16, 16)))
    given = ("--operator", f"convolution:kernel={tmp_path / 'k.png'}", "--sigma", "0.1")
    said = run("select", tmp_path / "y.npy", *given, "--out", tmp_path / "x").refused()
    assert "k.png has 3 that differ" in said


def test_a_measured_kernel_is_read_and_normalised(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "y.npy"
    np.save(path, np.load(CASES / "f255.npy")[CROP] / 255)
    out = tmp_path / "out"
    arguments = ("--sigma", "0.1", *bounded(0.1), "--out", out)
    operator = f"convolution:kernel={CASES / 'psf16.tif'},boundary=reflecting"
    outcome = run("select", path, "--operator", operator, *arguments)
    assert "16x16 pixels with centre (8, 8), divided by its sum" in outcome.err
    assert "warning" not in outcome.err
    used = json.loads((out / "choices.json").read_text())["configuration"]["operator"]["kernel"]
    raw = tifffile.imread(CASES / "psf16.tif").astype(float)
    np.testing.assert_allclose(np.array(used), raw / raw.sum(), rtol=1e-12)
    (tmp_path / "shifted.toml").write_text(
        '[operator]\nname = "convolution"\nkernel = "shifted.npy"\n'
    )
    np.save(tmp_path / "shifted.npy", np.roll(raw, 3, 1))
    outcome = run("select", path, "--config", tmp_path / "shifted.toml", *arguments)
    assert "warning: the mass of shifted.npy lies around" in outcome.err
    np.save(tmp_path / "shifted.npy", -raw)
    said = run("select", path, "--config", tmp_path / "shifted.toml", *arguments).refused()
    assert "shifted.toml, line 3: operator.kernel: the values" in said


def test_a_mask_is_read_from_a_picture(run: Run, tmp_path: Path) -> None:
    file = operators.Mask(file=str(CASES / "mask.png"))
    assert int((file.build((1, 128, 128)).mask == 0).sum()) == 3
    seen = np.where(np.random.default_rng(0).random((32, 32)) < 0.7, 255, 0).astype(np.uint8)
    Image.fromarray(seen).save(tmp_path / "mask.png")
    truth = np.load(CASES / "truth_cam.npy")[CROP]
    np.save(tmp_path / "y.npy", np.where(seen > 0, truth, 0))
    out = tmp_path / "out"
    arguments = ("--sigma", "0.02", *bounded(0.02), "--out", out)
    operator = f"mask:file={tmp_path / 'mask.png'}"
    run("select", tmp_path / "y.npy", "--operator", operator, *arguments)
    x = np.load(out / "y.npy")
    hidden = seen == 0
    assert np.mean((x - truth)[hidden] ** 2) < 0.2 * np.mean(truth[hidden] ** 2)
    for options, word in (
        (",seed=3", "read from a file or drawn"),
        ("x", "mask.pngx; images end in"),
    ):
        operator = f"mask:file={tmp_path / 'mask.png'}{options}"
        said = run("select", tmp_path / "y.npy", "--operator", operator, *arguments).refused()
        assert word in said
    np.save(tmp_path / "small.npy", truth[:20])
    operator = f"mask:file={tmp_path / 'mask.png'}"
    said = run("select", tmp_path / "small.npy", "--operator", operator, *arguments).refused()
    assert "the mask is for images of 32x32 pixels, but got an image of 20x32" in said


@pytest.mark.long
def test_a_fit_with_a_mask_from_a_file_is_learned_and_used(run: Run, tmp_path: Path) -> None:
    Image.fromarray((np.indices((20, 24)).sum(0) % 3 > 0).astype(np.uint8) * 255).save(
        tmp_path / "mask.png"
    )
    (tmp_path / "pictures").mkdir()
    for k in range(2):
        x = torch.rand(1, 20, 24, generator=torch.Generator().manual_seed(k))
        bl.data.save_image(tmp_path / "pictures" / f"{k}.png", x)
    blur = 'name = "gaussian-blur"\nsize = 3\nsigma = 0.7'
    text = CONFIGURATION.replace(blur, 'name = "mask"\nfile = "mask.png"')
    text = text.replace('images = "embedded"\nsize = 16', 'images = "pictures"')
    text = text.replace("count = 2\nheld_out = 1", "count = 1")
    (tmp_path / "one.toml").write_text(text)
    assert run("learn", tmp_path / "one.toml", "--out", tmp_path / "fit").code == 0
    arguments = ("reconstruct", tmp_path / "fit", tmp_path / "pictures" / "0.png")
    assert run(*arguments, "--out", tmp_path / "out").code == 0


def test_reconstruct_keeps_pages_units_and_layout(run: Run, fit: Path, tmp_path: Path) -> None:
    y = (1000 * np.random.default_rng(0).random((2, 16, 20))).astype(np.int16)
    tifffile.imwrite(tmp_path / "a.tif", y)
    np.save(tmp_path / "b.npy", y[0] / 1000)
    arguments = ("reconstruct", fit, tmp_path / "a.tif", tmp_path / "b.npy")
    run(*arguments, "--out", tmp_path / "out")
    x = tifffile.imread(tmp_path / "out" / "a.tif")
    assert (x.shape, x.dtype) == (y.shape, np.float32)
    assert abs(float(x.mean()) - float(y.mean())) < 100
    single = np.load(tmp_path / "out" / "b.npy")
    assert (single.shape, single.dtype) == ((16, 20), np.float64)
    run(*arguments, "--simulate", "--out", tmp_path / "sharp")
    names = {path.name for path in (tmp_path / "sharp").iterdir()}
    assert names == {"a.tif", "a-before.tif", "b.npy", "b-before.npy", "results.jsonl"}

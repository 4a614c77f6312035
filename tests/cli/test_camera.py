"""Measurements of cameras on the command line: offset, gain and read noise are used, not lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from bilevel import data
from cli.test_cases import cropped, written
from cli.tiny import CONFIGURATION, Run

BLUR = "gaussian-blur:size=9,sigma=1.3,boundary=reflecting"
CAMERA = "offset=100,gain=1,read_noise=2"
STACK = "mito stack µ.tif"
QUICK = ("--span", "0.008,0.04")
"""Weights around those that are good for such data."""


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pages of the stack, cropped around an edge: quick to deconvolve."""
    folder = tmp_path_factory.mktemp("shot")
    _, y = cropped(STACK, folder)
    path = folder / "two pages.tif"
    tifffile.imwrite(path, y[:2, 8:24, 8:24], imagej=True, metadata={"axes": "ZYX"})
    return path


def test_one_command_deconvolves_a_stack(run: Run, shot: Path, tmp_path: Path) -> None:
    options = ("--operator", BLUR, "--camera", CAMERA, *QUICK, "--out", tmp_path)
    outcome = run("select", shot, *options)
    assert outcome.code == outcome.owed
    x, y = written(tmp_path / shot.name), tifffile.imread(shot).astype(float)
    assert x.shape == y.shape
    assert x.dtype == np.float32
    assert x.min() >= 0  # light
    assert abs(x.mean() - (y.mean() - 100)) < 3  # in numbers, without the offset
    assert x.std() > y.std()  # sharper
    images = json.loads((tmp_path / "choices.json").read_text())["images"]
    assert [list(one) for one in images.values()] == [["pure"], ["pure"]]
    assert "100 taken off, gain 1 and read noise 2" in outcome.err
    assert "offsets stay in" not in outcome.err


@pytest.mark.long
def test_a_camera_in_a_file_says_the_same(run: Run, shot: Path, tmp_path: Path) -> None:
    config = tmp_path / "camera.toml"
    config.write_text("[camera]\noffset = 100.0\ngain = 1.0\nread_noise = 2.0\n")
    span = ("--span", "0.1,10", "--rule", "poisson-discrepancy")
    run("select", shot, *span, "--config", config, "--out", tmp_path / "a")
    run("select", shot, *span, "--camera", CAMERA, "--out", tmp_path / "b")
    found = [written(tmp_path / name / shot.name) for name in ("a", "b")]
    assert np.array_equal(*found)


@pytest.mark.long
def test_the_weight_is_the_same_in_any_unit(run: Run, shot: Path, tmp_path: Path) -> None:
    path = tmp_path / "counts.npy"
    np.save(path, tifffile.imread(shot)[0].astype(np.float64))
    for name, unit in (("a", ""), ("b", ",unit=1000")):
        options = ("--camera", CAMERA + unit, "--rule", "poisson-discrepancy")
        run("select", path, *options, "--span", "0.1,10", "--out", tmp_path / name)
    x, z = (np.load(tmp_path / name / path.name) for name in ("a", "b"))
    assert np.abs(x - z).max() < 0.02 * x.max()


def test_saturated_pixels_are_not_used(run: Run, tmp_path: Path) -> None:
    """Part of a bright bar is at the end of the range: what surrounds it tells what it is."""
    truth = torch.full((1, 1, 24, 24), 20.0)
    truth[..., 12:20, :] = 300.0
    noise = data.PoissonGaussianNoise(1.0, 2.0, 100.0)
    y = noise.sample(truth, torch.Generator().manual_seed(0)).round()
    path, out = tmp_path / "bar.npy", tmp_path / "out"
    options = ("--camera", f"{CAMERA},saturation=1000", "--span", "0.02,0.5", "--out", out)
    np.save(path, y[0, 0].double().numpy())
    assert "saturated" not in run("select", path, *options).err
    y[..., 12:20, 8:12] = 1000.0
    np.save(path, y[0, 0].double().numpy())
    assert "32 saturated pixels" in run("select", path, *options).err
    assert abs(np.load(out / path.name)[13:19, 9:11].mean() - 300) < 40


@pytest.mark.parametrize(
    ("camera", "said"),
    [
        ("offset=100,gain=1", "camera.read_noise: without read noise"),
        ("offset=100,gain=0,read_noise=2", "camera.gain"),
        ("offst=100,gain=1,read_noise=2", "did you mean 'offset'"),
        ("offset", "--camera takes key=value"),
        ("gain=1,gain=2,read_noise=1", "--camera gives 'gain' twice"),
        ("offset=5,saturation=3,read_noise=1", "saturation must lie above the offset, 5"),
    ],
)
def test_bad_cameras(camera: str, said: str, run: Run, shot: Path, tmp_path: Path) -> None:
    assert said in run("select", shot, "--camera", camera, "--out", tmp_path / "o").refused()
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("option", [("--sigma", "0.1"), ("--noise", "poisson:peak=3")])
def test_a_camera_says_what_the_noise_is(
    option: tuple[str, str], run: Run, shot: Path, tmp_path: Path
) -> None:
    said = run("select", shot, "--camera", CAMERA, *option, "--out", tmp_path / "o").refused()
    assert "the noise is that of [camera]" in said


COUNTED = (
    CONFIGURATION.replace(
        '[noise]\nname = "gaussian"\nsigma = "10/255"\n',
        "[camera]\noffset = 100.0\ngain = 1.0\nread_noise = 3.0\nunit = 200.0\n\n"
        '[fidelity]\nname = "gaussian-poisson"\ngaussian = 4444.0\npoisson = 200.0\n',
    )
    .replace("weight = 0.02", "weight = 4.0")
    .replace("weight = 0.01", "weight = 3.0")
    .replace("steps = 2", "steps = 1")
)


def test_learned_with_a_simulated_camera_used_on_measured_numbers(run: Run, tmp_path: Path) -> None:
    """The offset is taken off, 200 numbers are grey value 1, results are in numbers again."""
    config = tmp_path / "camera.toml"
    config.write_text(COUNTED)
    assert run("learn", config, "--out", tmp_path / "fit").code in (0, 3)
    truth = 200 * data.embedded_image("camera")[..., 100:116, 100:116]
    noise = data.PoissonGaussianNoise(1.0, 3.0, 100.0)
    y = noise.sample(truth, torch.Generator().manual_seed(0))
    path = tmp_path / "measured.npy"
    np.save(path, y[0, 0].double().numpy())
    outcome = run("reconstruct", tmp_path / "fit", path, "--out", tmp_path / "x")
    assert outcome.code == outcome.owed
    x = np.load(tmp_path / "x" / path.name)
    assert abs(x.mean() - float(truth.mean())) < 6
    assert "100 taken off" in outcome.err
    other = run(
        *("reconstruct", tmp_path / "fit", path, "--camera", "offset=0,read_noise=3,unit=200"),
        *("--out", tmp_path / "z"),
    )
    assert other.code == other.owed
    assert abs(np.load(tmp_path / "z" / path.name).mean() - x.mean() - 100) < 8


def test_measured_numbers_of_a_camera_are_learned_from_as_light(run: Run, tmp_path: Path) -> None:
    """The offset is taken off in learning and evaluating as it is in reconstructing."""
    rng = torch.Generator().manual_seed(0)
    for name in ("measured", "sharp"):
        (tmp_path / name).mkdir()
    for k in range(2):
        truth = data.embedded_image("camera")[..., 100 + 8 * k : 116 + 8 * k, 100:116]
        y = data.PoissonGaussianNoise(1.0, 3.0, 100.0).sample(200 * truth, rng).round()
        y[..., 3, 4] = 4000.0
        tifffile.imwrite(tmp_path / "measured" / f"{k}.tif", y[0, 0].numpy().astype(np.uint16))
        np.save(tmp_path / "sharp" / f"{k}.npy", truth[0, 0].double().numpy())
    text = COUNTED.replace("unit = 200.0", "unit = 200.0\nsaturation = 4000.0")
    text = text.replace('images = "embedded"\nsize = 16', 'measured = "measured"\ntarget = "sharp"')
    config = tmp_path / "camera.toml"
    config.write_text(text.replace("count = 2\nheld_out = 1", "count = 2"))
    learned = run("learn", config, "--out", tmp_path / "fit")
    assert learned.code in (0, 3), learned
    assert "100 taken off" in learned.err
    assert "1 saturated pixel" in learned.err
    history = json.loads((tmp_path / "fit" / "fit.json").read_text())["history"]
    assert history[0]["value"] < 0.02  # light, not numbers
    given = ("--measured", tmp_path / "measured", "--target", tmp_path / "sharp")
    found = run("evaluate", tmp_path / "fit", *given, "--out", tmp_path / "e")
    assert found.code == found.owed, found


def test_a_level_for_every_image(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "range.toml"
    config.write_text(CONFIGURATION.replace('sigma = "10/255"', 'sigma = [0.02, "25/255"]'))
    assert run("learn", config, "--out", tmp_path / "fit").code in (0, 3)
    page = (tmp_path / "fit" / "report.html").read_text()
    assert "sigma = [0.02, 0.098" in page
    assert "drawn from 0.02 to 0.098 grey values" in page
    compared = run("compare", config, "--rules", "discrepancy", "--out", tmp_path / "rules")
    assert compared.code in (0, 3)


def test_estimated_levels_are_those_of_data_alone(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "estimate.toml"
    config.write_text(CONFIGURATION.replace('sigma = "10/255"', 'sigma = "estimate"'))
    assert "these are simulated" in run("check", config).refused()
    y = data.embedded_image("camera")[..., :64, :64] + 0.1 * torch.randn(
        1, 1, 64, 64, generator=torch.Generator().manual_seed(0)
    )
    path = tmp_path / "y.npy"
    np.save(path, y[0, 0].numpy())
    span = ("--rule", "discrepancy", "--span", "0.03,1")
    said = run("select", path, "--sigma", "estimate", *span, "--out", tmp_path / "a").err
    assert "estimated, for white noise" in said
    run("select", path, *span, "--out", tmp_path / "b")
    found = [np.load(tmp_path / name / path.name) for name in ("a", "b")]
    assert np.array_equal(*found)


@pytest.mark.parametrize(
    ("sigma", "said"),
    [
        ('"much"', "must be a number or a quotient"),
        ("[0.1]", "noise.sigma"),
        ("[0.2, 0.1]", "the least and the greatest"),
        ("[0.1, 0.2, 0.3]", "noise.sigma"),
    ],
)
def test_levels_that_are_none(sigma: str, said: str, run: Run, tmp_path: Path) -> None:
    config = tmp_path / "bad.toml"
    config.write_text(CONFIGURATION.replace('sigma = "10/255"', f"sigma = {sigma}"))
    assert said in run("check", config).refused()


def test_photon_noise_of_a_camera_in_a_configuration(run: Run, tmp_path: Path) -> None:
    noise = '[noise]\nname = "poisson-gaussian"\ngain = 0.01\nread_noise = 0.02\n'
    text = CONFIGURATION.replace('[noise]\nname = "gaussian"\nsigma = "10/255"\n', noise)
    config = tmp_path / "photons.toml"
    config.write_text(text)
    assert run("check", config).code == 0
    config.write_text(text.replace("gain = 0.01", "gain = 0.01\noffset = 0.1"))
    assert "nothing takes the offset off" in run("check", config).refused()
    config.write_text(text + '\n[fidelity]\nname = "kullback-leibler"\n')
    assert "gaussian-poisson" in run("check", config).refused()
    config.write_text(text + "\n[camera]\ngain = 2.0\nread_noise = 1.0\n")
    assert "the noise is that of [camera]" in run("check", config).refused()

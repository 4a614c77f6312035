"""Bad files and options: one line, exit code 2, nothing written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import bilevel as bl
from cli.tiny import CONFIGURATION, Run


def pictures(folder: Path, *names: str, side: int = 20) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        bl.data.save_image(folder / name, torch.rand(1, side, side))
    return folder


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lern"], "'learn'"),
        (["learn"], "CONFIG.toml"),
        (["learn", "missing.toml", "--out", "out"], "cannot read missing.toml"),
        (["learn", ".", "--out", "out"], "cannot read ."),
        (["learn", "x.toml"], "--out"),
        (["learn", "x.toml", "--out", "out", "--steps", "3"], "--steps"),
        (["demo", "--seconds", "0"], "--seconds must be a positive finite number"),
        (["demo", "--seconds", "nan"], "--seconds must be a positive finite number"),
        (["demo", "--seconds", "soon"], "--seconds"),
        (["list", "operator"], "did you mean 'operators'?"),
        (["evaluate", "missing", "--images", "."], "'missing' holds no fit.json"),
        (["reconstruct", "missing", "a.png", "--out", "out"], "'missing' holds no fit.json"),
        (["reconstruct", "missing", "--out", "out"], "IMAGE"),
        (["demo", "--out", "x" * 300], "File name too long"),
    ],
)
def test_wrong_use_is_refused(
    arguments: list[str], says: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in run(*arguments).refused()
    assert not list(tmp_path.iterdir())


def test_a_configuration_that_is_no_text_is_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in run("check", path).refused()


def test_an_empty_configuration_is_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("")
    assert "the table [operator] is missing" in run("check", path).refused()


def test_a_data_folder_that_does_not_exist_is_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIGURATION.replace("embedded", "pictures"))
    refused = run("check", path, "--data", tmp_path / "nowhere").refused()
    assert "the data folder does not exist" in refused


def test_a_data_folder_without_the_images_is_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIGURATION.replace("embedded", "pictures"))
    refused = run("check", path, "--data", tmp_path).refused()
    assert 'there is no folder "pictures"' in refused and str(tmp_path) in refused


def test_a_damaged_picture_to_learn_from_is_refused(run: Run, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pictures", "a.png", "b.png")
    whole = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(whole[: len(whole) // 2])
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIGURATION.replace("embedded", "pictures"))
    refused = run("learn", path, "--out", tmp_path / "out").refused()
    assert "line 2: data.images: cannot read" in refused and "b.png" in refused
    assert not (tmp_path / "out").exists()


def test_one_picture_cannot_be_held_out(run: Run, tmp_path: Path) -> None:
    pictures(tmp_path / "pictures", "a.png")
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIGURATION.replace("embedded", "pictures"))
    assert "line 5: data.held_out: " in run("check", path).refused()


def outputs(fit: Path, configuration: Path, picture: Path) -> dict[str, list[object]]:
    return {
        "learn": ["learn", configuration],
        "demo": ["demo"],
        "evaluate": ["evaluate", fit, "--images", picture.parent],
        "reconstruct": ["reconstruct", fit, picture],
    }


@pytest.mark.parametrize("command", ["learn", "demo", "evaluate", "reconstruct"])
@pytest.mark.parametrize("place", ["file", "file/below", "file/far/below"])
def test_a_place_that_cannot_be_written_to_is_refused_before_any_work(
    command: str, place: str, run: Run, fit: Path, configuration: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("precious")
    picture = pictures(tmp_path / "pictures", "a.png") / "a.png"
    arguments = outputs(fit, configuration, picture)[command]
    refused = run(*arguments, "--out", tmp_path / place).refused()
    assert "is a file" in refused and "--out" in refused
    assert (tmp_path / "file").read_text() == "precious"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def rename_format(folder: Path) -> None:
    about = json.loads((folder / "fit.json").read_text())
    (folder / "fit.json").write_text(json.dumps({**about, "format": "other-fit-7"}))


def change_configuration(folder: Path) -> None:
    about = json.loads((folder / "fit.json").read_text())
    about["configuration"]["noise"] = {"name": "gauss"}
    (folder / "fit.json").write_text(json.dumps(about))


def forget_configuration(folder: Path) -> None:
    about = json.loads((folder / "fit.json").read_text())
    (folder / "fit.json").write_text(json.dumps({**about, "configuration": {}}))
    (folder / "config.toml").unlink()


def edit_copy(folder: Path) -> None:
    text = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(text.replace("sigma = 0.7", "sigma = 0.9"))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (edit_copy, "is not what the fit beside it was learned with"),
        (lambda folder: truncate(folder / "fit.json"), "is damaged"),
        (lambda folder: truncate(folder / "fit.safetensors"), "is damaged"),
        (lambda folder: (folder / "fit.safetensors").unlink(), "is damaged"),
        (rename_format, "was not written by bilevel"),
        (change_configuration, "did you mean 'gaussian'?"),
        (forget_configuration, "holds no configuration"),
    ],
)
def test_a_damaged_or_foreign_fit_is_refused(
    damage: Callable[[Path], object], says: str, run: Run, fit: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "fit"
    shutil.copytree(fit, folder, ignore=shutil.ignore_patterns("evaluation*"))
    damage(folder)
    found = pictures(tmp_path / "pictures", "a.png")
    assert says in run("evaluate", folder, "--images", found).refused()
    assert not list(folder.glob("evaluation*"))


def test_folders_without_images_are_refused(run: Run, fit: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    refused = run("evaluate", fit, "--images", tmp_path / "empty", "--out", out).refused()
    assert "there are no images in" in refused
    refused = run("evaluate", fit, "--images", tmp_path / "missing", "--out", out).refused()
    assert "there is no folder" in refused
    assert not out.exists()


@pytest.mark.parametrize("kept", [0, 40, 300])
def test_a_truncated_image_is_refused_and_none_comes_of_it(
    kept: int, run: Run, fit: Path, tmp_path: Path
) -> None:
    folder = pictures(tmp_path / "pictures", "a.png", "b.png")
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:kept])
    out = tmp_path / "out"
    assert "b.png" in run("reconstruct", fit, folder / "b.png", "--out", out).refused()
    assert "b.png" in run("evaluate", fit, "--images", folder, "--out", out).refused()
    assert not out.exists()
    outcome = run("reconstruct", fit, folder, "--out", out)
    assert outcome.code == outcome.owed == 3
    assert "not answered: b.png: cannot read" in outcome.err
    assert {path.name for path in out.iterdir()} == {"a.png", "results.jsonl"}


def test_an_accuracy_of_zero_is_refused(run: Run, fit: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pictures", "a.png")
    refused = run("evaluate", fit, "--images", folder, "--accuracy", "0").refused()
    assert "the accuracy must be a positive finite number" in refused


def test_images_are_neither_mixed_up_nor_overwritten(run: Run, fit: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pictures", "a.png", "a.tif")
    before = (folder / "a.png").read_bytes()
    refused = run("reconstruct", fit, folder / "a.png", folder / "a.tif", "--out", tmp_path)
    assert "every image needs a name of its own" in refused.refused()
    assert "would be overwritten" in (
        run("reconstruct", fit, folder / "a.png", "--out", folder).refused()
    )
    assert (folder / "a.png").read_bytes() == before


def test_an_image_smaller_than_the_kernel_is_refused(run: Run, fit: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pictures", "a.png", side=2)
    refused = run("reconstruct", fit, folder / "a.png", "--out", tmp_path / "out").refused()
    assert "the 3x3 kernel must not exceed the image" in refused


def test_fourier_data_cannot_be_read_from_pictures(run: Run, tmp_path: Path) -> None:
    text = CONFIGURATION.replace('"gaussian-blur"', '"fourier-mask"')
    text = text.replace("size = 3\nsigma = 0.7\n", "")
    (tmp_path / "mri.toml").write_text(text)
    assert run("learn", tmp_path / "mri.toml", "--out", tmp_path / "fit").code == 0
    image = pictures(tmp_path / "pictures", "a.png") / "a.png"
    arguments = ["reconstruct", tmp_path / "fit", image, "--out", tmp_path / "out"]
    assert "--simulate" in run(*arguments).refused()
    assert not (tmp_path / "out").exists()
    assert run(*arguments, "--simulate").code == 3  # learned in two steps


def test_a_map_of_weights_refuses_images_of_another_size(run: Run, tmp_path: Path) -> None:
    text = CONFIGURATION.replace("weight = 0.02", 'map = true\nlearn = ["weight"]')
    (tmp_path / "map.toml").write_text(text)
    assert run("learn", tmp_path / "map.toml", "--out", tmp_path / "fit").code == 0
    folder = pictures(tmp_path / "pictures", "a.png", side=20)
    refused = run("evaluate", tmp_path / "fit", "--images", folder).refused()
    assert "the map of weights has shape (16, 16)" in refused


def test_what_may_change_in_the_copy_of_a_configuration_may(
    run: Run, fit: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "fit"
    shutil.copytree(fit, folder, ignore=shutil.ignore_patterns("evaluation*"))
    text = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(text.replace("steps = 2", "steps = 3"))
    found = pictures(tmp_path / "pictures", "a.png")
    outcome = run("evaluate", folder, "--images", found)
    assert outcome.code == outcome.owed, outcome

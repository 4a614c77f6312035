"""The commands from end to end, on tiny data."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.cli.config import plain, read
from bilevel.cli.reconstruction import Reconstructor
from bilevel.learn import TaylorTest
from cli.tiny import CONFIGURATION, Run


def test_learn_saves_a_fit_with_its_configuration_and_a_report(fit: Path) -> None:
    found = bl.load(fit)
    assert len(found.history) == 3
    assert found.history[-1].value < found.history[0].value
    assert found.configuration == plain(read(fit / "config.toml").configuration)
    assert (fit / "config.toml").read_text() == CONFIGURATION
    assert "<html" in (fit / "report.html").read_text()


def test_learn_tells_its_progress_in_plain_lines(
    run: Run, configuration: Path, tmp_path: Path
) -> None:
    outcome = run("learn", configuration, "--out", tmp_path / "fit")
    assert outcome.code == 0
    lines = outcome.err.splitlines()
    assert lines[0] == "learning 2 parameters from 2 images of 16x16"
    assert lines[1].startswith("algorithm: L-BFGS: ")
    assert [line.split()[0] for line in lines[2:6]] == ["step", "0", "1", "2"]
    assert "\x1b" not in outcome.err + outcome.out
    assert outcome.out.splitlines()[-1] == f"report: {tmp_path / 'fit' / 'report.html'}"


def test_the_same_configuration_learns_the_same(
    run: Run, configuration: Path, fit: Path, tmp_path: Path
) -> None:
    assert run("learn", configuration, "--out", tmp_path / "fit").code == 0
    again, first = bl.load(tmp_path / "fit"), bl.load(fit)
    assert again.theta == first.theta
    outcome = run("learn", configuration, "--out", tmp_path / "fit")
    assert f"replacing the fit in {tmp_path / 'fit'}" in outcome.err


def test_evaluate_writes_what_it_says(run: Run, fit: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, (h, w) in {"a.png": (24, 20), "b.npy": (20, 24), "c.png": (24, 20)}.items():
        bl.data.save_image(folder / name, bl.data.shepp_logan((h, w)))
    outcome = run("evaluate", fit, "--images", folder, "--out", tmp_path / "out")
    assert outcome.code == 3  # two steps on two tiny images
    with (tmp_path / "out" / "evaluation.csv").open() as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"a.png", "b.npy", "c.png", "mean"}
    after = [float(rows[name]["psnr_after"]) for name in ("a.png", "b.npy", "c.png")]
    assert float(rows["mean"]["psnr_after"]) == pytest.approx(sum(after) / 3, rel=1e-5)
    assert rows["a.png"]["psnr_after"] != rows["c.png"]["psnr_after"]  # noise of their own
    assert all(float(row["certified_rms"]) <= 1e-3 for row in rows.values())
    assert "<html" in (tmp_path / "out" / "evaluation.html").read_text()
    assert "b.npy" in outcome.out


def test_evaluate_is_what_python_computes(run: Run, fit: Path, tmp_path: Path) -> None:
    image = bl.data.shepp_logan(24)
    (tmp_path / "pictures").mkdir()
    bl.data.save_image(tmp_path / "pictures" / "a.npy", image)
    assert run("evaluate", fit, "--images", tmp_path / "pictures").code == 3
    with (fit / "evaluation-pictures" / "evaluation.csv").open() as file:
        row = next(csv.DictReader(file))
    learned = bl.load(fit)
    assert isinstance(learned.energy, bl.Variational)
    noise = bl.data.GaussianNoise(10 / 255)
    pairs = bl.data.simulate(image, learned.energy.fidelity.operator, noise, ids=["a.npy"])
    x = learned.reconstruct(pairs.y).x
    psnr = -10 * math.log10(float((x - image).square().mean()))
    assert float(row["psnr_after"]) == pytest.approx(psnr, abs=1e-3)


def test_reconstruct_takes_images_as_data_unless_told_to_simulate(
    run: Run, fit: Path, tmp_path: Path
) -> None:
    image = bl.data.centre_crop(bl.data.embedded_image("camera"), 48)
    bl.data.save_image(tmp_path / "sharp.png", image, bits=16)
    arguments = ["reconstruct", fit, tmp_path / "sharp.png", "--out"]
    outcome = run(*arguments, tmp_path / "a", "--simulate")
    assert outcome.code == 0
    written = {"sharp.png", "sharp-before.png", "results.jsonl"}
    assert {p.name for p in (tmp_path / "a").iterdir()} == written
    data = tmp_path / "a" / "sharp-before.png"
    outcome = run("reconstruct", fit, data, "--out", tmp_path / "b")
    assert outcome.code == 0
    assert "converged" in outcome.out
    simulated = bl.data.load_image(tmp_path / "a" / "sharp.png")
    measured = bl.data.load_image(tmp_path / "b" / "sharp-before.png")
    assert (simulated - measured).abs().max() < 0.1  # data were clipped to [0, 1] in between
    assert (simulated - image).square().mean() < (bl.data.load_image(data) - image).square().mean()


@pytest.mark.parametrize(
    ("operator", "side"),
    [
        ('name = "identity"', 16),
        ('name = "convolution"\nkernel = [[0.25, 0.5, 0.25]]\nboundary = "zero"', 16),
        ('name = "mask"', 16),
        ('name = "fourier-mask"', 16),
        ('name = "downsampling"', 18),
    ],
)
def test_every_operator_learns_and_evaluates_images_of_another_size(
    operator: str, side: int, run: Run, tmp_path: Path
) -> None:
    text = CONFIGURATION.replace('name = "gaussian-blur"\nsize = 3\nsigma = 0.7', operator)
    (tmp_path / "one.toml").write_text(text.replace("size = 16", f"size = {side}"))
    assert run("learn", tmp_path / "one.toml", "--out", tmp_path / "fit").code == 0
    (tmp_path / "pictures").mkdir()
    bl.data.save_image(tmp_path / "pictures" / "a.png", bl.data.shepp_logan((25, 23)))
    outcome = run("evaluate", tmp_path / "fit", "--images", tmp_path / "pictures")
    assert outcome.code == outcome.owed, outcome
    assert (tmp_path / "fit" / "evaluation-pictures" / "evaluation.html").is_file()


def test_scales_of_nothing_that_is_learned_are_refused(run: Run, tmp_path: Path) -> None:
    wrong = CONFIGURATION.replace("[budget]", "[scales]\nregularizer = 2.0\n[budget]")
    (tmp_path / "one.toml").write_text(wrong)
    said = run("learn", tmp_path / "one.toml", "--out", tmp_path / "fit").refused()
    assert 'scales: the scales name "regularizer"' in said
    assert "regulariser.terms.0.log_weight" in said


@pytest.mark.parametrize(
    "changes",
    [
        {'name = "total-variation"\nweight = 0.02\nsmoothing = 0.05': 'name = "tikhonov"'},
        {
            'name = "total-variation"\nweight = 0.02\nsmoothing = 0.05': (
                'name = "fields-of-experts"\nsize = 3\ncount = 4\npotential = "student-t"'
            )
        },
        {'name = "gaussian"\nsigma = "10/255"': 'name = "poisson"\npeak = 100'},
        {'name = "gaussian"\nsigma = "10/255"': 'name = "none"'},
        {"[budget]": '[solver]\nname = "gradient-descent"\nchunk = 1\n[budget]'},
        {"[budget]": '[algorithm]\nname = "maid"\n[budget]'},
        {
            "[budget]": '[algorithm]\nname = "projected-gradient"\nbatch_size = 1\nstep_size = 1\n'
            '[algorithm.schedule]\nname = "polynomial"\n[budget]'
        },
        {"[budget]": '[scales]\n"regulariser" = 4.0\n[budget]'},
        {"[data]": 'precision = "float64"\n[data]\ngrey = false'},
        {"[budget]": "[fidelity]\nlearn = ['weight']\n[budget]"},
    ],
)
def test_every_choice_can_be_learned_with(
    changes: dict[str, str], run: Run, tmp_path: Path
) -> None:
    text = CONFIGURATION
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "one.toml").write_text(text)
    outcome = run("learn", tmp_path / "one.toml", "--out", tmp_path / "fit")
    assert outcome.code == outcome.owed, outcome
    assert bl.load(tmp_path / "fit").history


def test_whole_images_of_one_folder_in_the_data_folder(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(4):
        folder = tmp_path / "data" / f"part{k % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        bl.data.save_image(folder / f"{k}.png", torch.rand(1, 12, 16))
    text = CONFIGURATION.replace('"embedded"\nsize = 16', '["part0", "part1"]')
    (tmp_path / "one.toml").write_text(text)
    monkeypatch.setenv("BILEVEL_DATA", str(tmp_path / "data"))
    outcome = run("check", tmp_path / "one.toml")
    assert outcome.code == 0
    assert "2 images of 12x16 to learn from; held out: 1 image of 12x16" in outcome.out


def test_check_says_what_is_proved(run: Run, configuration: Path, tmp_path: Path) -> None:
    outcome = run("check", configuration)
    assert outcome.code == 0
    assert "exact minimisers are proved" in outcome.out.replace("\n", " ")
    assert "agrees with finite differences" in outcome.out
    assert {p.name for p in tmp_path.iterdir()} == {"tiny.toml"}
    without = CONFIGURATION.replace("[ridge]\nweight = 0.01\n", "")
    without = without.replace('"gaussian-blur"\nsize = 3\nsigma = 0.7', '"downsampling"')
    configuration.write_text(without)
    outcome = run("check", configuration)
    assert outcome.code == 0
    assert "are not proved; add a table [ridge]" in " ".join(outcome.out.split())


def test_check_fails_where_derivatives_disagree(
    run: Run, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TaylorTest, "passed", property(lambda test: False))
    outcome = run("check", configuration)
    assert outcome.code == 1
    assert "can be learned from" not in outcome.out


def test_demo_writes_a_report_and_names_it(run: Run, tmp_path: Path) -> None:
    outcome = run("demo", "--seconds", "0.1", "--out", tmp_path / "demo")
    assert outcome.code == 0
    assert outcome.out.splitlines()[-1] == f"report: {tmp_path / 'demo' / 'report.html'}"
    assert "seconds = 0.1\n" in (tmp_path / "demo" / "config.toml").read_text()


@pytest.mark.parametrize(
    "command", ["demo", "learn", "reconstruct", "evaluate", "race", "check", "list"]
)
def test_help_teaches_by_example(command: str, run: Run) -> None:
    outcome = run(command, "--help")
    assert outcome.code == 0
    assert f"Example: bilevel {command}" in outcome.out


def test_bare_command_and_version(run: Run) -> None:
    assert "Commands" in run().out
    assert run("--version").out == f"bilevel {bl.__version__}\n"


def test_tomography_and_what_a_photograph_shows_are_learned_and_evaluated(
    run: Run, tmp_path: Path
) -> None:
    """Data of another shape than the images; tomography knows the one size it takes."""
    blur = 'name = "gaussian-blur"\nsize = 3\nsigma = 0.7'
    (tmp_path / "pictures").mkdir()
    bl.data.save_image(tmp_path / "pictures" / "a.png", bl.data.shepp_logan(16))
    for k, operator in enumerate(
        (f'{blur}\nboundary = "valid"', 'name = "radon"\nsize = [16, 16]\nangles = 12')
    ):
        text, out = CONFIGURATION.replace(blur, operator), tmp_path / f"fit{k}"
        (tmp_path / "one.toml").write_text(text)
        outcome = run("learn", tmp_path / "one.toml", "--out", out)
        assert outcome.code == outcome.owed, outcome
        outcome = run("evaluate", out, "--images", tmp_path / "pictures")
        assert outcome.code == outcome.owed, outcome
        assert (out / "evaluation-pictures" / "evaluation.html").is_file()
    y, target = torch.rand(1, 1, 14, 14), torch.rand(1, 1, 16, 16)
    reconstructor = Reconstructor.load(tmp_path / "fit0", None)
    found = reconstructor.samples(bl.data.Pairs(y, target, ("a",)), lambda done: None)
    assert torch.equal(found.before, y)
    assert torch.equal(found.target, target[..., 1:15, 1:15])
    wrong = CONFIGURATION.replace(blur, 'name = "radon"\nsize = [16]')
    (tmp_path / "one.toml").write_text(wrong)
    assert "operator.size" in run("learn", tmp_path / "one.toml", "--out", tmp_path / "x").refused()

"""``bilevel compare`` from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.cli import choice_report, choosing, comparing
from bilevel.cli.catalogue import CATALOGUE
from bilevel.cli.config import Selection, read
from bilevel.cli.measured import learning_images
from bilevel.cli.reconstruction import simulated
from cli.test_select import picture
from cli.tiny import CONFIGURATION, Run

RULES = ("--rules", "discrepancy,predicted-risk")
BLUR = "gaussian-blur:size=3,sigma=0.5"


def numbers(out: Path) -> dict:
    return json.loads((out / "choices.json").read_text())


def test_rules_stand_beside_what_is_learned_and_the_oracle(
    run: Run, configuration: Path, tmp_path: Path
) -> None:
    configuration.write_text(CONFIGURATION.replace("steps = 2", "steps = 8"))
    outcome = run("compare", configuration, *RULES, "--out", tmp_path / "out")
    assert outcome.code == 3, outcome
    assert "learning the weight from 2 images of 16x16" in outcome.err
    found = numbers(tmp_path / "out")
    assert list(found["rules"]) == ["discrepancy", "predicted-risk", "learned", "oracle"]
    (image,) = found["images"].values()
    best = image["oracle"]["psnr"]
    assert all(choice["psnr"] <= best + 0.01 for choice in image.values())
    assert "Without seeing the truth" in outcome.out
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The weight learned from other images" in page


def test_the_learned_weight_is_the_best_one_for_all_training_images(
    run: Run, configuration: Path, tmp_path: Path
) -> None:
    configuration.write_text(CONFIGURATION.replace("steps = 2", "steps = 12"))
    document = read(configuration)
    assert run("compare", configuration, *RULES, "--out", tmp_path / "out").code == 3
    (image,) = numbers(tmp_path / "out")["images"].values()
    learned = image["learned"]["weight"]
    training = learning_images(document, None).training
    pairs = simulated(document.configuration, training)
    energy = Selection.of(document.configuration).energy(training.shape)

    def loss(weight: float) -> float:
        point = bl.select(
            energy, pairs.y, bl.rules.Oracle(pairs.target), span=(weight, weight * 1.001)
        )
        return float((point.x - pairs.target).square().mean())

    assert loss(learned) <= min(loss(0.9 * learned), loss(1.1 * learned))


def test_a_picture_is_given_to_every_rule_that_applies(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice_report, "compare_page", lambda *found, **texts: "a page")
    image, out = picture(tmp_path, size=12), tmp_path / "out"
    outcome = run("compare", image, "--operator", BLUR, "--sigma", 0.1, "--out", out)
    assert outcome.code == 3, outcome  # 144 data tell no weight
    found = numbers(out)
    assert set(found["rules"]) | set(found["failures"]) == set(CATALOGUE["rules"])
    assert "SURE is for denoising" in found["failures"]["sure"]
    assert "leaving out sure: SURE is for denoising" in outcome.err
    for rule in found["rules"]:
        assert (out / f"noisy-{rule}.png").exists()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("sur", "unknown rule 'sur'; did you mean 'sure'?"),
        ("sure,sure", "names 'sure' twice"),
        (",", "names no rule"),
    ],
)
def test_bad_lists_are_refused(
    rules: str, message: str, run: Run, configuration: Path, tmp_path: Path
) -> None:
    arguments = ("compare", configuration, "--rules", rules, "--out", tmp_path / "out")
    assert message in run(*arguments).refused()
    assert not (tmp_path / "out").exists()


def test_options_of_the_model_are_for_pictures(
    run: Run, configuration: Path, tmp_path: Path
) -> None:
    said = run("compare", configuration, "--sigma", 0.1, "--out", tmp_path / "out").refused()
    assert "options of the model are for pictures" in said


def test_kinks_and_bounds_are_compared_like_anything(
    run: Run, configuration: Path, tmp_path: Path
) -> None:
    text = CONFIGURATION.replace("total-variation", "exact-tv").replace("smoothing = 0.05\n", "")
    configuration.write_text(text + "[box]\nlower = 0.0\n")
    out = tmp_path / "out"
    outcome = run("compare", configuration, "--rules", "predicted-risk,gcv", "--out", out)
    assert outcome.code == outcome.owed, outcome
    (image,) = json.loads((out / "choices.json").read_text())["images"].values()
    assert {"learned", "oracle", "predicted-risk", "gcv"} == set(image)
    assert all(one["weight"] > 0 for one in image.values())


def test_an_interrupt_reports_what_is_done(
    run: Run, configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(progress: choosing.WeightProgress, *values: torch.Tensor) -> None:
        if progress.what.startswith("predicted-risk"):
            raise KeyboardInterrupt

    monkeypatch.setattr(choosing.WeightProgress, "__call__", press)
    outcome = run("compare", configuration, *RULES, "--out", tmp_path / "out")
    assert outcome.code == 130
    found = numbers(tmp_path / "out")
    assert found["interrupted"]
    assert list(found["rules"]) == ["discrepancy", "learned"]
    assert "Ctrl-C ended the work early" in (tmp_path / "out" / "report.html").read_text()


def test_an_interrupt_while_learning_writes_nothing(
    run: Run, configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(progress: comparing.LearningProgress, record: bl.Record) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(comparing.LearningProgress, "__call__", press)
    outcome = run("compare", configuration, *RULES, "--out", tmp_path / "out")
    assert outcome.code == 130
    assert "interrupted" in outcome.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()

"""``bilevel evaluate`` of several methods, and configurations of which nothing is learned."""

from __future__ import annotations

import csv
import math
import shutil
import statistics
from pathlib import Path

import pytest

import bilevel as bl
from bilevel.cli.config import read
from bilevel.cli.evaluating import Given
from cli.tiny import CONFIGURATION, Run

RULE = '[regulariser]\nname = "total-variation"\nsmoothing = 0.05\n[rule]\nname = "discrepancy"\n'


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k, (h, w) in enumerate([(24, 20), (20, 24), (24, 20)]):
        x = 0.2 + 0.6 * bl.data.shepp_logan((h, w)).roll(k, -1)
        bl.data.save_image(folder / f"{k}.npy", x)
    return folder


def table(out: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (out / "evaluation.csv").open() as file:
        return {(row["image"], row["method"]): row for row in csv.DictReader(file)}


def configured(path: Path, old: str, new: str) -> Path:
    assert old in CONFIGURATION
    path.write_text(CONFIGURATION.replace(old, new))
    return path


def test_fits_fixed_weights_and_rules_on_the_same_data(
    run: Run, fit: Path, images: Path, tmp_path: Path
) -> None:
    fixed = configured(tmp_path / "fixed.toml", "weight = 0.02", "weight = 0.2\nlearn = []")
    (tmp_path / "rule.toml").write_text(RULE)
    out = tmp_path / "out"
    sources = (fit, fixed, tmp_path / "rule.toml")
    outcome = run("evaluate", *sources, "--images", images, "--out", out)
    assert outcome.code == outcome.owed, outcome
    found = table(out)
    names = ("fit", "fixed", "rule")
    levels = {}
    for name in names:
        levels[name] = [float(found[f"{k}.npy", name]["psnr_after"]) for k in range(3)]
        before = {float(found["0.npy", other]["psnr_before"]) for other in names}
        assert len(before) == 1  # the same data for all
        less = [a - b for a, b in zip(levels[name], levels["fit"], strict=True)]
        mean = float(found["mean", name]["difference"])
        assert mean == pytest.approx(statistics.fmean(less), abs=2e-4)
        error = float(found["standard error", name]["difference"])
        assert error == pytest.approx(statistics.stdev(less) / math.sqrt(3), abs=2e-4)
    assert levels["fixed"] != levels["fit"]
    latex = (out / "evaluation.tex").read_text()
    assert latex.startswith("\\begin{tabular}{l") and latex.count("\\\\") == 4
    page = (out / "evaluation.html").read_text()
    assert "less fit [dB]" in page and page.count("<article") == 3
    assert all(name in outcome.out for name in names)


def test_the_pictures_in_the_package(configuration: Path) -> None:
    given = Given(Path("embedded"))
    batches = given.batches(read(configuration).configuration)
    assert {name for batch in batches for name in batch.ids} == set(bl.data.embedded_names())
    assert given.name == "embedded"


def test_one_of_several_is_what_it_is_alone(
    run: Run, fit: Path, images: Path, tmp_path: Path
) -> None:
    run("evaluate", fit, "--images", images, "--out", tmp_path / "alone")
    fixed = configured(tmp_path / "fixed.toml", "weight = 0.02", "weight = 0.2\nlearn = []")
    run("evaluate", fit, fixed, "--images", images, "--out", tmp_path / "both")
    with (tmp_path / "alone" / "evaluation.csv").open() as file:
        alone = {row["image"]: row["psnr_after"] for row in csv.DictReader(file)}
    both = table(tmp_path / "both")
    assert {name: both[name, "fit"]["psnr_after"] for name in alone} == alone


@pytest.mark.parametrize("how", ["learn = []", "steps = 0"])
def test_nothing_learned_is_what_is_given(how: str, run: Run, images: Path, tmp_path: Path) -> None:
    if how == "steps = 0":
        path = configured(tmp_path / "given.toml", "steps = 2", how)
    else:
        path = configured(tmp_path / "given.toml", "weight = 0.02", f"weight = 0.02\n{how}")
    outcome = run("learn", path, "--out", tmp_path / "run")
    assert outcome.code == outcome.owed, outcome
    assert "nothing is to be learned" in outcome.err
    energy = bl.load(tmp_path / "run").energy
    weight = energy.get_submodule("regulariser.terms.0").get_parameter("log_weight")
    assert float(weight.detach().exp()) == pytest.approx(0.02, rel=1e-6)
    assert "Nothing was learned" in (tmp_path / "run" / "report.html").read_text()
    shutil.move(tmp_path / "run", tmp_path / "saved")
    arguments = (tmp_path / "saved", path, "--images", images, "--out", tmp_path / "out")
    outcome = run("evaluate", *arguments)
    assert outcome.code == outcome.owed, outcome
    found = table(tmp_path / "out")
    assert float(found["mean", "given"]["difference"]) == pytest.approx(0.0, abs=1e-6)
    assert "--resume: there is nothing to learn" in (
        run("learn", path, "--out", tmp_path / "saved", "--resume").refused()
    )


def test_no_budget_is_needed_where_nothing_is_learned(
    run: Run, images: Path, tmp_path: Path
) -> None:
    path = configured(tmp_path / "given.toml", "weight = 0.02", "weight = 0.02\nlearn = []")
    path.write_text(path.read_text().replace("[budget]\nsteps = 2\n", ""))
    assert run("learn", path, "--out", tmp_path / "run").code in (0, 3)
    for command in (("race", path, "--algorithms", "maid", "--budget-steps", 2), ("check", path)):
        options = ("--out", tmp_path / "race") if command[0] == "race" else ()
        assert "nothing to learn" in run(*command, *options).refused()
    outcome = run("evaluate", path, "--images", images, "--out", tmp_path / "out")
    assert outcome.code == outcome.owed, outcome
    assert {method for _, method in table(tmp_path / "out")} == {"given"}


def test_methods_for_other_data_are_named(
    run: Run, fit: Path, images: Path, tmp_path: Path
) -> None:
    noisy = configured(tmp_path / "noisy.toml", '"10/255"', '"20/255"')
    outcome = run("evaluate", fit, noisy, "--images", images, "--out", tmp_path / "out")
    assert "noisy was made for other data: noise.sigma" in outcome.err
    assert "noisy was made for other data" in (tmp_path / "out" / "evaluation.html").read_text()


def test_what_cannot_be_evaluated_is_said_in_a_line(
    run: Run, fit: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "rule.toml").write_text(RULE)
    options = ("--images", images, "--out", tmp_path / "out")
    refused = run("evaluate", tmp_path / "rule.toml", *options).refused()
    assert "rules alone do not say how data are made" in refused
    assert "names something twice" in run("evaluate", fit, fit, *options).refused()
    (tmp_path / "bad.toml").write_text(RULE.replace("discrepancy", "discrepanzy"))
    refused = run("evaluate", fit, tmp_path / "bad.toml", *options).refused()
    assert "did you mean 'discrepancy'?" in refused
    (tmp_path / "sure.toml").write_text(RULE.replace("discrepancy", "sure"))
    refused = run("evaluate", fit, tmp_path / "sure.toml", *options)
    assert "sure: " in refused.err and refused.code == 2
    assert not (tmp_path / "out").exists()

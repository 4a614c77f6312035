"""``bilevel race`` and ``bilevel learn --resume`` from end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import bilevel as bl
from bilevel.cli import learning, racing
from bilevel.cli.catalogue import CATALOGUE
from bilevel.cli.config import read
from bilevel.learn import Record
from cli.tiny import CONFIGURATION, Outcome, Run


def raced(run: Run, configuration: Path, out: Path, *more: object) -> Outcome:
    return run("race", configuration, "--out", out, "--budget-steps", 1, *more)


def test_a_race_writes_page_and_numbers(run: Run, configuration: Path, tmp_path: Path) -> None:
    out = tmp_path / "race"
    outcome = raced(run, configuration, out, "--algorithms", "maid, l-bfgs")
    assert outcome.code == 0, outcome
    assert "2 of 2: l-bfgs" in outcome.err
    assert "wins" in outcome.out
    assert outcome.out.splitlines()[-1] == f"report: {out / 'report.html'}"
    found = json.loads((out / "race.json").read_text())
    assert list(found["algorithms"]) == ["maid", "l-bfgs"]
    assert found["winner"] in found["algorithms"]
    assert found["configuration"]["budget"] == {"steps": 1}
    for entry in found["algorithms"].values():
        assert len(entry["history"]) == 2
        assert entry["loss"] < entry["history"][0]["value"]
        assert entry["interval"] > 0
    assert "<html" in (out / "report.html").read_text()


def test_the_fit_of_learn_is_the_one_in_the_race(
    run: Run, configuration: Path, fit: Path, tmp_path: Path
) -> None:
    outcome = run("race", configuration, "--algorithms", "automatic", "--out", tmp_path / "r")
    assert outcome.code == 0, outcome
    entry = json.loads((tmp_path / "r" / "race.json").read_text())["algorithms"]["automatic"]
    learned = bl.load(fit)
    assert entry["theta"] == {name: value.tolist() for name, value in learned.theta.items()}


def test_all_are_those_that_need_no_options(configuration: Path) -> None:
    found = racing.chosen("all", read(configuration).configuration)
    assert {"maid", "accelerated-maid", "l-bfgs", "projected-gradient"} <= set(found)
    assert set(found) <= set(CATALOGUE["algorithms"])


def test_the_algorithm_of_the_configuration_keeps_its_options(configuration: Path) -> None:
    text = CONFIGURATION + '[algorithm]\nname = "l-bfgs"\nmemory = 3\n'
    configuration.write_text(text)
    found = racing.chosen("maid,l-bfgs", read(configuration).configuration)
    assert found["l-bfgs"].model_dump()["memory"] == 3
    assert found["maid"] == CATALOGUE["algorithms"]["maid"]()


@pytest.mark.parametrize(
    ("algorithms", "message"),
    [
        ("maidd", "unknown algorithm 'maidd'; did you mean 'maid'?"),
        ("maid,maid", "names 'maid' twice"),
        (" , ", "names no algorithm"),
    ],
)
def test_bad_lists_are_refused(
    algorithms: str, message: str, run: Run, configuration: Path, tmp_path: Path
) -> None:
    said = raced(run, configuration, tmp_path / "r", "--algorithms", algorithms).refused()
    assert message in said
    assert not (tmp_path / "r").exists()


def test_empty_budgets_are_refused(run: Run, configuration: Path, tmp_path: Path) -> None:
    arguments = ("race", configuration, "--algorithms", "maid", "--out", tmp_path / "r")
    assert "must be positive" in run(*arguments, "--budget-seconds", 0).refused()


def test_an_interrupt_reports_what_is_done(
    run: Run, configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = racing.LearningProgress.__call__

    def press(progress: racing.LearningProgress, record: Record) -> None:
        shown(progress, record)
        pressed.append(record)
        if len(pressed) == 3:
            raise KeyboardInterrupt

    pressed: list[Record] = []
    monkeypatch.setattr(racing.LearningProgress, "__call__", press)
    out = tmp_path / "race"
    outcome = raced(run, configuration, out, "--algorithms", "maid,l-bfgs,projected-gradient")
    assert outcome.code == 130
    assert "Traceback" not in outcome.err
    assert "interrupted" in outcome.err.splitlines()[-1]
    found = json.loads((out / "race.json").read_text())
    assert found["interrupted"]
    assert list(found["algorithms"]) == ["maid", "l-bfgs"]
    assert "Ctrl-C ended the race early" in (out / "report.html").read_text()


def test_an_interrupt_before_anything_is_done_writes_nothing(
    run: Run, configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(racing, "race", press)
    outcome = raced(run, configuration, tmp_path / "race", "--algorithms", "maid")
    assert outcome.code == 130
    assert not (tmp_path / "race").exists()


def copied(fit: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fit, tmp_path / "fit"))


def test_resume_goes_on_where_learning_ended(
    run: Run, configuration: Path, fit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "learning_page", lambda *fits, **texts: "a page")
    out = copied(fit, tmp_path)
    outcome = run("learn", configuration, "--out", out, "--resume")
    assert outcome.code == 0, outcome
    assert f"going on after 2 steps of the fit in {out}" in outcome.err
    configuration.write_text(CONFIGURATION.replace("steps = 2", "steps = 4"))
    assert run("learn", configuration, "--out", tmp_path / "once").code == 0
    parts, once = bl.load(out), bl.load(tmp_path / "once")
    assert parts.theta == once.theta
    assert [r.value for r in parts.history] == [r.value for r in once.history]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[budget]", '[algorithm]\nname = "l-bfgs"\n[budget]'), "algorithm.name"),
        (("[budget]", "[algorithm]\ntol = 0.1\n[budget]"), "algorithm.tol"),
        (("count = 2", "count = 1"), "data.count = 2, but got 1"),
        (("[ridge]\nweight = 0.01\n", ""), "ridge = a table, but got nothing"),
    ],
)
def test_resume_refuses_another_configuration(
    change: tuple[str, str], message: str, run: Run, configuration: Path, fit: Path, tmp_path: Path
) -> None:
    out = copied(fit, tmp_path)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    configuration.write_text(CONFIGURATION.replace(*change))
    said = run("learn", configuration, "--out", out, "--resume").refused()
    assert message in said
    assert "learn anew without --resume" in said
    assert before == {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def test_resume_needs_a_fit_with_a_state(
    run: Run, configuration: Path, fit: Path, tmp_path: Path
) -> None:
    said = run("learn", configuration, "--out", tmp_path / "no", "--resume").refused()
    assert "holds no fit.json" in said
    out = copied(fit, tmp_path)
    (out / "state.safetensors").unlink()
    said = run("learn", configuration, "--out", out, "--resume").refused()
    assert "holds no state to go on from" in said

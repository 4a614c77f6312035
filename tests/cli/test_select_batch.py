"""Weights for many pictures: each when it is ready, once, and one report of all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from cli.test_batch import lines, results, times
from cli.test_interrupt import PROGRAM
from cli.test_select import entry, picture
from cli.tiny import Run

REPORT = {"report.html", "choices.json"}


def pictures(folder: Path, *names: str, size: int = 24) -> Path:
    folder.mkdir()
    for name in names:
        picture(folder, name, size=size)
    return folder


def test_a_second_run_reports_what_it_does_not_do_again(run: Run, tmp_path: Path) -> None:
    names = [f"{k}.png" for k in range(5)]
    folder, out = pictures(tmp_path / "in", *names), tmp_path / "out"
    command = ("select", folder, "--sigma", 0.1, "--rule", "discrepancy", "--out", out)
    outcome = run(*command, "--json")
    assert outcome.code == outcome.owed, outcome
    told = [json.loads(text) for text in outcome.out.splitlines()]
    assert [line["id"] for line in told] == names
    assert results(out) == {*names, *REPORT}
    numbers = json.loads((out / "choices.json").read_text())
    for line in told:
        one = numbers["images"][line["id"]]["discrepancy"]
        assert line["weight"] == one["weight"] > 0
        assert line["rules"]["discrepancy"]["curve"] == one["curve"]
        assert line["cost"]["gradient_evaluations"] > 0
    before = times(out)
    again = run(*command, "--json")
    assert again.code == outcome.code
    assert all(json.loads(text)["skipped"] for text in again.out.splitlines())
    after = times(out)
    assert {name for name in names if after[name] != before[name]} == set()
    assert json.loads((out / "choices.json").read_text()) == numbers
    page = (out / "report.html").read_text()
    assert page.count("<article") == 4 and "0.png" in page
    other = run("select", folder, "--sigma", 0.2, "--rule", "discrepancy", "--out", out)
    assert other.err.count("made again, as it was made with other settings") == 5


def test_a_broken_picture_is_named_and_the_others_are_reported(run: Run, tmp_path: Path) -> None:
    folder, out = pictures(tmp_path / "in", "a.png", "b.png", "c.png"), tmp_path / "out"
    (folder / "b.png").write_bytes(b"")
    outcome = run("select", folder, "--sigma", 0.1, "--out", out, "--quiet")
    assert outcome.code == 3
    assert not outcome.out
    assert outcome.err.startswith("not answered: b.png: cannot read")
    assert results(out) == {"a.png", "c.png", *REPORT}
    assert entry(out, "a.png")["weight"] > 0


def test_an_interrupt_and_a_second_run(run: Run, tmp_path: Path) -> None:
    names = [f"{k}.png" for k in range(5)]
    folder, out = pictures(tmp_path / "in", *names, size=96), tmp_path / "out"
    arguments = ["select", str(folder), "--sigma", "0.1", "--out", str(out), "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    first = [json.loads(process.stdout.readline())]
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=60)
    done = [*first, *map(json.loads, rest.splitlines())]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert results(out) == {*(line["id"] for line in done), *REPORT}
    assert json.loads((out / "choices.json").read_text())["interrupted"]
    again = run(*arguments)
    assert again.code == again.owed, again
    told = {line["id"]: line["skipped"] for line in map(json.loads, again.out.splitlines())}
    assert told == {name: name in {line["id"] for line in done} for name in names}
    numbers = json.loads((out / "choices.json").read_text())
    assert set(numbers["images"]) == set(names) and not numbers["interrupted"]
    assert len(lines(out)) == 5

"""Many pictures: written when ready, skipped where done, reported where broken, resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import bilevel as bl
from bilevel.cli import reconstructing, reconstruction
from bilevel.cli.record import RECORD
from cli.test_interrupt import PROGRAM
from cli.tiny import CONFIGURATION, Run


def pictures(folder: Path, *names: str, size: tuple[int, int] = (16, 20)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rng = torch.Generator().manual_seed(sum(name.encode()))
        bl.data.save_image(folder / name, torch.rand(1, *size, generator=rng))
    return folder


def lines(out: Path) -> list[dict]:
    return [json.loads(text) for text in (out / RECORD).read_text().splitlines()]


def results(out: Path) -> set[str]:
    found = (path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix() for path in found} - {RECORD}


def times(out: Path) -> dict[str, int]:
    return {name: (out / name).stat().st_mtime_ns for name in results(out)}


def test_a_folder_and_a_pattern_become_lines_of_json(run: Run, fit: Path, tmp_path: Path) -> None:
    folder, out = pictures(tmp_path / "in", "a.png", "b.png", "c.npy"), tmp_path / "out"
    outcome = run("reconstruct", fit, folder, f"{folder}/*.png", "--out", out, "--json")
    assert outcome.code == 0, outcome
    told = [json.loads(text) for text in outcome.out.splitlines()]
    assert [line["id"] for line in told] == ["a.png", "b.png", "c.npy"]
    assert results(out) == {"a.png", "b.png", "c.npy"}
    for line in told:
        assert line["answered"] and line["status"] == "converged" and not line["skipped"]
        assert 0 < line["certificate"]["rms"] <= 1e-3
        assert line["certificate"]["claim"] == "global"
        assert line["cost"]["steps"] < line["cost"]["gradient_evaluations"]
        assert line["cost"]["seconds"] > 0
        assert Path(line["file"]) == (folder / line["id"]).resolve()
    written = lines(out)
    assert [{**line, "skipped": False} for line in written] == told


def test_what_the_command_writes_is_what_python_computes(
    run: Run, fit: Path, tmp_path: Path
) -> None:
    folder, out = pictures(tmp_path / "in", "a.npy"), tmp_path / "out"
    assert run("reconstruct", fit, folder, "--out", out, "--accuracy", "1e-4").code == 0
    y = bl.data.load_image(folder / "a.npy")
    x = bl.load(fit).reconstruct(y, bl.Tolerance(rms=1e-4)).require().x
    difference = torch.from_numpy(np.load(out / "a.npy")) - x[0, 0]
    assert float(difference.square().mean().sqrt()) <= 2e-4


def test_a_second_run_does_nothing_and_a_third_what_has_changed(
    run: Run, fit: Path, tmp_path: Path
) -> None:
    folder, out = pictures(tmp_path / "in", "a.png", "b.png", "c.png"), tmp_path / "out"
    command = ("reconstruct", fit, folder, "--out", out)
    assert run(*command).code == 0
    before = times(out)
    outcome = run(*command, "--json")
    assert times(out) == before
    assert all(json.loads(text)["skipped"] for text in outcome.out.splitlines())
    pictures(folder, "d.png").joinpath("d.png").replace(folder / "a.png")
    (out / "b.png").write_bytes(b"something else")
    outcome = run(*command)
    assert outcome.code == 0
    assert "a.png: made again, as it was made from another file" in outcome.err
    assert "b.png: made again, as the result is not as it was written" in outcome.err
    assert {name for name, at in times(out).items() if at != before[name]} == {"a.png", "b.png"}
    assert bl.data.load_image(out / "b.png").shape == (1, 1, 16, 20)


@pytest.mark.parametrize("options", [("--accuracy", "2e-4"), ("--format", "npy"), ("--simulate",)])
def test_other_settings_make_results_again(
    options: tuple[str, ...], run: Run, fit: Path, tmp_path: Path
) -> None:
    folder, out = pictures(tmp_path / "in", "a.png"), tmp_path / "out"
    command = ("reconstruct", fit, folder, "--out", out)
    assert run(*command).code == 0
    first = lines(out)[0]
    outcome = run(*command, *options, "--json")
    assert "a.png: made again, as it was made with other settings" in outcome.err
    again = lines(out)[-1]
    assert not json.loads(outcome.out)["skipped"]
    assert again["settings"] != first["settings"]
    assert again["input"] == first["input"]
    assert all((out / name).is_file() for name in again["outputs"])


def test_another_fit_makes_results_again(run: Run, fit: Path, tmp_path: Path) -> None:
    folder, out = pictures(tmp_path / "in", "a.png"), tmp_path / "out"
    (tmp_path / "fixed.toml").write_text(CONFIGURATION)
    (tmp_path / "other.toml").write_text(CONFIGURATION.replace("0.02", "0.03"))
    (tmp_path / "titled.toml").write_text(CONFIGURATION + '[output]\ntitle = "else"\n')
    settings = set()
    for source in (fit, tmp_path / "fixed.toml", tmp_path / "other.toml"):
        assert run("reconstruct", source, folder, "--out", out).code == 0
        settings.add(lines(out)[-1]["settings"])
    assert len(settings) == 3
    assert "made again" not in run("reconstruct", source, folder, "--out", out).err
    run("reconstruct", tmp_path / "fixed.toml", folder, "--out", out)
    outcome = run("reconstruct", tmp_path / "titled.toml", folder, "--out", out, "--json")
    assert json.loads(outcome.out)["skipped"]


def test_a_broken_file_does_not_stop_the_rest(run: Run, fit: Path, tmp_path: Path) -> None:
    folder, out = pictures(tmp_path / "in", "a.png", "b.png", "c.png"), tmp_path / "out"
    whole = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(whole[:60])
    command = ("reconstruct", fit, folder, tmp_path / "missing.png", "--out", out)
    outcome = run(*command)
    assert outcome.code == 3
    owed = [text for text in outcome.err.splitlines() if text.startswith("not answered: ")]
    assert len(owed) == 2 and "b.png" in owed[0] and "missing.png" in owed[1]
    assert results(out) == {"a.png", "c.png"}
    failed = {line["id"]: line["error"] for line in lines(out) if line["status"] == "failed"}
    assert set(failed) == {"b.png", "missing.png"} and "cannot read" in failed["b.png"]
    (folder / "b.png").write_bytes(whole)
    before = times(out)
    outcome = run("reconstruct", fit, folder, "--out", out)
    assert outcome.code == 0
    after = times(out)
    assert after.pop("b.png") and after == before


def test_nothing_is_written_where_every_file_is_broken(run: Run, fit: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(b"\x89PNG")
    outcome = run("reconstruct", fit, folder, "--out", out, "--json")
    assert outcome.code == 2
    assert "nothing came of 2 pictures" in outcome.err
    assert {json.loads(text)["status"] for text in outcome.out.splitlines()} == {"failed"}
    assert not out.exists()


def test_files_of_one_name_in_two_folders_do_not_overwrite_each_other(
    run: Run, fit: Path, tmp_path: Path
) -> None:
    one, two = pictures(tmp_path / "one", "x.png"), pictures(tmp_path / "two", "x.png", "y.png")
    bl.data.save_image(two / "x.png", torch.zeros(1, 16, 20))
    out = tmp_path / "out"
    assert run("reconstruct", fit, one, two, "--out", out).code == 0
    assert results(out) == {"x.png", "two/x.png", "y.png"}
    assert float(bl.data.load_image(out / "two" / "x.png").max()) < 1e-3
    before = times(out)
    for order in ((two, one), (two,), (one,)):  # names stay with their files
        outcome = run("reconstruct", fit, *order, "--out", out)
        assert outcome.code == 0
        assert "made again" not in outcome.err
    assert times(out) == before
    three = pictures(tmp_path / "three", "x.png")
    assert run("reconstruct", fit, three, "--out", out).code == 0
    assert results(out) == {*before, "three/x.png"}
    assert times(out)["x.png"] == before["x.png"]


def test_results_among_the_pictures_are_no_pictures(run: Run, fit: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", "a.png", "b.png")
    command = ("reconstruct", fit, folder, "--format", "npy", "--out", folder)
    assert run(*command).code == 0
    before = times(folder)
    outcome = run(*command)
    assert outcome.code == 0
    assert "leaving out 2 results of an earlier run" in outcome.err
    assert times(folder) == before
    below = folder / "restored"
    command = ("reconstruct", fit, f"{folder}/**/*.png", "--out", below)
    for _ in range(2):
        assert run(*command).code == 0
        assert results(below) == {"a.png", "b.png"}
    outcome = run("reconstruct", fit, below, "--out", below)
    assert outcome.code == 2 and "only results of an earlier run" in outcome.err


def test_a_line_that_was_cut_is_left_aside(run: Run, fit: Path, tmp_path: Path) -> None:
    folder, out = pictures(tmp_path / "in", "a.png", "b.png"), tmp_path / "out"
    command = ("reconstruct", fit, folder, "--out", out)
    assert run(*command).code == 0
    text = (out / RECORD).read_text()
    (out / RECORD).write_text(text[:-40])
    outcome = run(*command)
    assert outcome.code == 0
    assert "leaving aside 1 line that cannot be read" in outcome.err
    kept = (out / RECORD).read_text().splitlines()
    assert json.loads(kept[0])["id"] == "a.png" and json.loads(kept[-1])["id"] == "b.png"
    assert len(kept) == 3


def test_quiet_and_log(run: Run, fit: Path, tmp_path: Path) -> None:
    folder, out = pictures(tmp_path / "in", "a.png", "b.png"), tmp_path / "out"
    (folder / "b.png").write_bytes(b"")
    log = tmp_path / "log.txt"
    outcome = run("reconstruct", fit, folder, "--out", out, "--quiet", "--log", log)
    assert outcome.code == 3
    assert not outcome.out
    assert outcome.err.startswith("not answered: b.png") and outcome.err.count("\n") == 1
    said = log.read_text()
    assert "b.png: cannot read" in said and f"to {out}" in said
    first = len(said.splitlines())
    run("reconstruct", fit, folder, "--out", out, "--quiet", "--log", log)
    assert len(log.read_text().splitlines()) > first
    refused = run("reconstruct", fit, folder, "--out", out, "--log", tmp_path / "no" / "log")
    assert "cannot write the log" in refused.refused()


def test_threads_and_devices(
    run: Run, fit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = pictures(tmp_path / "in", "a.png"), tmp_path / "out"
    before, seen = torch.get_num_threads(), list[int]()
    monkeypatch.setattr(
        reconstructing, "from_files", lambda *given, **options: seen.append(torch.get_num_threads())
    )
    command = ("reconstruct", fit, folder, "--out", out)
    assert run(*command, "--threads", before + 1, "--device", "cpu").code == 0
    assert seen == [before + 1] and torch.get_num_threads() == before
    assert "--threads" in run(*command, "--threads", 0).refused()
    assert "--device nonsense cannot be used" in run(*command, "--device", "nonsense").refused()


def test_data_in_another_unit_than_the_fit_is_for_are_named(
    run: Run, fit: Path, tmp_path: Path
) -> None:
    y = bl.data.shepp_logan(16)[0, 0].double().numpy() + 0.1
    flat = 0.3 + 0.01 * np.random.default_rng(0).random((16, 16))
    for name, image in (("same", y), ("flat", flat), ("other", 255 * y)):
        np.save(tmp_path / f"{name}.npy", image)
    for name in ("same", "flat"):
        said = run("reconstruct", fit, tmp_path / f"{name}.npy", "--out", tmp_path / "a").err
        assert "contrast" not in said
    said = run("reconstruct", fit, tmp_path / "other.npy", "--out", tmp_path / "b").err
    assert "warning: other.npy: these images have a contrast of" in said


def test_a_stack_is_one_file_of_many_pages(run: Run, fit: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    still = rng.random((16, 20))
    np.save(tmp_path / "film.npy", np.stack([still + 0.01 * rng.random((16, 20))] * 3))
    command = ("reconstruct", fit, tmp_path / "film.npy", "--layout", "stack", "--out")
    outcome = run(*command, tmp_path / "out", "--json")
    assert outcome.code == 0
    told = [json.loads(text) for text in outcome.out.splitlines()]
    assert [line["id"] for line in told] == ["film.npy#1", "film.npy#2", "film.npy#3"]
    assert [line["page"] for line in told] == [1, 2, 3]
    assert np.load(tmp_path / "out" / "film.npy").shape == (3, 16, 20)
    outcome = run(*command, tmp_path / "out", "--json")
    assert [json.loads(text)["skipped"] for text in outcome.out.splitlines()] == [True] * 3


def test_pages_begin_where_the_one_before_ended_if_that_is_nearer(
    run: Run, fit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruction, "_PIXELS", 1)  # one page after the other
    rng = np.random.default_rng(0)
    still, other = rng.random((16, 20)), 1 - rng.random((16, 20))
    np.save(tmp_path / "film.npy", np.stack([still, still, other]))
    np.save(tmp_path / "alone.npy", other)
    arguments = ("--layout", "stack", "--out", tmp_path / "out", "--json")
    files = (tmp_path / "film.npy", tmp_path / "alone.npy")
    outcome = run("reconstruct", fit, *files, *arguments)
    first, same, third, alone = (json.loads(text)["cost"] for text in outcome.out.splitlines())
    assert same["steps"] == 0 < first["steps"]
    assert third["steps"] == alone["steps"]


def test_an_interrupt_loses_one_picture_and_a_second_run_finishes_the_rest(
    run: Run, fit: Path, tmp_path: Path
) -> None:
    names = [f"{k}.png" for k in range(6)]
    folder, out = pictures(tmp_path / "in", *names, size=(320, 320)), tmp_path / "out"
    arguments = ["reconstruct", str(fit), str(folder), "--out", str(out), "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments, "--accuracy", "1e-4"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    first = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=60)
    done = [*first, *map(json.loads, rest.splitlines())]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert f"interrupted: {len(done)} of 6 pictures are in {out}" in said
    assert results(out) == {line["id"] for line in done}
    before = times(out)
    again = run(*arguments, "--accuracy", "1e-4")
    told = {line["id"]: line["skipped"] for line in map(json.loads, again.out.splitlines())}
    assert told == {name: name in before for name in names}
    assert results(out) == set(names)
    assert {name: at for name, at in times(out).items() if name in before} == before
    assert {line["id"] for line in lines(out)} == set(names)
    assert len(lines(out)) == 6


def test_weights_left_to_the_data_are_those_of_each_picture(run: Run, tmp_path: Path) -> None:
    text = CONFIGURATION.replace("weight = 0.02\nsmoothing = 0.05\n", "")
    (tmp_path / "left.toml").write_text(text)
    x = torch.rand(16, 20, generator=torch.Generator().manual_seed(0)).double()
    for name, scale in (("a.npy", 1.0), ("b.npy", 100.0)):
        np.save(tmp_path / name, (scale * x).numpy())
    found = {}
    for order in (("a.npy", "b.npy"), ("b.npy", "a.npy")):
        out = tmp_path / order[0]
        files = [tmp_path / name for name in order]
        run("reconstruct", tmp_path / "left.toml", *files, "--out", tmp_path / "-".join(order))
        out = tmp_path / "-".join(order)
        found[order] = [np.load(out / name) for name in ("a.npy", "b.npy")]
        one, other = found[order]
        assert np.abs(100 * one - other).max() < 0.5
    for one, other in zip(*found.values(), strict=True):
        assert (one == other).all()


def test_memory_is_that_of_one_picture(fit: Path, tmp_path: Path) -> None:
    program = PROGRAM.replace(
        "sys.exit(main())",
        "import resource\ncode = main()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\nsys.exit(code)",
    )
    peaks = []
    for count in (2, 10):
        names = [f"{k}.npy" for k in range(count)]
        folder = pictures(tmp_path / str(count), *names, size=(480, 480))
        arguments = ["reconstruct", str(fit), str(folder), "--out", str(tmp_path / f"out{count}")]
        found = subprocess.run(
            [sys.executable, "-c", program, *arguments, "--accuracy", "0.3", "--json"],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=True,
        )
        peaks.append(int(found.stdout.splitlines()[-1]))
    picture = 480 * 480 * 8 / 1024  # KiB
    assert peaks[1] - peaks[0] < 5 * picture  # and not 8 of them, in and out

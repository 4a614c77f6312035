"""Reproductions of papers: found, run at the smallest size, written; and what may go wrong."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import bilevel as bl
from bilevel.cli import main, reproducing
from bilevel.ground.errors import InputError
from bilevel.report.reproduction import Job, Picture, Reproduction, Results, Table
from bilevel.report.reproduction_page import UNKNOWN, reproduction_markdown

FOLDER = Path(__file__).parents[2] / "reproductions"
NAMES = reproducing.names(FOLDER)


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BILEVEL_DATA", raising=False)


def ready(name: str) -> Reproduction:
    found = reproducing.load(FOLDER, name)
    for package in found.packages:
        pytest.importorskip(package)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_smoke(name: str, tmp_path: Path) -> None:
    """The whole path at next to no size: numbers, tables, pictures, both pages."""
    reproduction, told = ready(name), []
    job = Job(tmp_path, "smoke", progress=lambda done, what: told.append(done))
    reproducing.write(reproduction, reproducing.measured(reproduction, job), tmp_path)
    results = Results.read(tmp_path / "results.json")
    assert results.numbers and results.tables and results.findings and results.pictures
    for picture in results.pictures:
        assert (tmp_path / picture.file).read_bytes().startswith(b"\x89PNG")
    for table in results.tables:
        assert {len(row) for row in table.rows} == {len(table.header)}
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "quick form" in page and reproduction.paper in page
    assert results.findings[0] in page
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("<html") == 1
    assert told == sorted(told)
    assert told[0] >= -1e-9 and told[-1] <= 1 + 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_quick_form(name: str, tmp_path: Path) -> None:
    reproduction = ready(name)
    assert main(["reproduce", name, "--quick", "--out", str(tmp_path), "--quiet"]) == 0
    assert reproduction.title in (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_what_its_script_and_its_results_say(name: str) -> None:
    results = Results.read(FOLDER / name / "results.json")
    written = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    assert written == reproduction_markdown(reproducing.load(FOLDER, name), results)
    for picture in results.pictures:
        assert (FOLDER / name / picture.file).stat().st_size > 500


def test_the_overview_names_all() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"]({name})" in text


def test_without_a_name_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce"]) == 0
    said = capsys.readouterr().out
    for name in NAMES:
        assert any(line.startswith(name) and line.endswith(")") for line in said.splitlines())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("kunisch-pok-2013",), "kunisch-pock-2013"),
        (("kunisch",), "did you mean 'kunisch-pock-2013'?"),
        (("kunisch-pock-2013",), "bsds500 and bsd68"),
        (("bengio-2000", "--data", "."), "brings its data; leave out --data"),
        (("bengio-2000", "--quick", "--minutes", "1"), "leave out --minutes"),
        (("bengio-2000", "--page", "--quick"), "--page runs nothing"),
        (("kunisch-pock-2013", "--data", "nowhere"), "does not exist"),
        (("kunisch-pock-2013", "--data", "."), "must hold bsds500"),
        (("semi-blind", "--quick", "--data", "."), "leave out --data, or --quick"),
        (("semi-blind", "--quick", "--minutes", "0"), "--minutes"),
        (("semi-blind", "--quick", "--go-on"), "no run has left fits"),
        (("semi-blind", "--page", "--go-on"), "--page runs nothing"),
        (("--quick",), "which paper"),
    ],
)
def test_refused_before_any_work(
    options: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *options]) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_where_there_is_no_clone_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bl, "__file__", str(tmp_path / "site" / "lib" / "bilevel" / "a.py"))
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce"]) == 2
    assert "clone the repository" in capsys.readouterr().err
    monkeypatch.chdir(FOLDER.parent)
    assert reproducing.find() == FOLDER


SCRIPT = """
from bilevel.report.reproduction import Job, Reproduction, Results


def run(job: Job) -> Results:
    raise KeyboardInterrupt


REPRODUCTION = Reproduction("one", "One", "A paper.", ["It did."], ["We do."], run)
"""


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of reproductions with a script that is interrupted."""
    script = tmp_path / "papers" / "one" / "reproduce.py"
    script.parent.mkdir(parents=True)
    script.write_text(SCRIPT)
    monkeypatch.setattr(reproducing, "find", lambda: tmp_path / "papers")
    return script


def test_ctrl_c(one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "one", "--quick", "--out", str(tmp_path / "out")]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_words_change_without_a_run(
    one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["reproduce", "one", "--page", "--out", str(out)]) == 2
    assert "cannot read results" in capsys.readouterr().err
    out.mkdir()
    Results({"x": 1}, findings=["One is one."]).write(out / "results.json")
    assert main(["reproduce", "one", "--page", "--out", str(out)]) == 0
    assert "One is one." in (out / "README.md").read_text(encoding="utf-8")
    assert "One is one." in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_package", "no_such_package"),
        ("REPRODUCTION = 3", "must define REPRODUCTION"),
        (SCRIPT.replace('"one"', '"two"'), "must define REPRODUCTION"),
    ],
)
def test_scripts_that_are_none(
    one: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one.write_text(text)
    assert main(["reproduce", "one", "--quick"]) == 2
    assert words in capsys.readouterr().err


def test_packages_that_miss_are_named(
    one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one.write_text(SCRIPT.replace("run)", 'run, packages=["no_such_package"])'))
    assert main(["reproduce", "one", "--quick", "--out", str(tmp_path / "out")]) == 2
    assert "needs the package no_such_package" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_fit_that_is_interrupted_ends_the_reproduction(tmp_path: Path) -> None:
    problem, job = _problem(), Job(tmp_path, "smoke", progress=_stop)
    with pytest.raises(KeyboardInterrupt):
        job.learn("a fit: p = 1/2", problem, budget=bl.Budget(steps=3), keep=True)
    assert bl.load(tmp_path / "fits" / "a-fit-p-=-1-2").theta.keys() == problem.theta.keys()


def _problem(weight: float = 0.01) -> bl.BilevelProblem:
    images = bl.data.shepp_logan(16)
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(weight, 0.01))
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


def _learned(folder: Path, what: str = "fit", weight: float = 0.01, **options: Any) -> bool:
    """Whether something was learned, and not taken."""
    told: list[str] = []
    job = Job(folder, "smoke", go_on=True, progress=lambda done, what: told.append(what))
    options = {"budget": bl.Budget(steps=2), **options}
    fit = job.learn(what, _problem(weight), keep=True, **options)
    assert fit.theta.keys() == _problem().theta.keys()
    return bool(told)


def test_fits_are_taken_where_the_same_is_asked_for(tmp_path: Path) -> None:
    assert _learned(tmp_path)
    assert not _learned(tmp_path)
    assert _learned(tmp_path, budget=bl.Budget(steps=1))
    assert _learned(tmp_path, method=bl.algorithms.MAID())
    assert _learned(tmp_path)
    assert _learned(tmp_path, theta0={"regulariser.log_weight": torch.tensor(-4.0)})
    assert _learned(tmp_path, weight=0.02)
    assert not _learned(tmp_path, weight=0.02)


def test_fits_of_two_numbers_are_taken_too(tmp_path: Path) -> None:
    fitting = bl.pretraining.ScalarFit(["log_weight"])
    assert _learned(tmp_path, method=fitting)
    assert not _learned(tmp_path, method=fitting)


def test_fits_that_were_not_finished_are_learned_anew(tmp_path: Path) -> None:
    assert _learned(tmp_path)
    note = tmp_path / "fits" / "fit" / "asked.json"
    note.write_text(note.read_text()[:40])
    assert _learned(tmp_path)
    stopped = Job(tmp_path, "smoke", progress=_stop)
    with pytest.raises(KeyboardInterrupt):
        stopped.learn("fit", _problem(), budget=bl.Budget(steps=2), keep=True)
    assert _learned(tmp_path)


def _stop(done: float, what: str) -> None:
    if "step 1" in what:
        raise KeyboardInterrupt


def test_parts_of_a_job_share_its_progress(tmp_path: Path) -> None:
    told: list[float] = []
    job = Job(tmp_path, progress=lambda done, what: told.append(done)).part(0.5, 1.0)
    job.part(0.0, 0.5).progress(0.5, "half of a quarter")
    job.progress(7.0, "more than all")
    assert told == [0.625, 1.0]
    with pytest.raises(InputError, match="scale"):
        Job(tmp_path, "huge")


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    table = Table("a", ["b", "c"], [["d", "e"]])
    found = Results({"x": [1, math.inf]}, [table], ["f"], ["g"], [Picture("p.png", "h")])
    again = Results.read(found.write(tmp_path / "results.json"))
    assert again.numbers == {"x": [1, "inf"]}
    assert (again.tables, again.pictures) == ([table], [Picture("p.png", "h")])
    (tmp_path / "results.json").write_text('{"numbers": 3}')
    with pytest.raises(InputError, match="numbers"):
        Results.read(tmp_path / "results.json")
    with pytest.raises(InputError, match="cannot read"):
        Results.read(tmp_path / "nothing.json")


def test_the_page_says_plainly_where_it_falls_short() -> None:
    paper = Reproduction("a", "A", "B.", ["C."], ["D."], lambda job: Results({}))
    assert UNKNOWN in reproduction_markdown(paper, Results({}))
    full = Results({}, short=["1 dB below."], about={"scale": "full"})
    assert "- 1 dB below." in reproduction_markdown(paper, full)
    assert "quick form" in reproduction_markdown(paper, Results({}, about={"scale": "quick"}))


@pytest.mark.parametrize("scale", ["quick", "smoke", "full"])
def test_the_page_says_what_was_run_at_its_scale(scale: str) -> None:
    paper = Reproduction("a", "A", "B.", ["C."], ["On BSD68."], lambda job: Results({}))
    text = reproduction_markdown(paper, Results({}, about={"scale": scale}))
    under = "What is run here" if scale == "full" else "What the full form runs"
    assert f"## {under}\n\nOn BSD68." in text
    assert ("The same in small" in text) == (scale != "full")


def test_time_left_is_told() -> None:
    clock = reproducing.Elapsed()
    clock.start -= 10
    assert clock.left(0.5).endswith("10.0 s left")
    assert clock.left(0.0) == clock.left(1.0) == ""


def test_bsd68_is_read_when_learning_has_ended(tmp_path: Path) -> None:
    """The last forty pictures validate; the test folder is not looked at before it is asked for."""
    reproducing.load(FOLDER, "kunisch-pock-2013")
    import denoising

    for part, count in (("bsds500/test", 30), ("bsds500/train", 15)):
        (tmp_path / part).mkdir(parents=True)
        for k in range(count):
            image = torch.full((1, 1, 170, 180), k / 64)
            bl.data.save_image(tmp_path / part / f"{k:03}.png", image)
    data = denoising.pictures(Job(tmp_path, data=tmp_path), size=16, count=10)
    assert [name for name, _ in data.validation] == [
        *(f"test/{k:03}" for k in range(5, 30)),
        *(f"train/{k:03}" for k in range(15)),
    ]
    assert {name.partition("#")[0] for name in data.samples["crops"].ids} == {
        f"test/{k:03}" for k in range(5)
    }
    (tmp_path / "bsd68").mkdir()
    bl.data.save_image(tmp_path / "bsd68" / "one.png", torch.zeros(1, 1, 170, 180))
    assert [name for name, _ in data.test()] == ["bsd68/one"]

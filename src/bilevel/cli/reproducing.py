"""Finding the reproductions of papers, running one, and writing its page."""

from __future__ import annotations

import importlib.util
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bilevel.cli.console import check_writable, say
from bilevel.data import find_data
from bilevel.ground.checks import check_choice
from bilevel.ground.errors import InputError
from bilevel.report.page import write_page
from bilevel.report.provenance import versions
from bilevel.report.reproduction import Job, Reproduction, Results
from bilevel.report.reproduction_page import reproduction_markdown, reproduction_page
from bilevel.report.words import duration

__all__ = [
    "Elapsed",
    "find",
    "load",
    "measured",
    "names",
    "rewrite",
    "rows",
    "run_and_report",
    "write",
]

SCRIPT = "reproduce.py"
_FOLDER = "reproductions"
_SILENCE = 10.0  # seconds between lines where nobody looks


def find() -> Path:
    """The folder of the reproductions: beside the source that runs, else in the folder one is in.

    Raises:
        InputError: neither is there, as in an installation from a wheel.
    """
    import bilevel

    beside = Path(bilevel.__file__).resolve().parents[2] / _FOLDER
    for folder in (beside, Path.cwd() / _FOLDER):
        if next(folder.glob(f"*/{SCRIPT}"), None) is not None:
            return folder
    what = "the reproductions are not part of an installed package"
    advice = "clone the repository of bilevel, and run this inside of the clone"
    raise InputError(what, advice=advice)


def names(folder: Path) -> list[str]:
    """Of all reproductions, sorted."""
    return sorted(script.parent.name for script in folder.glob(f"*/{SCRIPT}"))


def load(folder: Path, name: str) -> Reproduction:
    """The ``REPRODUCTION`` of a script, which imports from its own folder and from that of all.

    Raises:
        InputError: no reproduction of that name, or a script that cannot be imported.
    """
    check_choice(name, names(folder), "reproduction")
    for place in (folder, folder / name):
        if str(place) not in sys.path:
            sys.path.insert(0, str(place))
    spec = importlib.util.spec_from_file_location(
        f"reproductions.{name.replace('-', '_')}", folder / name / SCRIPT
    )
    if spec is None or spec.loader is None:
        raise InputError(f"cannot read '{folder / name / SCRIPT}'")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except ImportError as problem:
        advice = "pip install 'bilevel[test]' brings what reproductions need"
        raise InputError(f"cannot import {name}/{SCRIPT}: {problem}", advice=advice) from problem
    found: object = getattr(module, "REPRODUCTION", None)
    if not isinstance(found, Reproduction) or found.name != name:
        raise InputError(f"{name}/{SCRIPT} must define REPRODUCTION, of the name of its folder")
    return found


class Elapsed:
    """Says how much is done and about how long the rest takes; where nobody looks, now and then."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.said = -math.inf

    def __call__(self, done: float, what: str) -> None:
        """``done`` of 1, now doing ``what``."""
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if now < self.said + (0.2 if terminal else _SILENCE):
            return
        self.said = now
        text = f"{100 * done:3.0f} %{self.left(done)}  {what}"
        say(text[:100].ljust(100) if terminal else text, end="\r" if terminal else "\n")

    def left(self, done: float) -> str:
        """In words; nothing before a hundredth is done."""
        spent = time.monotonic() - self.start
        return f", {duration(spent * (1 - done) / done)} left" if 0.01 < done < 1 else ""


def run_and_report(
    folder: Path,
    name: str,
    *,
    quick: bool,
    out: Path | None,
    data: str | None,
    minutes: float | None,
    go_on: bool = False,
) -> Path:
    """Run one and write results.json, README.md, report.html and pictures; returns their folder.

    Raises:
        InputError: no such reproduction, no data where they are needed, no fits to go on from, or
            packages that miss.
    """
    reproduction = load(folder, name)
    where = check_writable(_place(name, out))
    if minutes is not None and not reproduction.timed:
        what = f"{name} learns by numbers of steps, not by time"
        raise InputError(what, advice="leave out --minutes")
    if go_on and not (where / "fits").is_dir():
        what, advice = f"no run has left fits in '{where}'", "leave out --go-on, or check --out"
        raise InputError(what, advice=advice)
    job = Job(
        where,
        "quick" if quick else "full",
        _data(reproduction, data, quick=quick),
        minutes,
        go_on,
        Elapsed(),
    )
    for package in reproduction.packages:
        if importlib.util.find_spec(package) is None:
            what = f"{name} needs the package {package}"
            raise InputError(what, advice="pip install 'bilevel[test]'")
    where.mkdir(parents=True, exist_ok=True)
    say(f"{name}: {reproduction.title} ({'quick' if quick else reproduction.full})")
    write(reproduction, measured(reproduction, job), where)
    return where


def rewrite(folder: Path, name: str, out: Path | None) -> Path:
    """The pages anew from results that are there, after a change of words; returns their folder.

    Raises:
        InputError: no such reproduction, or no results.
    """
    reproduction, where = load(folder, name), _place(name, out)
    write(reproduction, Results.read(where / "results.json"), where)
    return where


def _place(name: str, out: Path | None) -> Path:
    return Path("runs") / name if out is None else out


def measured(reproduction: Reproduction, job: Job) -> Results:
    """What the run finds, with what it depends on."""
    import torch

    start, processor = time.monotonic(), time.process_time()
    found = reproduction.run(job)
    about = {
        "scale": job.scale,
        "seconds": time.monotonic() - start,
        "processor seconds": time.process_time() - processor,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    return replace(found, about={**found.about, **about})


def write(reproduction: Reproduction, results: Results, folder: Path) -> None:
    """The results and both pages; the page is made from the results as they stand in the file."""
    kept = Results.read(results.write(folder / "results.json"))
    (folder / "README.md").write_text(reproduction_markdown(reproduction, kept), encoding="utf-8")
    write_page(folder / "report.html", reproduction_page(reproduction, kept, folder))


def _data(reproduction: Reproduction, data: str | None, *, quick: bool) -> Path | None:
    if quick:
        if data is not None:
            what = "--quick takes the embedded pictures"
            raise InputError(what, advice="leave out --data, or --quick")
        return None
    if not reproduction.needs:
        if data is not None:
            raise InputError(f"{reproduction.name} brings its data", advice="leave out --data")
        return None
    folder = find_data(data)
    listed = _listed(reproduction.needs)
    if folder is None:
        what = f"{reproduction.name} learns from files"
        advice = f"give --data FOLDER, a folder that holds {listed}, or try --quick"
        raise InputError(what, advice=advice)
    for need in reproduction.needs:
        if next((folder / need).rglob("*.png"), None) is None:
            what = f"the data folder must hold {listed}, with PNG images in or below them"
            raise InputError(what, given=str(folder))
    return folder


def _listed(needs: Sequence[str]) -> str:
    *most, last = needs
    return f"{', '.join(most)} and {last}" if most else last


def rows(folder: Path) -> list[tuple[str, str, str]]:
    """Name, title and time of all, for the list."""
    found: list[tuple[str, str, str]] = []
    for name in names(folder):
        one: Any = load(folder, name)
        found.append((name, one.title, one.full))
    return found

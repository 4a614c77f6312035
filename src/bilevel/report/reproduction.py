"""What a reproduction of a paper is: what it says of the paper, how it is run, what comes out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from bilevel.ground.checks import check_choice
from bilevel.ground.errors import InputError
from bilevel.ground.typed import made, parsed, table
from bilevel.learn import Budget, Fit, Record, Status, learn, pretrain
from bilevel.learn.pretraining import Method
from bilevel.report.kept import Asked, kept

if TYPE_CHECKING:
    from bilevel.ground.theta import Theta
    from bilevel.learn import Algorithm, BilevelProblem, Problem

__all__ = ["SCALES", "Job", "Known", "Picture", "Reproduction", "Results", "Table"]

T = TypeVar("T")
Scale = Literal["full", "quick", "smoke"]
SCALES = ("full", "quick", "smoke")


def _silent(done: float, what: str) -> None:
    del done, what


@dataclass(frozen=True)
class Known:
    """A figure of the paper: of what, how much, and where it stands."""

    what: str
    value: str
    source: str


@dataclass(frozen=True)
class Table:
    """Cells of text under a header; the numbers behind them are in the results."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """With the first column to the left.

        Example:
            >>> print(Table("Errors", ["", "rms"], [["TV", "0.1"]]).markdown())
            |  | rms |
            | --- | --- |
            | TV | 0.1 |
        """
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@dataclass(frozen=True)
class Picture:
    """A PNG in the folder of the results, and what it shows."""

    file: str
    caption: str


@dataclass(frozen=True)
class Results:
    """What a run found.

    Attributes:
        numbers: plain data, all that was measured.
        tables: what a reader compares.
        findings: sentences made from the numbers.
        short: plain sentences, where it falls short of the paper.
        pictures: files beside the results.
        about: scale, seconds and versions, written by whoever ran it.
    """

    numbers: Mapping[str, Any]
    tables: Sequence[Table] = ()
    findings: Sequence[str] = ()
    short: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def write(self, path: Path) -> Path:
        """As JSON; a number that is not finite becomes a word."""
        text = json.dumps(_plain(asdict(self)), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        return path

    @staticmethod
    def read(path: Path) -> Results:
        """The inverse of :meth:`write`.

        Raises:
            InputError: a file that holds something else.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as problem:
            raise InputError(f"cannot read results from '{path}'", given=str(problem)) from problem
        data = table(parsed(text), path.name)
        kinds = {"tables": Table, "pictures": Picture}
        for key, kind in kinds.items():
            what = f"one of the {key} of {path.name}"
            data[key] = [made(kind, table(entry, what), what) for entry in data.get(key, ())]
        return made(Results, data, path.name)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in cast(Sequence[Any], value)]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Job:
    """How a reproduction is to run: it asks for sizes, tells how far it is, and learns.

    Attributes:
        out: folder for pictures and fits, which exists.
        scale: "full", "quick" (embedded pictures, less than two minutes) or "smoke" (for tests:
            the same path on next to nothing).
        data: folder of the data sets; None where pictures are the embedded ones.
        minutes: how long learning may take in all; the script's own figure if None.
        go_on: whether fits in ``out`` that were learned to their ends are taken, where the same
            is asked for.
        progress: called with how much is done, from 0 to 1, and what is being done.

    Raises:
        InputError: an unknown scale.

    Example:
        >>> Job(Path("runs"), "quick").pick(full=100, quick=10, smoke=1)
        10
    """

    out: Path
    scale: Scale = "full"
    data: Path | None = None
    minutes: float | None = None
    go_on: bool = False
    progress: Callable[[float, str], None] = _silent

    def __post_init__(self) -> None:
        """Check the scale."""
        check_choice(self.scale, SCALES, "scale")

    def pick(self, *, full: T, quick: T, smoke: T) -> T:
        """What belongs to the scale."""
        return {"full": full, "quick": quick, "smoke": smoke}[self.scale]

    def seconds(self, *, full: float, quick: float, smoke: float = 10.0) -> float:
        """For learning in all: minutes of the user, or what belongs to the scale."""
        if self.minutes is not None:
            return 60 * self.minutes
        return self.pick(full=full, quick=quick, smoke=smoke)

    def part(self, begin: float, end: float) -> Job:
        """The same whose 0 to 1 are ``begin`` to ``end`` here."""

        def told(done: float, what: str) -> None:
            self.progress(begin + (end - begin) * min(max(done, 0.0), 1.0), what)

        return replace(self, progress=told)

    def learn(
        self,
        what: str,
        problem: Problem,
        method: Algorithm[Any] | Method | None = None,
        theta0: Theta | None = None,
        *,
        budget: Budget,
        keep: bool = False,
    ) -> Fit:
        """Learning or pretraining that tells its progress; with ``keep`` the fit is saved.

        Raises:
            KeyboardInterrupt: on Ctrl-C, which ends the reproduction and not just this fit.
        """
        place = self.out / "fits" / re.sub(r"[^\w.,=]+", "-", what) if keep else None

        def record(line: Record) -> None:
            used = line.cost.seconds / budget.seconds, line.step / budget.steps
            self.progress(max(used), f"{what}, step {line.step}, loss {line.value:.3e}")

        def learned() -> Fit:
            self.progress(0.0, what)
            how: dict[str, Any] = {"budget": budget, "record": record, "checkpoint": place}
            if isinstance(method, Method):
                fit = pretrain(cast("BilevelProblem", problem), method, theta0, **how)
            else:
                fit = learn(problem, method, theta0, **how)
            if fit.status is Status.INTERRUPTED:
                raise KeyboardInterrupt
            self.progress(1.0, what)
            return fit

        if place is None:
            return learned()
        asked = Asked.of(problem, method, theta0, budget)
        return kept(place, asked, learned, take=self.go_on)


@dataclass(frozen=True)
class Reproduction:
    """What ``bilevel reproduce`` needs to know, the ``REPRODUCTION`` of a script.

    Attributes:
        name: of its folder.
        title: a line for the list.
        paper: authors, year, title, where.
        did: what the paper did, in sentences.
        here: what is run here, in sentences.
        run: runs it.
        known: figures of the paper; empty where none is known to us.
        needs: folders of the data that a full run reads; empty if it brings its own.
        full: about how long it takes on two cores.
        packages: that it imports beside those of bilevel.
        timed: whether learning ends by a time, which ``--minutes`` sets.
    """

    name: str
    title: str
    paper: str
    did: Sequence[str]
    here: Sequence[str]
    run: Callable[[Job], Results]
    known: Sequence[Known] = ()
    needs: Sequence[str] = ()
    full: str = "minutes"
    packages: Sequence[str] = ()
    timed: bool = False

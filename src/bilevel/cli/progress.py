"""Progress of learning and of reconstruction on standard error: live in a terminal, else lines."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from statistics import median
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from torch import Tensor

from bilevel.cli.console import quiet, say
from bilevel.ground.memory import peak_memory
from bilevel.learn import Budget, Record
from bilevel.model import Cost
from bilevel.report.words import duration, number, plural

__all__ = ["Bar", "Counter", "LearningProgress", "WeightProgress"]

_SHOWN = 12
_SILENCE, _LONG_SILENCE = 2.0, 10.0  # seconds
_COLUMNS = (
    ("step", 4),
    ("loss", 10),
    ("PSNR [dB]", 9),
    ("ε asked", 8),
    ("certified", 9),
    ("gradient ± its error", 32),
    ("gradients", 10),
    ("time", 10),
)


class LearningProgress:
    """One row for every outer step; in a terminal with a bar that shows the budget.

    ``after`` is the last line of a fit that goes on: the budget counts from there.
    """

    def __init__(self, budget: Budget, after: Record | None = None) -> None:
        self.budget = budget
        self.steps = 0 if after is None else after.step
        self.gradients = 0 if after is None else after.cost.gradient_evaluations
        self.console = Console(stderr=True, highlight=False)
        self.rows: deque[list[str]] = deque(maxlen=_SHOWN)
        self.last: Record | None = None
        self.start = time.monotonic()
        self.live = Live(self, console=self.console, auto_refresh=True, transient=False)

    def __enter__(self) -> LearningProgress:
        """Start the clock."""
        if self.console.is_terminal:
            self.live.start()
        else:
            self._line([heading for heading, _ in _COLUMNS])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last rows on the screen."""
        if self.console.is_terminal:
            self.live.stop()

    def __call__(self, record: Record) -> None:
        """Show one more step."""
        self.last = record
        row = cells(record)
        self.rows.append(row)
        if not self.console.is_terminal:
            self._line(row)

    def _line(self, row: list[str]) -> None:
        padded = (cell.rjust(width) for cell, (_, width) in zip(row, _COLUMNS, strict=True))
        say("  ".join(padded))

    def __rich__(self) -> Group:
        """The last rows, and how much of the budget is used."""
        table = Table(box=None, pad_edge=False)
        for heading, _ in _COLUMNS:
            table.add_column(escape(heading), justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        return Group(table, self._bar())

    def _bar(self) -> Table:
        seconds, steps = time.monotonic() - self.start, 0
        spent = Cost(seconds=seconds)
        if self.last is not None:
            steps = self.last.step - self.steps
            spent.gradient_evaluations = self.last.cost.gradient_evaluations - self.gradients
        used, left = self.budget.share(spent, steps), self.budget.left(spent, steps)
        limit = f" of {duration(self.budget.seconds)}" if math.isfinite(self.budget.seconds) else ""
        rest = f", about {duration(left)} left" if steps and math.isfinite(left) else ""
        grid = Table.grid(padding=(0, 1))
        hint = Text("Ctrl-C stops and keeps the best so far", style="dim")
        grid.add_row(
            ProgressBar(total=1.0, completed=used, width=30),
            f"{duration(seconds)}{limit}{rest}",
            hint,
        )
        return grid


def cells(record: Record) -> list[str]:
    """One row of the table of progress."""
    return [
        str(record.step),
        f"{record.value:.3e}",
        "" if math.isnan(record.psnr) else f"{record.psnr:.3f}",
        f"{record.accuracy:.1e}",
        f"{record.certificate:.1e}" if math.isfinite(record.certificate) else "not proved",
        _gradient(record),
        str(record.cost.gradient_evaluations),
        duration(record.cost.seconds),
    ]


def _gradient(record: Record) -> str:
    """Its norm and error; nothing where none was computed."""
    norm = record.gradient_norm
    return "" if math.isnan(norm) else f"{norm:.1e} ± {_error(record)}"


def _error(record: Record) -> str:
    """The proved error if it says that the gradient is right, else the best that is known."""
    proved = f"{record.error:.1e} (proved)"
    if record.error <= record.gradient_norm or math.isnan(record.estimate):
        return proved if math.isfinite(record.error) else "not proved"
    return f"{record.estimate:.1e} (estimated)"


class Counter:
    """So many of so many images done."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done = what, total, 0
        self.console = Console(stderr=True, highlight=False)

    def __call__(self, count: int) -> None:
        """Some more are done."""
        self.done += count
        ended = self.done >= self.total
        if self.console.is_terminal:
            say(f"{self.what}: {self.done} of {self.total}", end="\n" if ended else "\r")
        elif ended:
            say(f"{self.what}: {self.total}")


class Bar:
    """How many of a batch are done and about how long the rest takes, told from sizes of files.

    A bar in a terminal if it is ``live``, elsewhere a line now and then. Before most of the work, a
    line says what time and memory it takes: after the second picture, as the first may have been
    slowed down by what happens once, or after the first where that took long.
    """

    def __init__(self, what: str, sizes: Sequence[int], *, live: bool) -> None:
        self.what, self.sizes, self.done = what, sizes, 0
        self.rates: deque[float] = deque(maxlen=_SHOWN)
        """Of the last ones [second a byte]."""
        self.estimated = False
        self.console = Console(stderr=True, highlight=False)
        self.start = self.said = self.last = time.monotonic()
        live = live and self.console.is_terminal and not quiet() and len(sizes) > 1
        shown = Live(self, console=self.console, refresh_per_second=2, redirect_stdout=False)
        self.live = shown if live else None

    def __enter__(self) -> Bar:
        """Start the clock."""
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last state on the screen."""
        if self.live is not None:
            self.live.stop()

    def __call__(self, *, timed: bool) -> None:
        """The next picture is done; ``timed`` if it tells how long others take."""
        now = time.monotonic()
        took, self.last = now - self.last, now
        if timed:
            self.rates.append(took / self.sizes[self.done])
        self.done += 1
        left = len(self.sizes) - self.done
        if timed and left and not self.estimated:
            if len(self.rates) > 1 or took > _LONG_SILENCE:
                self._estimate(took, left)
        elif left and self.live is None and now > self.said + _LONG_SILENCE:
            self._say(f"{self.what}: {self._text()}")
        elif not left and self.live is None and self.done > 1:
            self._say(f"{self.what}: {self.done}")

    @property
    def seconds_left(self) -> float:
        """For the rest; nan if nothing is known."""
        return median(self.rates) * sum(self.sizes[self.done :]) if self.rates else math.nan

    def _estimate(self, took: float, left: int) -> None:
        self.estimated = True
        memory = peak_memory()
        peak = "" if memory is None else f" and at most {memory / 2**20:.0f} MiB of memory so far"
        rest = f"{plural(left, 'more picture')}: about {duration(self.seconds_left)}"
        self._say(f"{self.what}: {duration(took)}{peak} for a picture; {rest}")

    def _say(self, text: str) -> None:
        self.said = self.last
        say(text)

    def _text(self) -> str:
        rest = "" if math.isnan(self.seconds_left) else f", {duration(self.seconds_left)} left"
        return f"{self.done} of {len(self.sizes)}{rest}"

    def __rich__(self) -> Table:
        """The bar, and the time left."""
        grid = Table.grid(padding=(0, 1))
        hint = Text("Ctrl-C keeps what is done", style="dim")
        bar = ProgressBar(total=len(self.sizes), completed=self.done, width=30)
        grid.add_row(escape(self.what), bar, self._text(), hint)
        return grid


class WeightProgress:
    """How many weights a rule has tried; where nobody looks, a line every few seconds."""

    def __init__(self, what: str) -> None:
        self.what, self.tried = what, 0
        self.console = Console(stderr=True, highlight=False)
        self.start = self.said = time.monotonic()

    def __enter__(self) -> WeightProgress:
        """Say what begins."""
        self._say(self.what)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave one line that sums up, if the work was worth one."""
        seconds = time.monotonic() - self.start
        if self.console.is_terminal or (self.tried and seconds > _SILENCE):
            self._line(f"{plural(self.tried, 'weight')} tried in {duration(seconds)}", end="\n")

    def __call__(self, weight: Tensor, value: Tensor) -> None:
        """One more weight of the rows still sought."""
        del value
        self.tried += 1
        if self.console.is_terminal or time.monotonic() > self.said + _SILENCE:
            low, high = float(weight.min()), float(weight.max())
            last = number(low) if low == high else f"{number(low)} to {number(high)}"
            end = "\r" if self.console.is_terminal else "\n"
            self._line(f"{plural(self.tried, 'weight')} tried, last {last}", end=end)

    def _line(self, text: str, end: str) -> None:
        self.said = time.monotonic()
        say(f"{self.what}: {text}".ljust(70 if self.console.is_terminal else 0), end=end)

    def _say(self, text: str) -> None:
        say(text, end="\r" if self.console.is_terminal else "\n")

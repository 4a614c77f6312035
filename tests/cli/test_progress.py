"""What is shown while learning: in a terminal and elsewhere."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from bilevel.cli.progress import Counter, LearningProgress, cells
from bilevel.learn import Budget, Record
from bilevel.model import Cost


def record(
    step: int = 3, error: float = 1e-5, estimate: float = math.nan, certificate: float = 2e-4
) -> Record:
    return Record(
        step=step,
        value=1e-3,
        psnr=30.0,
        corrected=1e-3,
        interval=1e-5,
        gradient_norm=1e-4,
        error=error,
        estimate=estimate,
        accuracy=1e-3,
        certificate=certificate,
        uncertified=0,
        step_size=1.0,
        accepted=True,
        scalars={},
        cost=Cost(gradient_evaluations=1200, seconds=4.2),
    )


def test_a_row_has_everything() -> None:
    assert cells(record()) == [
        *("3", "1.000e-03", "30.000", "1.0e-03", "2.0e-04"),
        *("1.0e-04 ± 1.0e-05 (proved)", "1200", "4.2 s"),
    ]


@pytest.mark.parametrize(
    ("error", "estimate", "shown"),
    [
        (1e-5, 1e-6, "1.0e-05 (proved)"),
        (1e-2, 1e-6, "1.0e-06 (estimated)"),
        (1e-2, math.nan, "1.0e-02 (proved)"),
        (math.inf, 1e-6, "1.0e-06 (estimated)"),
        (math.inf, math.nan, "not proved"),
    ],
)
def test_an_error_says_how_well_it_is_founded(error: float, estimate: float, shown: str) -> None:
    assert cells(record(error=error, estimate=estimate))[5].endswith(f"± {shown}")


def test_a_distance_that_is_not_proved_is_called_so() -> None:
    assert cells(record(certificate=math.inf))[4] == "not proved"


def test_a_terminal_shows_the_last_rows_and_the_budget() -> None:
    progress = LearningProgress(Budget(steps=40))
    progress.console = Console(file=io.StringIO(), force_terminal=True, width=120)
    for step in range(30):
        progress(record(step))
    shown = Console(file=io.StringIO(), width=120, force_terminal=False)
    shown.print(progress)
    assert isinstance(shown.file, io.StringIO)
    lines = shown.file.getvalue().splitlines()
    assert [line.split()[0] for line in lines[1:13]] == [str(k) for k in range(18, 30)]
    assert "PSNR [dB]" in lines[0]
    assert "Ctrl-C" in lines[13]


def test_the_bar_tells_about_how_long_the_budget_lasts() -> None:
    console = Console(file=io.StringIO(), width=140, force_terminal=True)
    progress = LearningProgress(Budget(steps=6))
    progress.start -= 60.0
    console.print(progress)
    assert "left" not in console.file.getvalue()  # type: ignore[attr-defined]
    progress(record(step=3))
    console.print(progress)
    assert ", about 1 min" in console.file.getvalue()  # type: ignore[attr-defined]


def test_lines_elsewhere_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with LearningProgress(Budget(seconds=60)) as progress:
        progress(record(1))
        progress(record(1000, error=math.inf))
    lines = capsys.readouterr().err.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 3


def test_a_counter_says_once_how_many_where_nobody_watches(
    capsys: pytest.CaptureFixture[str],
) -> None:
    counter = Counter("reconstructing", 3)
    counter(2)
    counter(1)
    assert capsys.readouterr().err == "reconstructing: 3\n"

"""From a checked configuration to a race of algorithms and its report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from bilevel.cli.catalogue import CATALOGUE, name_of
from bilevel.cli.config import Configuration, Document, plain
from bilevel.cli.config.validation import Problem, validate
from bilevel.cli.console import INTERRUPTED, check_writable, finish, results, say
from bilevel.cli.images import LearningImages
from bilevel.cli.learning import REPORT, build_problem, check_learnable
from bilevel.cli.measured import learning_images
from bilevel.cli.progress import LearningProgress
from bilevel.cli.settings.kinds import AlgorithmSettings
from bilevel.ground.errors import InputError, nearest
from bilevel.learn import Algorithm, Budget, Entry, Race, race
from bilevel.learn.separable import SeparableProblem
from bilevel.report import ENDINGS, race_page, race_table, race_verdict, write_page

__all__ = ["ALL", "chosen", "limits", "race_and_report"]

ALL = "all"
RESULT = "race.json"


def race_and_report(
    document: Document, algorithms: str, budget: Budget, out: Path, data: str | None
) -> None:
    """Run the algorithms, and write ``report.html`` and ``race.json`` into ``out``.

    Raises:
        BilevelError: unknown algorithms, a folder that cannot be written to, images that do not
            fit, or no algorithm that could run.
        typer.Exit: with code 130 after Ctrl-C; what is done until then is reported.
    """
    check_writable(out)
    check_learnable(document)
    configuration = document.configuration
    if configuration.pretrain is not None:
        with document.blaming("pretrain"):
            what = "all algorithms start from the parameters given"
            raise InputError(what, advice="delete the table")
    runners = chosen(algorithms, configuration)
    images = learning_images(document, data)
    try:
        found = _raced(document, images, runners, budget)
        if not found.ranked and found.interrupted:
            raise KeyboardInterrupt
        _write(found, configuration, runners, out)
    except KeyboardInterrupt:
        say("interrupted before there was anything to report")
        raise typer.Exit(INTERRUPTED) from None
    if found.interrupted:
        say(f"interrupted: the report in {out} tells of what was done until then")
        raise typer.Exit(INTERRUPTED)


def chosen(names: str, configuration: Configuration) -> dict[str, AlgorithmSettings]:
    """The algorithms of a list with commas, or all that run without further options.

    The configuration's own [algorithm] keeps its options, the others have their defaults.

    Raises:
        InputError: an unknown name, one that is given twice, or one that needs options.
    """
    entries, own = CATALOGUE["algorithms"], configuration.algorithm
    asked = [name.strip() for name in names.split(",") if name.strip()]
    everything = asked == [ALL]
    found: dict[str, AlgorithmSettings] = {}
    for name in entries if everything else asked:
        if name not in entries:
            advice = nearest(name, [*entries, ALL])
            raise InputError(f"--algorithms: unknown algorithm '{name}'", advice=advice)
        if name in found:
            raise InputError(f"--algorithms names '{name}' twice")
        problems: list[Problem] = []
        same = name == name_of(own)
        settings = own if same else validate(entries[name], {}, problems, ("algorithm",))
        if isinstance(settings, AlgorithmSettings):
            found[name] = settings
        elif not everything:
            advice = "give its options in the table [algorithm] of the configuration"
            raise InputError(f"'{name}' does not run with defaults", advice=advice)
        else:
            say(f"leaving out {name}: {problems[0].message}")
    if not found:
        advice = f'e.g. --algorithms "{",".join(list(entries)[:2])}", or {ALL}'
        raise InputError("--algorithms names no algorithm", advice=advice)
    return found


def limits(
    configuration: Configuration,
    seconds: float | None = None,
    steps: int | None = None,
    gradients: int | None = None,
) -> Budget:
    """The limits given, or those of the configuration if there are none.

    Raises:
        InputError: a limit that is not positive.
    """
    given = (seconds, steps, gradients)
    if all(limit is None for limit in given):
        return configuration.budget.build()
    return Budget(*(math.inf if limit is None else limit for limit in given))


def _raced(
    document: Document,
    images: LearningImages,
    runners: Mapping[str, AlgorithmSettings],
    budget: Budget,
) -> Race:
    def problem() -> SeparableProblem:
        with document.blaming("data.size"):
            return build_problem(document.configuration, images.training)

    names = list(runners)
    say(f"racing {len(names)} algorithms on {images.training}, each within the same budget")

    def watch(name: str) -> LearningProgress:
        say(f"{names.index(name) + 1} of {len(names)}: {name}")
        return LearningProgress(budget)

    learner = document.configuration.learner
    algorithms: dict[str, Algorithm[Any]] = {name: learner(s) for name, s in runners.items()}
    found = race(problem, algorithms, budget, watch=watch)
    for name, why in found.failures.items():
        say(f"{name} could not run: {why}")
    return found


def _write(
    found: Race,
    configuration: Configuration,
    runners: Mapping[str, AlgorithmSettings],
    out: Path,
) -> None:
    about = {k: v for k, v in plain(configuration).items() if k not in ("algorithm", "budget")}
    about["budget"] = {k: v for k, v in vars(found.budget).items() if math.isfinite(v)}
    about["algorithms"] = {name: plain(settings) for name, settings in runners.items()}
    title = configuration.output.title
    default = type(configuration.output)().title
    heading = "Race of algorithms" if title == default else f"{title}: race of algorithms"
    page = race_page(found, configuration=about, title=heading)
    text = json.dumps(_json(found, about), indent=1, allow_nan=False)
    path, table = write_page(out / REPORT, page), write_page(out / RESULT, text)
    console = results()
    console.print(race_table(found))
    console.print(race_verdict(found), markup=False)
    console.print(f"table:  {table}\nreport: {path}", markup=False, soft_wrap=True)
    ended = [ENDINGS[entry.fit.status] for entry in found.entries]
    if not (found.interrupted or any(ending.answered for ending in ended)):
        finish([f"no algorithm found an answer: the best ended {found.best.fit.reason}"])


def _json(found: Race, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Everything but images, as plain data; null stands for what is not proved or not known."""
    return {
        "winner": found.winner.name,
        "lowest_loss": found.best.name,
        "verdict": race_verdict(found),
        "interrupted": found.interrupted,
        "accuracy": found.accuracy,
        "configuration": configuration,
        "algorithms": {entry.name: _entry(found, entry) for entry in found.entries},
        "failures": dict(found.failures),
    }


def _entry(found: Race, entry: Entry) -> dict[str, Any]:
    final, close = entry.final, entry in found.close
    return {
        "status": entry.fit.status.name,
        "reason": entry.fit.reason,
        "loss": _finite(final.corrected),
        "interval": _finite(final.interval),
        "projected_gradient": _finite(entry.projected),
        "error": _finite(final.error),
        "estimate": _finite(final.estimate),
        "uncertified": final.uncertified,
        "work_to_one_per_cent": found.work(entry) if close else None,
        "cost": vars(entry.fit.cost),
        "theta": {name: value.tolist() for name, value in entry.fit.theta.items()},
        "history": [_nulls(r.to_json()) for r in entry.fit.history],
    }


def _nulls(record: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, str) else v for k, v in record.items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

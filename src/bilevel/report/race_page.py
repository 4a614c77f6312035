"""One self-contained HTML page that says which algorithm won, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bilevel.learn import Budget, Entry, Race
from bilevel.report.convergence import Stationarity
from bilevel.report.endings import ENDINGS
from bilevel.report.page import render
from bilevel.report.parameters import parameters
from bilevel.report.race_figures import MEASURES, Look, gap_chart, looks, norm_chart
from bilevel.report.rates import fitted_rate
from bilevel.report.standing import Claim, Standing
from bilevel.report.words import count, duration, level, number, plural, proved

__all__ = ["race_page", "race_verdict"]


def race_page(
    race: Race, *, configuration: Mapping[str, Any] | None = None, title: str = "Race"
) -> str:
    """The report of a race: one HTML page that fetches nothing.

    Args:
        race: at least one algorithm with a finite loss.
        configuration: plain data, shown as TOML.
        title: headline.

    Raises:
        InputError: no algorithm ended with a finite loss.
    """
    styles = looks(race)
    winner = race.winner
    charts = {
        "Loss less the best final loss": [gap_chart(race, m) for m in MEASURES],
        "Norm of the projected gradient": [norm_chart(race, m) for m in MEASURES],
    }
    context = {
        "hero": None,
        "hero_group": "",
        "lede": [race_verdict(race), _setting(race)],
        "winner": winner.name,
        "cost": f"{count(race.work(winner))} gradients + products",
        "loss": (number(winner.final.corrected, 4), _interval(winner)),
        "spread": _spread(race),
        "rows": [_row(race, entry, styles[entry.name]) for entry in _ordered(race)],
        "looks": styles,
        "charts": charts,
        "unit": winner.fit.unit,
        "accuracy": number(race.accuracy),
        "thetas": _thetas(race),
        "claims": _claims(race),
        "failures": race.failures,
    }
    return render("race.html.jinja", title, configuration, context)


def race_verdict(race: Race) -> str:
    """Which algorithm won, in one or two sentences.

    Raises:
        InputError: no algorithm ended with a finite loss.
    """
    winner, best, close = race.winner, race.best, race.close
    work = count(race.work(winner))
    seconds = _seconds(race, winner)
    reached = f"{work} gradient evaluations and Hessian-vector products ({seconds})"
    if len(race.entries) == 1:
        return f"{winner.name} ran alone: it was within 1 % of its final loss after {reached}."
    text = (
        f"{winner.name} wins: it came within 1 % of the lowest loss with the least work, {reached}"
    )
    others = sorted((e for e in close if e is not winner), key=race.work)
    if others:
        factor = race.work(others[0]) / max(race.work(winner), 1)
        text += f"; {others[0].name} needed {number(factor)} times as much"
    lowest = "" if best is winner else f" The lowest loss of all is that of {best.name}."
    far = len(race.ranked) - len(close)
    missed = f" {plural(far, 'algorithm')} did not come within 1 %." if far else ""
    return f"{text}.{lowest}{missed}"


def _seconds(race: Race, entry: Entry) -> str:
    arrived = entry.arrival(race.level) or entry.fit.history[-1]
    return duration(arrived.cost.seconds)


def _setting(race: Race) -> str:
    many = plural(len(race.entries), "algorithm")
    stopped = " Ctrl-C ended the race early." if race.interrupted else ""
    return (
        f"{many} from the same start on the same problem, {_budget(race.budget)} each; every final "
        f"θ was looked at again with accuracy {number(race.accuracy)} (rms).{stopped}"
    )


def _budget(budget: Budget) -> str:
    parts: list[str] = []
    if math.isfinite(budget.seconds):
        parts.append(duration(budget.seconds))
    if math.isfinite(budget.steps):
        parts.append(plural(int(budget.steps), "outer step"))
    if math.isfinite(budget.gradient_evaluations):
        parts.append(f"{count(int(budget.gradient_evaluations))} gradient evaluations")
    return " or ".join(parts)


def _spread(race: Race) -> tuple[str, str]:
    worst, best = race.ranked[-1].final.corrected, race.best.final.corrected
    part = 100 * (worst - best) / race.scale if race.scale > 0 else math.nan
    return f"{number(part, 2)} %", "from the lowest to the highest final loss"


def _ordered(race: Race) -> list[Entry]:
    """The winner first, then those close to the best by work, then the others by loss."""
    close = sorted(race.close, key=race.work)
    lost = [e for e in race.entries if not e.final.finite]
    return [*close, *(e for e in race.ranked if e not in close), *lost]


def _row(race: Race, entry: Entry, look: Look) -> dict[str, object]:
    final, cost = entry.final, entry.fit.cost
    arrived = entry.arrival(race.level) is not None and entry in race.close
    estimate = f"≈ {number(final.estimate)}" if math.isfinite(final.estimate) else ""
    error = f"± {number(final.error)}" if math.isfinite(final.error) else estimate or "unknown"
    return {
        "name": entry.name,
        "look": look,
        "status": ENDINGS[entry.fit.status].words,
        "loss": number(final.corrected, 5),
        "interval": _interval(entry),
        "gradient": number(entry.projected),
        "error": error,
        "arrival": count(race.work(entry)) if arrived else "never",
        "steps": count(len(entry.fit.history) - 1),
        "gradients": count(cost.gradient_evaluations),
        "products": count(cost.hvps),
        "operators": count(cost.operator_applications),
        "seconds": level(cost.seconds),
        "proved": _proved(race, entry),
        "winner": entry is race.winner,
    }


def _interval(entry: Entry) -> str:
    if math.isfinite(entry.final.interval):
        return f"± {number(entry.final.interval, 2)} (proved)"
    return f"± {number(entry.final.interval_estimate, 2)} (estimated)"


def _proved(race: Race, entry: Entry) -> str:
    found = [
        ("loss", math.isfinite(entry.final.interval)),
        ("direction", entry.final.error <= entry.projected),
        ("stationary", _stationary(race, entry).claim.standing is Standing.PROVED),
    ]
    return ", ".join(name for name, ok in found if ok) or "nothing"


def _stationary(race: Race, entry: Entry) -> Stationarity:
    final = entry.final
    return Stationarity(entry.projected, final.error, final.estimate, race.scale)


def _thetas(race: Race) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: parameter, start, and the value of each algorithm."""
    ordered = _ordered(race)
    columns = [parameters(entry.fit) for entry in ordered]
    rows = [
        [f"{p.owner}: {p.name}", p.start, *(column[k].learned for column in columns)]
        for k, p in enumerate(columns[0])
    ]
    return ["Parameter", "Start", *(entry.name for entry in ordered)], rows


def _claims(race: Race) -> list[Claim]:
    found: list[Claim] = []
    uncertified = [e.name for e in race.ranked if not math.isfinite(e.final.interval)]
    if uncertified:
        text = f"No interval of the final loss is proved for {', '.join(uncertified)}."
        found.append(Claim(Standing.OPEN, text))
    else:
        widest = max(e.final.interval for e in race.ranked)
        text = f"Every final loss is proved to within {proved(widest)}: "
        gaps = [e.final.corrected - race.best.upper - e.final.interval for e in race.ranked[1:]]
        told = sum(gap > 0 for gap in gaps)
        text += (
            f"{race.best.name} is proved to lie below {count(told)} of {count(len(gaps))} others."
        )
        found.append(Claim(Standing.PROVED, text))
    missed = [
        f"{e.name} ({count(e.final.uncertified)})" for e in race.ranked if e.final.uncertified
    ]
    if missed:
        text = f"Samples missed the accuracy {number(race.accuracy)} at the last look: "
        found.append(Claim(Standing.OPEN, text + ", ".join(missed) + "."))
    for entry in _ordered(race):
        claim = _stationary(race, entry).claim
        rate = fitted_rate([r.projected for r in entry.fit.history])
        words = f"{entry.name}: {claim.text} {rate.sentence('The projected gradient')}"
        found.append(Claim(claim.standing, words))
    text = "Times depend on the machine and on what else it does; the counts do not."
    return [*found, Claim(Standing.OPEN, text)]

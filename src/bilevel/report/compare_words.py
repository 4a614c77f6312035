"""What is to be said about weights that rules chose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from bilevel.report.choices import Chosen, Compared, Summary, chosen, summaries
from bilevel.report.standing import Claim, Standing
from bilevel.report.words import decibels, for_peak, number, plural
from bilevel.select import Outcome
from bilevel.select.compare import LEARNED, ORACLE

__all__ = [
    "LEVEL",
    "advices",
    "agreement",
    "central",
    "compare_claims",
    "compare_verdict",
    "ended",
    "nearest",
    "useful",
]

LEVEL = 0.005
"""PSNR that differ by less count as level [dB]."""
NEAR = 2.0
"""Weights within this factor agree."""


def compare_verdict(compared: Sequence[Compared]) -> list[str]:
    """The news in a few sentences."""
    found, images = summaries(compared), sum(len(group.ids) for group in compared)
    rules = {name: s for name, s in found.items() if name not in (LEARNED, ORACLE)}
    stopped = any(group.comparison.interrupted for group in compared)
    if ORACLE in found:
        words = [*_with_truth(found, rules, images), for_peak(found[ORACLE].peak)]
    elif rules:
        words = _without(rules, images)
    else:
        words = [f"The weight learned from other images is {number(found[LEARNED].weights[0])}."]
    return [*words, *(["Ctrl-C ended the work early."] if stopped else [])]


def _with_truth(
    found: Mapping[str, Summary], rules: Mapping[str, Summary], images: int
) -> list[str]:
    average = "" if images == 1 else " on average"
    oracle = found[ORACLE].psnr
    sentences: list[str] = []
    if rules:
        best = nearest(rules)
        lost = oracle - rules[best].psnr
        sentences.append(
            f"Without seeing the truth, {best} comes closest to it: {decibels(rules[best].psnr)}"
            f"{average}, {_lacks(lost)} the best weight there is."
        )
    if LEARNED in found:
        lost = oracle - found[LEARNED].psnr
        sentences.append(
            f"The weight learned from other images, {number(found[LEARNED].rows[0].weight)} for "
            f"all, reaches {decibels(found[LEARNED].psnr)}, {_lacks(lost)} the best."
        )
    return sentences or [f"The best weight there is reaches {decibels(oracle)}{average}."]


def nearest(rules: Mapping[str, Summary]) -> str:
    """The rule nearest to the truth, the first of those that are level."""
    level = max(summary.psnr for summary in rules.values()) - LEVEL
    return next(name for name, summary in rules.items() if summary.psnr >= level)


def _lacks(lost: float) -> str:
    return "level with" if abs(lost) < LEVEL else f"{decibels(lost)} below"


def _without(rules: Mapping[str, Summary], images: int) -> list[str]:
    if len(rules) == 1:
        (rule,) = rules.values()
        row = rule.rows[0]
        if images == 1:
            sure = row.outcome is Outcome.FOUND
            text = f"{rule.rule} chooses the weight {number(row.weight)} for {row.image}."
            return (
                [text]
                if sure
                else [
                    f"{rule.rule} finds no weight for {row.image} to trust: {row.outcome.value}.",
                    f"What to do: {row.advice}.",
                ]
            )
        low, high = rule.weights
        return [
            f"{rule.rule} chooses weights between {number(low)} and {number(high)} for "
            f"{plural(images, 'image')}; it stands behind {rule.found} of them."
        ]
    sure = [weight for weights in _weights(rules).values() for weight in weights]
    if not sure:
        return [f"None of {plural(len(rules), 'rule')} finds a weight."]
    stands = sum(rule.found == len(rule.rows) for rule in rules.values())
    every = "" if images == 1 else " for every image"
    middle = f", their median is {number(median(sure))}" if images == 1 else ""
    return [
        f"{stands} of {plural(len(rules), 'rule')} find a weight{every}; these lie between "
        f"{number(min(sure))} and {number(max(sure))}{middle}.",
        "The truth is not known: where rules that assume different things agree, the weight "
        "deserves trust.",
    ]


def agreement(compared: Sequence[Compared]) -> tuple[str, str]:
    """How many of the weights that rules stand behind are near the median of their image."""
    near = total = 0
    for weights in _weights(summaries(compared)).values():
        middle = median(weights)
        total += len(weights)
        near += sum(middle / NEAR <= weight <= middle * NEAR for weight in weights)
    if not total:
        return "none", "no rule stands behind a weight"
    return f"{near} of {total}", f"weights found lie within a factor {NEAR:g} of the median"


def central(compared: Sequence[Compared]) -> str | None:
    """The rule that stands behind most of its weights, and is then nearest to the median."""
    found = {n: s for n, s in summaries(compared).items() if n not in (LEARNED, ORACLE)}
    rows = [r for s in found.values() for r in s.rows if r.outcome is Outcome.FOUND]
    middles = {image: median(weights) for image, weights in _weights(found).items()}
    away: dict[str, list[float]] = {}
    for row in rows:
        away.setdefault(row.rule, []).append(abs(math.log(row.weight / middles[row.image])))
    return min(away, key=lambda name: (-len(away[name]), sum(away[name])), default=None)


def _weights(rules: Mapping[str, Summary]) -> dict[str, list[float]]:
    """The weights that rules stand behind, image by image."""
    found: dict[str, list[float]] = {}
    for rule in rules.values():
        for row in rule.rows:
            if row.outcome is Outcome.FOUND and row.rule not in (LEARNED, ORACLE):
                found.setdefault(row.image, []).append(row.weight)
    return found


def ended(summary: Summary) -> str:
    """How the searches of a rule ended."""
    outcomes = {row.outcome for row in summary.rows}
    if len(outcomes) == 1:
        return outcomes.pop().value
    return f"found for {summary.found} of {len(summary.rows)}"


def useful(found: Summary | Chosen) -> str:
    """The (largest) proved distance, if it is small enough to be of use."""
    return number(found.certificate) if found.certified else "none of use"


def advices(rows: Sequence[Chosen]) -> list[tuple[str, str, str]]:
    """Rule, what happened to which images, what to do; only where no weight was found."""
    grouped: dict[tuple[str, Outcome, str], list[str]] = {}
    for row in rows:
        if row.outcome is not Outcome.FOUND:
            grouped.setdefault((row.rule, row.outcome, row.advice), []).append(row.image)
    return [
        (rule, f"{', '.join(images)}: {outcome.value}", advice)
        for (rule, outcome, advice), images in grouped.items()
    ]


def compare_claims(compared: Sequence[Compared]) -> list[Claim]:
    """What is proved and what is not."""
    rows = chosen(compared)
    certified = [r.certificate for r in rows if r.certified]
    claims: list[Claim] = []
    if certified:
        text = (
            f"{len(certified)} of {len(rows)} reconstructions are proved to lie within "
            f"{number(max(certified))} grey values (rms) of the exact minimiser at their weight."
        )
        claims.append(Claim(Standing.PROVED, text))
    if len(certified) < len(rows):
        text = (
            f"For {plural(len(rows) - len(certified), 'reconstruction')} no distance of use is "
            "proved: the energy is not known to be convex enough; a small ridge makes it so."
        )
        claims.append(Claim(Standing.OPEN, text))
    text = (
        "A weight is the best of those tried, to within 2 %: criteria may have other minima, which "
        "nobody has ruled out."
    )
    claims.append(Claim(Standing.OPEN, text))
    text = (
        "No rule knows the truth: each is right as far as what it assumes of the noise is. Of a "
        "weight that is found, residuals are as white noise leaves them, band by band, of one size "
        "and of the level given, and fresh probes or other data held out prefer no weight three "
        "times as large or small."
    )
    return [*claims, Claim(Standing.OPEN, text)]

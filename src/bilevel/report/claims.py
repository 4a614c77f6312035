"""What a fit proves and what it does not, in words."""

from __future__ import annotations

import math

from bilevel.learn import Fit, Record, Status
from bilevel.model.losses import PSNR, SquaredError
from bilevel.report.comparison import LOOSE, Scores
from bilevel.report.convergence import convergence_claims
from bilevel.report.standing import Claim, Standing
from bilevel.report.words import count, decibels, number, plural

__all__ = ["Claim", "Standing", "certified_accuracy", "claims", "improvement", "learning_claims"]


def claims(scores: Scores) -> list[Claim]:
    """About reconstructions.

    Example:
        >>> from bilevel.report.comparison import Score
        >>> scores = Scores((Score("a", 20.0, 30.0, 0.5, 0.9, math.inf, ""),))
        >>> claims(scores)[0].standing
        <Standing.OPEN: 'not proved'>
    """
    return [_reconstructions(scores), *_unfinished(scores)]


def learning_claims(fit: Fit) -> list[Claim]:
    """About θ and how it was found."""
    if fit.status is Status.GIVEN:
        text = "Nothing was learned: nothing says how much better other parameters would be."
        return [Claim(Standing.OPEN, text)]
    found = [_end(fit)]
    if fit.history:
        last = fit.history[-1]
        found += [_loss(last, fit.unit), *convergence_claims(fit)]
        found += [_gradient(last), *_missed(fit.history)]
    text = (
        "Nobody knows whether another θ is better still: the loss is not convex in θ, and "
        "learning seeks a stationary point."
    )
    return [*found, Claim(Standing.OPEN, text)]


def certified_accuracy(scores: Scores) -> str:
    """One phrase for the headline."""
    worst = max(row.certificate for row in scores.rows)
    if math.isfinite(worst):
        within = f"within {number(worst)} grey values (rms) of the exact minimiser"
        return f"proved to lie {within}" + (
            ", which says little" if worst > LOOSE * scores.peak else ""
        )
    if scores.certified:
        return f"certified for {scores.certified} of {len(scores)} images"
    return "not certified: no distance to an exact minimiser is proved"


def improvement(fit: Fit) -> tuple[str, str, str]:
    """What learning improved: its name, at the start, at the end."""
    first, last = fit.history[0], fit.history[-1]
    if math.isnan(last.psnr):
        start, end = (f"{number(r.value)} {fit.unit}".rstrip() for r in (first, last))
        return "mean loss", start, end
    name = "mean PSNR" if fit.unit == PSNR.unit else "PSNR of the mean loss"
    return name, decibels(first.psnr), decibels(last.psnr)


def _reconstructions(scores: Scores) -> Claim:
    distances = [r.certificate for r in scores.rows if math.isfinite(r.certificate)]
    if not distances:
        text = (
            "No strong convexity is proved for this energy, so no distance of a reconstruction "
            "to an exact minimiser is. If it is convex, a small Tikhonov term makes one provable."
        )
        return Claim(Standing.OPEN, text)
    within = f"within {number(max(distances))} grey values (rms) of the exact minimiser"
    if len(distances) == len(scores):
        everyone = "The reconstruction lies"
        if len(scores) > 1:
            everyone = f"All {count(len(scores))} reconstructions lie"
        little = (
            ""
            if max(distances) <= LOOSE * scores.peak
            else " This bound is too wide to be of much use."
        )
        return Claim(Standing.PROVED, f"{everyone} {within} of the energy.{little}")
    some = f"{count(len(distances))} of {count(len(scores))} reconstructions lie {within}"
    return Claim(Standing.PROVED, f"{some}; for the others no distance is proved.")


def _unfinished(scores: Scores) -> list[Claim]:
    late = [r for r in scores.rows if r.unfinished]
    if not late:
        return []
    how = ", ".join(dict.fromkeys(r.status for r in late))
    text = f"{plural(len(late), 'reconstruction')} did not reach the accuracy asked for ({how})."
    return [Claim(Standing.OPEN, text)]


def _end(fit: Fit) -> Claim:
    if fit.status is Status.CONVERGED:
        return Claim(Standing.PROVED, f"θ is stationary to the tolerance asked for: {fit.reason}.")
    text = f"θ is not proved to be stationary. Why learning ended: {fit.reason}."
    return Claim(Standing.ESTIMATED if fit.status is Status.STATIONARY else Standing.OPEN, text)


def _loss(last: Record, unit: str) -> Claim:
    if not math.isfinite(last.interval):
        text = "The training loss carries no proved interval; it is the loss at computed points."
        return Claim(Standing.OPEN, text)
    own = last.corrected - last.penalty
    low, high = own - last.interval, own + last.interval
    around = f"{number(own)} ±\u00a0{number(last.interval)}"
    value = f"The mean training loss at the exact minimisers is {around}"
    if last.penalty:
        value = f"{value} (and the penalty of θ {number(last.penalty)})"
    if unit != SquaredError.unit or math.isnan(last.psnr):
        return Claim(Standing.PROVED, f"{value} {unit}.")
    if low <= 0:
        text = (
            f"{value}; this interval reaches zero, so it says "
            "only that the loss is below its upper end."
        )
        return Claim(Standing.PROVED, text)
    found = last.value - last.penalty
    ends = (last.psnr + 10 * math.log10(found / end) for end in (high, low))
    levels = " to ".join(map(decibels, ends))
    return Claim(Standing.PROVED, f"{value}: {levels} of PSNR.")


def _gradient(last: Record) -> Claim:
    if math.isnan(last.gradient_norm):
        return Claim(Standing.OPEN, "No hypergradient was computed: nothing says how far θ may be.")
    size = f"The last hypergradient has norm {number(last.gradient_norm)}"
    if not math.isfinite(last.error):
        if math.isnan(last.estimate):
            return Claim(Standing.OPEN, f"{size}; its error was neither bounded nor estimated.")
        estimated = f"{size}; its error is estimated as {number(last.estimate)}, not proved."
        return Claim(Standing.ESTIMATED, estimated)
    text = f"{size} and is proved to be within {number(last.error)} of the exact one"
    if last.error <= last.gradient_norm:
        return Claim(Standing.PROVED, f"{text}: its direction can be trusted.")
    more = (
        "" if math.isnan(last.estimate) else f" The error is estimated as {number(last.estimate)}."
    )
    return Claim(
        Standing.OPEN,
        f"{text}, which is more than its norm: that it points downhill is not proved.{more}",
    )


def _missed(history: tuple[Record, ...]) -> list[Claim]:
    steps = [r for r in history if r.uncertified]
    if not steps:
        text = "Every sample reached the accuracy asked for in every outer step."
        return [Claim(Standing.PROVED, text)] if math.isfinite(history[-1].certificate) else []
    most = max(r.uncertified for r in steps)
    text = (
        f"In {count(len(steps))} of {plural(len(history), 'outer step')} some samples missed the "
        f"accuracy asked for, at most {count(most)} at once."
    )
    return [Claim(Standing.OPEN, text)]

"""How near a fit is to being stationary, what of it is proved, and how fast it came there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from bilevel.learn import Fit, Record
from bilevel.model.losses import SquaredError
from bilevel.report.rates import Kind, fitted_rate
from bilevel.report.standing import Claim, Standing
from bilevel.report.style import BLUE, GREEN, GREY, ORANGE, curves_chart
from bilevel.report.words import number, with_unit

__all__ = ["Stationarity", "convergence_claims", "stationarity_chart", "tolerance"]


@dataclass(frozen=True)
class Stationarity:
    """The test ‖projected gradient‖ + error <= tol · scale, with all that is known of it."""

    projected: float
    error: float
    """Proved; inf if not."""
    estimate: float
    """nan if there is none."""
    scale: float
    """The change of the loss that counts as large."""
    tol: float = math.nan
    """What was asked for; nan if it is not known."""

    @staticmethod
    def of(record: Record, tol: float = math.nan) -> Stationarity:
        """At one line of a history."""
        return Stationarity(record.projected, record.error, record.estimate, record.scale, tol)

    @property
    def reached(self) -> float:
        """The smallest tolerance for which the test is proved to pass; inf if there is none."""
        return (self.projected + self.error) / self.scale if self.scale > 0 else math.inf

    @property
    def claim(self) -> Claim:
        """In words."""
        size = f"‖projected gradient‖ = {number(self.projected)}"
        if math.isfinite(self.error):
            total = self.projected + self.error
            parts = f"{size}, and with its proved error {number(self.error)} at most"
            if not self.passes(self.error):
                text = f"{parts} {number(total)}{self._goal('more than')}{self._estimated()}"
                return Claim(self._otherwise(Standing.OPEN), f"{text}.")
            return Claim(Standing.PROVED, f"{parts} {number(total)}{self._goal('within')}.")
        if math.isnan(self.estimate):
            return Claim(Standing.OPEN, f"{size}; of its error nothing is known.")
        return Claim(self._otherwise(Standing.OPEN), f"{size}{self._estimated()}.")

    def passes(self, error: float) -> bool:
        """Whether the test passes with this error; without a tolerance, whether 1 % would do."""
        tol = 0.01 if math.isnan(self.tol) else self.tol
        return self.projected + error <= tol * self.scale

    def _otherwise(self, standing: Standing) -> Standing:
        estimated = not math.isnan(self.estimate) and self.passes(self.estimate)
        return Standing.ESTIMATED if estimated else standing

    def _goal(self, relation: str) -> str:
        if not self.scale > 0:
            return ""
        if math.isnan(self.tol):
            return f", {number(100 * self.reached)} % of the loss's scale {number(self.scale)}"
        goal = number(self.tol * self.scale)
        return f", {relation} the {goal} asked for ({number(self.tol)} × {number(self.scale)})"

    def _estimated(self) -> str:
        if math.isnan(self.estimate):
            return ""
        total = number(self.projected + self.estimate)
        verdict = "passes" if self.passes(self.estimate) else "does not pass"
        goal = " the test" if not math.isnan(self.tol) else " a test at 1 %"
        error = number(self.estimate)
        return f"; with the estimated error {error} it is {total}, which {verdict}{goal}"


def tolerance(configuration: Mapping[str, Any]) -> float:
    """The tolerance of the algorithm in a configuration; nan if there is none.

    Example:
        >>> tolerance({"algorithm": {"name": "maid", "tol": 0.003}})
        0.003
    """
    table = configuration.get("algorithm")
    tol = cast(Mapping[str, Any], table).get("tol") if isinstance(table, Mapping) else None
    return float(tol) if isinstance(tol, int | float) else math.nan


def convergence_claims(fit: Fit) -> list[Claim]:
    """The stationarity test at the end of a fit, and the rate at which it came there."""
    if not fit.history or math.isnan(fit.history[-1].projected):
        return []
    found = [Stationarity.of(fit.history[-1], tolerance(fit.configuration)).claim]
    rate = fitted_rate([r.projected for r in fit.history])
    standing = Standing.OPEN if rate.kind is Kind.NONE else Standing.ESTIMATED
    return [*found, Claim(standing, rate.sentence("The projected gradient"))]


def stationarity_chart(
    history: Sequence[Record], tol: float = math.nan, unit: str = SquaredError.unit
) -> str:
    """Norm of the projected gradient over outer steps, with its error and what was asked for."""
    steps, norms = [r.step for r in history], [r.projected for r in history]
    alt = f"Norm of the projected gradient, {number(norms[-1])} at the end, and the test to stop"
    curves = (
        ("norm", norms, BLUE, "-"),
        ("norm + proved error", [r.projected + r.error for r in history], ORANGE, "--"),
        ("norm + estimated error", [r.projected + r.estimate for r in history], GREEN, ":"),
        ("asked for: tol × scale of the loss", [tol * r.scale for r in history], GREY, "-."),
    )
    return curves_chart("stationarity", alt, with_unit("projected gradient", unit), steps, curves)

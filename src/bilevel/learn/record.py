"""One line of a fit's history."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from bilevel.ground import theta as algebra
from bilevel.ground.errors import InputError
from bilevel.ground.packing import number
from bilevel.ground.typed import made, table
from bilevel.learn.algorithm import State
from bilevel.learn.problem import Problem
from bilevel.model import Cost

__all__ = ["Record"]


@dataclass(frozen=True)
class Record:
    """State of a fit after an outer step; inf means not proved, nan not asked for."""

    step: int
    value: float
    """Mean loss at the computed reconstructions."""
    psnr: float
    """What it stands for as PSNR [dB], for the peak of the loss; nan if for none."""
    corrected: float
    """Adjoint-corrected mean loss."""
    interval: float
    """Proved half-width of the loss around ``corrected``."""
    gradient_norm: float
    error: float
    """Proved bound of the hypergradient's error."""
    estimate: float
    """Its estimate."""
    accuracy: float
    """ε_t that was asked for, rms [grey value]."""
    certificate: float
    """Largest certified rms distance over the samples."""
    uncertified: int
    """Samples that missed the accuracy asked for."""
    step_size: float
    accepted: bool
    scalars: dict[str, float]
    """θ's scalar parameters."""
    cost: Cost
    """Spent since the fit began."""
    projected: float = math.nan
    """Norm of the projected gradient; nan in fits of earlier versions."""
    scale: float = math.nan
    """The change of the loss that counts as large, which tolerances are relative to."""
    whole: bool = True
    """Whether all samples were looked at, at this θ; otherwise nothing is proved of the mean."""
    penalty: float = 0.0
    """What of ``value`` and ``corrected`` θ itself costs."""

    @staticmethod
    def of(step: int, state: State, problem: Problem, projected: float) -> Record:
        """From the state of an algorithm."""
        at, loss, cost = state.evaluation, problem.loss, problem.cost
        price = problem.price(at.theta)
        whole = at.samples == len(problem)
        return Record(
            step=step,
            value=at.value,
            psnr=loss.psnr(at.value - price),
            corrected=at.corrected,
            interval=at.interval if whole else math.inf,
            gradient_norm=algebra.norm(at.grad) if at.grad else math.nan,
            error=at.error if whole else math.inf,
            estimate=at.estimate if whole else math.nan,
            accuracy=at.accuracy,
            certificate=at.certificate,
            uncertified=at.uncertified,
            step_size=state.step,
            accepted=state.accepted,
            scalars={k: float(v) for k, v in at.theta.items() if v.numel() == 1},
            cost=cost + Cost(),
            projected=projected,
            scale=loss.scale(at.value),
            whole=whole,
            penalty=price,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; infinities and nan become strings, which JSON can hold."""
        plain = asdict(self)
        plain["scalars"] = {k: _plain(v) for k, v in self.scalars.items()}
        return {k: _plain(v) for k, v in plain.items()}

    @staticmethod
    def from_json(data: object) -> Record:
        """The inverse of :meth:`to_json`.

        Raises:
            InputError: fields that are missing, unknown or of other types, or NaN where none can
                be: only a line whose loss is no number may have them anywhere.
        """
        what = "a record of the history"
        given = {k: _number(v) for k, v in table(data, what).items()}
        scalars = table(given.get("scalars"), f"'scalars' of {what}")
        given["scalars"] = {k: _number(v) for k, v in scalars.items()}
        given["cost"] = Cost.of(given.get("cost"))
        found = made(Record, given, what)
        numbers = {**found.scalars, **{k: getattr(found, k) for k in _NEVER_NAN}}
        wrong = [k for k, v in numbers.items() if math.isnan(v)]
        if wrong and math.isfinite(found.value):
            raise InputError(f"'{wrong[0]}' of {what} is no number")
        known = math.isfinite(found.corrected) and math.isfinite(found.gradient_norm)
        if known and not math.isfinite(found.value):
            raise InputError(f"'value' of {what} is no number, though all else is one")
        if found.step < 0 or found.uncertified < 0:
            raise InputError(f"{what} counts below zero")
        return found


_NEVER_NAN = ("accuracy", "certificate", "step_size")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: object) -> object:
    return number(value) if isinstance(value, str) else value

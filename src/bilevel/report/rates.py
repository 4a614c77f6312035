"""How fast a sequence falls: a factor a step, or a power of the number of steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from bilevel.report.words import number

__all__ = ["Kind", "Rate", "fitted_rate"]

_FEWEST = 6
_EXPLAINED = 0.7
"""A law that explains less of the variance than this says nothing."""
_CLEARER = 1.5
"""Ratio of the squared residuals from which one law is preferred to the other."""


class Kind(Enum):
    """The law that fits."""

    LINEAR = "linear"
    SUBLINEAR = "sublinear"
    EITHER = "linear or sublinear"
    NONE = "none"


@dataclass(frozen=True)
class Rate:
    """v_t ≈ c factor^t and v_t ≈ c t^-exponent over the steps first..last; nan if not fitted."""

    kind: Kind
    factor: float = math.nan
    exponent: float = math.nan
    first: int = 0
    last: int = 0

    def sentence(self, what: str) -> str:
        """What is known of ``what``, e.g. "The projected gradient".

        Example:
            >>> Rate(Kind.LINEAR, factor=0.5, first=5, last=10).sentence("The loss")
            'The loss falls by a factor of 0.5 a step (linear) over steps 5 to 10.'
        """
        over = f"over steps {self.first} to {self.last}"
        linear = f"by a factor of {number(self.factor)} a step (linear)"
        power = f"like t^{number(-self.exponent, 2)} (sublinear)"
        match self.kind:
            case Kind.LINEAR:
                return f"{what} falls {linear} {over}."
            case Kind.SUBLINEAR:
                return f"{what} falls {power} {over}."
            case Kind.EITHER:
                return f"{what} falls {linear} or {power} {over}; both laws fit about equally."
            case Kind.NONE:
                if self.last == self.first:
                    return f"{what} was seen in too few steps to tell a rate."
                return f"{what} follows no clear rate {over}."


def fitted_rate(values: Sequence[float]) -> Rate:
    """The rate of ``values`` (one for each step, from step 0) over the last half of the steps.

    Least squares of log v_t against t and against log t; values that are not positive and finite
    are left out. The better fit is named, or neither where both are about as good or as bad.

    Example:
        >>> found = fitted_rate([0.5**t for t in range(20)])
        >>> found.kind.value, round(found.factor, 6)
        ('linear', 0.5)
    """
    start = max(len(values) // 2, 1)
    known = [t for t in range(start, len(values)) if values[t] > 0 and math.isfinite(values[t])]
    if len(known) < _FEWEST:
        return Rate(Kind.NONE)
    t, logs = np.array(known, dtype=float), np.log([values[k] for k in known])
    slope, straight = _line(t, logs)
    power, curved = _line(np.log(t), logs)
    rate = Rate(Kind.NONE, math.exp(slope), -power, known[0], known[-1])
    spread = float(np.square(logs - logs.mean()).sum())
    if slope >= 0 or min(straight, curved) > (1 - _EXPLAINED) * spread:
        kind = Kind.NONE
    elif curved > _CLEARER * straight:
        kind = Kind.LINEAR
    elif straight > _CLEARER * curved:
        kind = Kind.SUBLINEAR
    else:
        kind = Kind.EITHER
    return Rate(kind, rate.factor, rate.exponent, rate.first, rate.last)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and squared residual of the least-squares line."""
    centred = x - x.mean()
    slope = float(centred @ (y - y.mean()) / (centred @ centred))
    return slope, float(np.square(y - y.mean() - slope * centred).sum())

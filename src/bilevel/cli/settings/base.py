"""What all sections of a configuration have in common: strict, frozen, nothing unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bilevel.ground.errors import InputError, shortened

__all__ = [
    "LARGEST",
    "SMALLEST",
    "Choice",
    "Count",
    "Positive",
    "Seed",
    "Settings",
    "Side",
    "Unfit",
    "ratio",
]


SMALLEST, LARGEST = 1e-18, 1e18
"""Of positive, and of all numbers in configurations; their squares are normal in float32."""


class Settings(BaseModel):
    """A table of a configuration; a choice of the catalogue has one such class for each name."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Choice:
    """Marks a table whose ``name`` picks an entry of the catalogue.

    ``default`` is the name where the table gives none; without one a name must be given.
    """

    kind: str
    default: str | None = None


class Unfit(InputError):
    """A combination of values that is impossible; ``key`` (dotted) says which one to change."""

    def __init__(
        self, key: str, what: str, *, given: object = None, advice: str | None = None
    ) -> None:
        super().__init__(what, given=given, advice=advice)
        self.key = key


def _not_tiny(value: float) -> float:
    if value < SMALLEST:
        raise InputError(f"must be at least {SMALLEST:g}", given=value)
    return value


def ratio(value: object) -> object:
    """Turn "25/255" into a number; everything else is left to the type's own check.

    Example:
        >>> ratio("25/250")
        0.1
    """
    if not isinstance(value, str):
        return value
    above, slash, below = value.partition("/")
    given = repr(shortened(value))
    try:
        quotient = float(above) / (float(below) if slash else 1.0)
    except (ValueError, ArithmeticError):
        raise InputError('must be a number or a quotient such as "25/255"', given=given) from None
    if not abs(quotient) <= LARGEST:
        raise InputError(f"must lie between -{LARGEST:g} and {LARGEST:g}", given=given)
    return quotient


Positive = Annotated[float, Field(gt=0), AfterValidator(_not_tiny)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Side = Annotated[int, Field(ge=1, le=1024)]
Seed = Annotated[int, Field(ge=0)]

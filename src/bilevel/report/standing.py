"""A statement, and how well it is founded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Claim", "Standing"]


class Standing(Enum):
    """How well a statement is founded."""

    PROVED = "proved"
    ESTIMATED = "estimated"
    OPEN = "not proved"


@dataclass(frozen=True)
class Claim:
    """One statement."""

    standing: Standing
    text: str

"""What goes wrong, in one sentence each: what, where, what was given, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["BilevelError", "BilevelWarning", "InputError", "NotCertified", "nearest", "shortened"]

_LONGEST = 60
_GIVEN = 300


class BilevelError(Exception):
    """Base of every error that this library raises on purpose."""


class BilevelWarning(RuntimeWarning):
    """Base of every warning of this library: what was done is right, but not all that was asked."""


class InputError(BilevelError, ValueError):
    """The input does not fit; nothing was computed or written.

    Example:
        >>> str(InputError("weight must be positive", given=-1.0, advice="try 0.05"))
        'weight must be positive, but got -1.0; try 0.05'
    """

    def __init__(self, what: str, *, given: object = None, advice: str | None = None) -> None:
        message = what if given is None else f"{what}, but got {shortened(str(given), _GIVEN)}"
        super().__init__(message if advice is None else f"{message}; {advice}")


class UnknownPart(InputError):
    """What was saved names a class of one's own that is not imported."""


class NotCertified(BilevelError):
    """A solution was required to meet its tolerance and does not; names the rows and what to do."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Advice that names the closest valid name, or all of them if none is close.

    Initials come first: "tv" stands for "total-variation"; last come words of longer names.

    Example:
        >>> nearest("wieght", ["weight", "smoothing"])
        "did you mean 'weight'?"
        >>> nearest("student", ["huber", "student-t"])
        "did you mean 'student-t'?"
    """
    options = sorted(names)
    close = [option for option in options if _initials(option) == name.lower()]
    close += difflib.get_close_matches(name[:_LONGEST], options, n=1)
    close += [option for option in options if name.lower() in option.lower().split("-")]
    return f"did you mean '{close[0]}'?" if close else f"choose one of {', '.join(options)}"


def _initials(name: str) -> str:
    words = name.split("-")
    return "".join(word[:1] for word in words) if len(words) > 1 else ""


def shortened(text: str, longest: int = _LONGEST) -> str:
    """A text to be quoted in an error, cut where it is long.

    Example:
        >>> len(shortened("7" * 5000))
        60
    """
    return text if len(text) <= longest else f"{text[: longest - 3]}..."

"""Numbers as people write them, with units; nothing is said that is not known."""

from __future__ import annotations

import math

__all__ = ["count", "decibels", "duration", "gain", "number", "plural"]

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MINUS, _THIN = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}"


def number(value: float, digits: int = 3) -> str:
    """A number to ``digits`` significant digits; a dash for nan.

    Example:
        >>> number(0.000214), number(0.05), number(float("inf"))
        ('2.14 × 10⁻⁴', '0.05', '∞')
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        text = f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
        return text.replace("-", _MINUS)
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = str(int(exponent)).translate(_SUPERSCRIPTS)
    return f"{mantissa} × 10{power}".replace("-", _MINUS)


def count(value: int) -> str:
    """A whole number in groups of three digits.

    Example:
        >>> count(121306) == f"121{_THIN}306"
        True
    """
    return f"{value:,}".replace(",", _THIN)


def plural(value: int, thing: str) -> str:
    """A count with its noun.

    Example:
        >>> plural(1, "image"), plural(2, "image")
        ('1 image', '2 images')
    """
    return f"{count(value)} {thing}{'' if value == 1 else 's'}"


def decibels(value: float) -> str:
    """A level.

    Example:
        >>> decibels(29.876)
        '29.88 dB'
    """
    return f"{_fixed(value)} dB"


def gain(value: float) -> str:
    """A difference of levels, with its sign.

    Example:
        >>> gain(5.214)
        '+5.21 dB'
    """
    return f"{'+' if value >= 0 else ''}{_fixed(value)} dB"


def _fixed(value: float) -> str:
    return f"{value:.2f}".replace("-", _MINUS) if math.isfinite(value) else number(value)


def duration(seconds: float) -> str:
    """A time, to what matters.

    Example:
        >>> duration(28.56), duration(125.0), duration(7260.0)
        ('28.6 s', '2 min 5 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"

"""Numbers as people write them, with units; nothing is said that is not known."""

from __future__ import annotations

import math

__all__ = [
    "count",
    "decibels",
    "difference",
    "duration",
    "gain",
    "level",
    "number",
    "plural",
    "proved",
    "similarity",
    "with_unit",
]

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MINUS, _THIN, _FIRM = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}", "\N{NO-BREAK SPACE}"


def number(value: float, digits: int = 3) -> str:
    """A number to ``digits`` significant digits; a dash for nan.

    Example:
        >>> number(0.05), number(0.000214).replace(_FIRM, " "), number(math.inf)
        ('0.05', '2.14 × 10⁻⁴', '∞')
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
    return f"{mantissa}{_FIRM}×{_FIRM}10{power}".replace("-", _MINUS)


def proved(value: float) -> str:
    """A bound, or that there is none.

    Example:
        >>> proved(0.25), proved(math.inf)
        ('0.25', 'not proved')
    """
    return number(value) if math.isfinite(value) else "not proved"


def for_peak(peak: float) -> str:
    """What PSNR and SSIM take for white, as a sentence.

    Example:
        >>> for_peak(255.0)
        'PSNR and SSIM are those for a peak of 255.'
    """
    return f"PSNR and SSIM are those for a peak of {number(peak, 5)}."


def similarity(value: float) -> str:
    """An SSIM.

    Example:
        >>> similarity(0.8765)
        '0.876'
    """
    return "–" if math.isnan(value) else f"{value:.3f}"


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


def level(value: float) -> str:
    """A level in dB, without the unit.

    Example:
        >>> level(29.876)
        '29.88'
    """
    return f"{value:.2f}".replace("-", _MINUS) if math.isfinite(value) else number(value)


def difference(value: float) -> str:
    """A difference of levels in dB, with its sign and without the unit.

    Example:
        >>> difference(5.214)
        '+5.21'
    """
    return f"{'+' if value >= 0 else ''}{level(value)}"


def decibels(value: float) -> str:
    """A level with its unit."""
    return f"{level(value)}{_FIRM}dB"


def gain(value: float) -> str:
    """A difference of levels with sign and unit."""
    return f"{difference(value)}{_FIRM}dB"


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


def with_unit(label: str, unit: str) -> str:
    """A label with the unit in brackets, if there is one.

    Example:
        >>> with_unit("mean loss", "dB"), with_unit("mean loss", "")
        ('mean loss [dB]', 'mean loss')
    """
    return f"{label} [{unit}]" if unit else label

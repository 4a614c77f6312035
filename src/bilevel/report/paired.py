"""Several methods on the same images: differences image by image, and what their spread allows."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.markup import escape
from rich.table import Table

from bilevel.ground.errors import InputError
from bilevel.model import Cost
from bilevel.report.comparison import Score, Scores
from bilevel.report.words import difference, duration, level, number, proved, similarity

__all__ = ["Difference", "Method", "Methods", "methods_csv", "methods_latex", "methods_table"]


@dataclass(frozen=True)
class Method:
    """A name, its scores image by image, and what the reconstructions cost."""

    name: str
    scores: Scores
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True)
class Difference:
    """PSNR of one method less that of another, image by image [dB].

    Example:
        >>> found = Difference((0.1, 0.3, 0.2))
        >>> round(found.mean, 6), round(found.standard_error, 6), found.better, found.told
        (0.2, 0.057735, 3, True)
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the images [dB]."""
        return statistics.fmean(self.values)

    @property
    def standard_error(self) -> float:
        """Of the mean, from the spread over the images [dB]; nan for one image."""
        if len(self.values) < 2:
            return math.nan
        return statistics.stdev(self.values) / math.sqrt(len(self.values))

    @property
    def better(self) -> int:
        """Images that are nearer to the truth."""
        return sum(value > 0 for value in self.values)

    @property
    def told(self) -> bool:
        """Whether the mean is more than two standard errors away from 0."""
        return abs(self.mean) > 2 * self.standard_error


@dataclass(frozen=True)
class Methods:
    """Methods on the same data; the first is what the others are compared with.

    Raises:
        InputError: none, two of one name, or other images.

    Example:
        >>> def scores(*levels):
        ...     rows = [Score(str(k), 20.0, p, 0.5, 0.8, 1e-3, "") for k, p in enumerate(levels)]
        ...     return Scores(tuple(rows))
        >>> found = Methods((Method("a", scores(28.0, 30.0)), Method("b", scores(28.5, 30.7))))
        >>> round(found.difference(found.methods[1]).mean, 6)
        0.6
    """

    methods: tuple[Method, ...]

    def __post_init__(self) -> None:
        """The same images for all."""
        names = [method.name for method in self.methods]
        if not names or len(set(names)) < len(names):
            raise InputError("methods need a name of their own each", given=names)
        images = [[row.id for row in method.scores.rows] for method in self.methods]
        if any(one != images[0] for one in images):
            raise InputError("methods are compared on the same images", given=images)

    @property
    def reference(self) -> Method:
        """The first."""
        return self.methods[0]

    @property
    def best(self) -> Method:
        """The one of the highest mean PSNR."""
        return max(self.methods, key=lambda method: method.scores.mean.psnr_after)

    def difference(self, method: Method) -> Difference:
        """To the first."""
        pairs = zip(method.scores.rows, self.reference.scores.rows, strict=True)
        return Difference(tuple(_less(one, other) for one, other in pairs))

    @property
    def headings(self) -> tuple[str, ...]:
        """Of :meth:`lines`: one table, wherever it is shown."""
        paired = (f"less {self.reference.name} [dB]", "standard error", "better on")
        own = "method", "PSNR [dB]", "gain [dB]"
        return (*own, *(paired if len(self.methods) > 1 else ()), "SSIM", "certified rms", "time")

    def lines(self) -> Iterator[tuple[str, ...]]:
        """One a method: means over the images, and the difference to the first with its spread."""
        for method in self.methods:
            mean, images = method.scores.mean, len(method.scores)
            paired = ("", "", "")
            if method is not self.reference:
                found = self.difference(method)
                spread = number(found.standard_error, 2)
                paired = difference(found.mean), spread, f"{found.better} of {images}"
            yield (
                method.name,
                level(mean.psnr_after),
                difference(mean.gain),
                *(paired if len(self.methods) > 1 else ()),
                similarity(mean.ssim_after),
                proved(mean.certificate),
                duration(method.cost.seconds),
            )


def _less(one: Score, other: Score) -> float:
    both = math.isinf(one.psnr_after) and math.isinf(other.psnr_after)
    return 0.0 if both else one.psnr_after - other.psnr_after


def methods_table(methods: Methods) -> Table:
    """For the terminal."""
    images = len(methods.reference.scores)
    peak = number(methods.reference.scores.peak, 5)
    title = f"Means over {images} image{'' if images == 1 else 's'} (peak {peak})"
    table = Table(title=title, title_justify="left")
    for k, heading in enumerate(methods.headings):
        table.add_column(escape(heading), justify="right" if k else "left")
    for line in methods.lines():
        table.add_row(*map(escape, line))
    return table


_COLUMNS = (
    "image",
    "method",
    "psnr_before",
    "psnr_after",
    "difference",
    "ssim_after",
    "certified_rms",
    "solve",
    "peak",
)


def methods_csv(methods: Methods) -> str:
    """Every image by every method, then the means and their standard errors."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for method in methods.methods:
        found = methods.difference(method)
        rows = [*zip(method.scores.rows, found.values, strict=True)]
        for row, less in (*rows, (method.scores.mean, found.mean)):
            numbers = row.psnr_before, row.psnr_after, less, row.ssim_after, row.certificate
            texts = [f"{value:.6g}" for value in numbers]
            writer.writerow([row.id, method.name, *texts, row.status, f"{row.peak:.6g}"])
        error = f"{found.standard_error:.6g}"
        writer.writerow(["standard error", method.name, "", "", error, "", "", "", ""])
    return buffer.getvalue()


def methods_latex(methods: Methods) -> str:
    r"""A ``tabular`` that needs no package.

    Example:
        >>> scores = Scores((Score("a", 20.0, 30.0, 0.5, 0.9, 1e-3, ""),))
        >>> print(methods_latex(Methods((Method("tv_1", scores),))).splitlines()[2])
        method & PSNR [dB] & gain [dB] & SSIM & certified rms & time \\
    """
    columns = "l" + "r" * (len(methods.headings) - 1)
    lines = [_latex_row(methods.headings), r"\hline", *map(_latex_row, methods.lines())]
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", *lines, r"\hline", r"\end{tabular}"]
    return "\n".join(body) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"


_IN_LATEX = {
    "\\": r"\textbackslash{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{MINUS SIGN}": "$-$",
    "+": "$+$",
    "×": r"$\times$",
    "∞": r"$\infty$",
    "–": "--",
    "\N{NO-BREAK SPACE}": "~",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
    **{mark: f"$^{{{plain}}}$" for mark, plain in zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789", strict=True)},
}


def _latex(text: str) -> str:
    found = "".join(_IN_LATEX.get(mark, mark) for mark in text)
    return found.replace("}$$^{", "")  # the digits of one exponent

"""What rules chose, row by row and rule by rule, and how good that is where the truth is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.contrast import peak_of
from bilevel.ground.errors import InputError
from bilevel.model import Cost
from bilevel.report.comparison import LOOSE
from bilevel.report.metrics import SSIM_WINDOW, psnr, ssim
from bilevel.select import Choice, Comparison, Outcome
from bilevel.select.compare import LEARNED, ORACLE

__all__ = ["Chosen", "Compared", "Summary", "chosen", "failures", "names", "summaries"]


@dataclass(frozen=True, eq=False)
class Compared:
    """A comparison, and a name for each of its images.

    Raises:
        InputError: not one name an image.
    """

    ids: Sequence[str]
    comparison: Comparison

    def __post_init__(self) -> None:
        """One name an image."""
        if len(self.ids) != len(self.comparison.y):
            raise InputError(f"{len(self.comparison.y)} images need as many ids", given=self.ids)


@dataclass(frozen=True)
class Chosen:
    """What one rule chose for one image."""

    image: str
    rule: str
    weight: float
    value: float
    """Of the criterion; nan where there is none."""
    outcome: Outcome
    advice: str
    certificate: float
    """Proved rms distance to the exact minimiser [grey value]; inf where none is."""
    psnr: float
    """[dB]; nan where the truth is not known."""
    ssim: float
    peak: float
    """What PSNR and SSIM take for white, and certificates are compared with [grey value]."""

    @property
    def certified(self) -> bool:
        """Whether a distance is proved that says something."""
        return self.certificate <= LOOSE * self.peak


@dataclass(frozen=True)
class Summary:
    """One rule over all images; means are nan where the truth is not known."""

    rule: str
    rows: tuple[Chosen, ...]
    cost: Cost

    @property
    def found(self) -> int:
        """Images for which the rule stands behind its weight."""
        return sum(row.outcome is Outcome.FOUND for row in self.rows)

    @property
    def weights(self) -> tuple[float, float]:
        """The least and the largest."""
        return min(r.weight for r in self.rows), max(r.weight for r in self.rows)

    @property
    def psnr(self) -> float:
        """Mean [dB]."""
        return _mean([r.psnr for r in self.rows])

    @property
    def ssim(self) -> float:
        """Mean [1]."""
        return _mean([r.ssim for r in self.rows])

    @property
    def certificate(self) -> float:
        """The largest."""
        return max(r.certificate for r in self.rows)

    @property
    def certified(self) -> bool:
        """Whether distances that say something are proved for all images."""
        return all(r.certified for r in self.rows)

    @property
    def peak(self) -> float:
        """What PSNR and SSIM take for white [grey value]."""
        return max(r.peak for r in self.rows)


def chosen(compared: Sequence[Compared]) -> tuple[Chosen, ...]:
    """All rows, image by image, with the peak of all targets, or of the data without any."""
    shown = [group.comparison for group in compared]
    images = [one.before if one.target is None else one.target for one in shown]
    peak = peak_of(torch.cat([image.flatten() for image in images])) if images else 1.0
    return tuple(
        _chosen(group, name, k, peak)
        for group in compared
        for k in range(len(group.ids))
        for name in group.comparison.choices
    )


def summaries(compared: Sequence[Compared]) -> dict[str, Summary]:
    """One for each name that chose anything, in the order of the first comparison.

    Example:
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> y = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> found = bl.compare(energy, y, {"discrepancy": bl.rules.Discrepancy(0.1)})
        >>> list(summaries([Compared(["noisy"], found)]))
        ['discrepancy']
    """
    rows = chosen(compared)
    return {
        name: Summary(name, tuple(r for r in rows if r.rule == name), _cost(compared, name))
        for name in names(compared)
    }


def names(compared: Sequence[Compared]) -> list[str]:
    """Rules first, then what was learned, then the oracle."""
    found = dict.fromkeys(n for group in compared for n in group.comparison.choices)
    return sorted(found, key=lambda name: (name == ORACLE, name == LEARNED))


def failures(compared: Sequence[Compared]) -> Mapping[str, str]:
    """Rules that could not run, each with the first reason."""
    found: dict[str, str] = {}
    for group in compared:
        for name, why in group.comparison.failures.items():
            found.setdefault(name, why)
    return found


def _chosen(group: Compared, name: str, k: int, peak: float) -> Chosen:
    choice, target = group.comparison.choices[name], group.comparison.target
    level, similarity = (math.nan, math.nan) if target is None else _scores(choice, target, k, peak)
    return Chosen(
        image=group.ids[k],
        rule=name,
        weight=float(choice.weight[k]),
        value=float(choice.value[k]),
        outcome=choice.outcome[k],
        advice=choice.advice[k],
        certificate=float(choice.certificate.rms[k]),
        psnr=level,
        ssim=similarity,
        peak=peak,
    )


def _scores(choice: Choice, target: Tensor, k: int, peak: float) -> tuple[float, float]:
    x, truth = choice.x[k : k + 1], target[k : k + 1]
    small = min(truth.shape[2:]) < SSIM_WINDOW
    return float(psnr(x, truth, peak)), math.nan if small else float(ssim(x, truth, peak))


def _cost(compared: Sequence[Compared], name: str) -> Cost:
    total = Cost()
    for group in compared:
        if name in group.comparison.choices:
            total = total + group.comparison.choices[name].cost
    return total


def _mean(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).mean())

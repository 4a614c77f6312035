"""Images before and after reconstruction beside the truth, and how good each one is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.checks import check_images, check_matching, check_positive
from bilevel.ground.contrast import peak_of
from bilevel.ground.errors import InputError
from bilevel.report.endings import ENDINGS
from bilevel.report.metrics import SSIM_WINDOW, psnr, ssim
from bilevel.solve import Status

__all__ = ["LOOSE", "Samples", "Score", "Scores", "batches", "peak_of_all"]

_CHUNK = 8
"""Images whose SSIM is computed at once."""
LOOSE = 0.05
"""A certificate above this part of the peak is true, but of little use."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Images of one size, row k of each tensor belonging to ``ids[k]``.

    Args:
        ids: one a sample.
        before: what one has without reconstruction, (k, c, h, w) [grey value].
        after: the reconstructions.
        target: the truth.
        certificate: certified rms distance to the exact minimiser, (k,) [grey value]; inf where
            none is proved.
        status: of the solves, (k,), from ``Solution.status``; None if it is not known.

    Raises:
        InputError: shapes or counts that differ, or images that are not finite.
    """

    ids: Sequence[str]
    before: Tensor
    after: Tensor
    target: Tensor
    certificate: Tensor
    status: Tensor | None = None

    def __post_init__(self) -> None:
        """Everything must have one row a sample."""
        check_images(self.target, "target")
        for name, images in (("before", self.before), ("after", self.after)):
            check_matching(check_images(images, name), name, self.target, "target")
            if images.shape != self.target.shape:
                expected = f"{name} must have the shape {tuple(self.target.shape)} of target"
                raise InputError(expected, given=tuple(images.shape))
        count = len(self.target)
        per_row = [self.certificate] if self.status is None else [self.certificate, self.status]
        if len(self.ids) != count or any(t.shape != (count,) for t in per_row):
            given = len(self.ids), *(tuple(t.shape) for t in per_row)
            raise InputError(f"{count} samples need {count} ids, certificates, ...", given=given)

    @staticmethod
    def joined(parts: Sequence[Samples]) -> Samples:
        """Several batches of one size as one."""
        if len(parts) == 1:
            return parts[0]
        statuses = [part.status for part in parts if part.status is not None]
        return Samples(
            [name for part in parts for name in part.ids],
            torch.cat([part.before for part in parts]),
            torch.cat([part.after for part in parts]),
            torch.cat([part.target for part in parts]),
            torch.cat([part.certificate for part in parts]),
            torch.cat(statuses) if len(statuses) == len(parts) else None,
        )

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.ids)


def batches(samples: Samples | Iterable[Samples]) -> tuple[Samples, ...]:
    """One batch for each size of image."""
    return (samples,) if isinstance(samples, Samples) else tuple(samples)


@dataclass(frozen=True)
class Score:
    """How good one reconstruction is: PSNR [dB], SSIM [1], certified rms [grey value]."""

    id: str
    psnr_before: float
    psnr_after: float
    ssim_before: float
    """nan for images smaller than the window of SSIM."""
    ssim_after: float
    certificate: float
    """inf where not proved."""
    status: str
    """How the solve ended; empty if it is not known."""
    peak: float = 1.0
    """What PSNR and SSIM take for white [grey value]."""

    @property
    def certified(self) -> bool:
        """Whether a distance is proved that says something."""
        return self.certificate <= LOOSE * self.peak

    @property
    def unfinished(self) -> bool:
        """Whether the solve is known to have ended before the accuracy asked for."""
        return self.status not in ("", ENDINGS[Status.CONVERGED].words)

    @property
    def gain(self) -> float:
        """PSNR after less PSNR before [dB]; 0 where both are infinite."""
        both = math.isinf(self.psnr_after) and math.isinf(self.psnr_before)
        return 0.0 if both else self.psnr_after - self.psnr_before


@dataclass(frozen=True)
class Scores:
    """One score a sample, and their means.

    Example:
        >>> x = torch.zeros(1, 1, 16, 16)
        >>> samples = Samples(["a"], x + 0.1, x + 0.01, x, torch.tensor([1e-4]))
        >>> round(Scores.of(samples).mean.gain, 3)
        20.0
    """

    rows: tuple[Score, ...]

    @staticmethod
    def of(samples: Samples | Iterable[Samples], peak: float | None = None) -> Scores:
        """Score all samples for one ``peak``; that of all their targets if None.

        Raises:
            InputError: there are none.
        """
        all_batches = [batch for batch in batches(samples) if len(batch)]
        if not all_batches:
            raise InputError("a report needs at least one sample")
        white = peak_of_all(all_batches) if peak is None else check_positive(peak, "the peak")
        return Scores(tuple(row for batch in all_batches for row in _scores(batch, white)))

    @property
    def peak(self) -> float:
        """What PSNR and SSIM take for white [grey value]."""
        return max(row.peak for row in self.rows)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.rows)

    @property
    def mean(self) -> Score:
        """Means over the samples; the certificate is the largest."""
        return Score(
            id="mean",
            psnr_before=_mean([r.psnr_before for r in self.rows]),
            psnr_after=_mean([r.psnr_after for r in self.rows]),
            ssim_before=_mean([r.ssim_before for r in self.rows]),
            ssim_after=_mean([r.ssim_after for r in self.rows]),
            certificate=max(r.certificate for r in self.rows),
            status=f"{self.certified} of {len(self)} certified{self._late}",
            peak=self.peak,
        )

    @property
    def unfinished(self) -> int:
        """How many solves are known to have ended before the accuracy asked for."""
        return sum(r.unfinished for r in self.rows)

    @property
    def missed(self) -> list[str]:
        """Of the accuracy that the reconstructions themselves are asked for, what was missed."""
        if not self.unfinished:
            return []
        how = ", ".join(dict.fromkeys(r.status for r in self.rows if r.unfinished))
        late = f"{self.unfinished} of {len(self)}"
        return [f"{late} reconstructions missed the accuracy of reconstructions ({how})"]

    @property
    def worse(self) -> list[str]:
        """Where reconstructions are no nearer to the truth."""
        if not self.mean.gain < 0:
            return []
        by = f"{-self.mean.gain:.2f} dB on average"
        what = "reconstructions are further from the truth than what they were made from"
        return [f"{what}, by {by}"]

    @property
    def shortfalls(self) -> list[str]:
        """What was asked for and not reached: accuracy, and images nearer to the truth."""
        return [*self.missed, *self.worse]

    @property
    def _late(self) -> str:
        late = self.unfinished
        return f", {late} not as accurate as asked" if late else ""

    @property
    def certified(self) -> int:
        """How many samples have a proved distance that says something."""
        return sum(r.certified for r in self.rows)

    @property
    def scatter(self) -> float:
        """Standard deviation of the gains [dB]; nan for a single sample."""
        if len(self) < 2:
            return math.nan
        return float(torch.tensor([r.gain for r in self.rows], dtype=torch.float64).std())


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def peak_of_all(samples: Iterable[Samples]) -> float:
    """The peak of all targets (:func:`~bilevel.ground.contrast.peak_of`)."""
    return peak_of(torch.cat([batch.target.flatten() for batch in samples]))


def _scores(samples: Samples, peak: float) -> list[Score]:
    before, after, target = samples.before, samples.after, samples.target
    levels = psnr(before, target, peak), psnr(after, target, peak)
    similarities = _ssim(before, target, peak), _ssim(after, target, peak)
    return [
        Score(
            id=name,
            psnr_before=float(levels[0][k]),
            psnr_after=float(levels[1][k]),
            ssim_before=float(similarities[0][k]),
            ssim_after=float(similarities[1][k]),
            certificate=float(samples.certificate[k]),
            status=_name(samples.status, k),
            peak=peak,
        )
        for k, name in enumerate(samples.ids)
    ]


def _name(status: Tensor | None, k: int) -> str:
    return "" if status is None else ENDINGS[Status(int(status[k]))].words


def _ssim(x: Tensor, target: Tensor, peak: float) -> Tensor:
    if min(x.shape[2:]) < SSIM_WINDOW:
        return torch.full((len(x),), math.nan, dtype=torch.float64, device=x.device)
    chunks = zip(torch.split(x, _CHUNK), torch.split(target, _CHUNK), strict=True)
    return torch.cat([ssim(a, b, peak) for a, b in chunks])

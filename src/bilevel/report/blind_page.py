"""The report of a fit that was learned from data alone: no truth to compare with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from bilevel.ground.checks import check_images
from bilevel.ground.contrast import peak_of, window_of
from bilevel.ground.errors import InputError
from bilevel.learn import Fit
from bilevel.report import words
from bilevel.report.claims import claims, learning_claims
from bilevel.report.comparison import Score, Scores
from bilevel.report.endings import ENDINGS
from bilevel.report.gallery import Tile, shown_side
from bilevel.report.page import about_fit, accuracy, certainty, render
from bilevel.report.parameters import model_name
from bilevel.report.pictures import picture, shown
from bilevel.solve import Status

__all__ = ["Reconstructed", "blind_page"]

_MOST = 4


@dataclass(frozen=True, eq=False)
class Reconstructed:
    """Reconstructions of one size, row k of each tensor belonging to ``ids[k]``.

    Args:
        ids: one an image.
        before: what one has without reconstruction, (k, c, h, w) [grey value].
        after: the reconstructions.
        certificate: certified rms distance to the exact minimiser, (k,) [grey value].
        status: of the solves, (k,).

    Raises:
        InputError: shapes or counts that differ, or no image at all.
    """

    ids: Sequence[str]
    before: Tensor
    after: Tensor
    certificate: Tensor
    status: Tensor

    def __post_init__(self) -> None:
        """Everything must have one row an image."""
        check_images(self.before, "before")
        check_images(self.after, "after")
        count = len(self.ids)
        if not {len(self.before), len(self.after)} == {count} != {0}:
            given = f"{len(self.before)} and {len(self.after)} rows"
            raise InputError(f"{count} ids need as many images, at least one", given=given)

    @property
    def scores(self) -> Scores:
        """What is known of each without the truth: certificate and end of the solve."""
        peak, unknown = peak_of(self.after), math.nan
        return Scores(
            tuple(
                Score(
                    name,
                    psnr_before=unknown,
                    psnr_after=unknown,
                    ssim_before=unknown,
                    ssim_after=unknown,
                    certificate=float(certificate),
                    status=ENDINGS[Status(int(status))].words,
                    peak=peak,
                )
                for name, certificate, status in zip(
                    self.ids, self.certificate, self.status, strict=True
                )
            )
        )


def blind_page(fit: Fit, images: Reconstructed, *, title: str = "What was learned") -> str:
    """The report of a fit without ground truth: one HTML page that fetches nothing.

    Args:
        fit: what was learned, and how.
        images: the data that θ was learned from, reconstructed with the fit.
        title: headline.

    Example:
        >>> import torch, bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> y = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> problem = bl.UnsupervisedProblem(energy, y, bl.criteria.SURE(0.1))
        >>> fit = bl.learn(problem, budget=bl.Budget(steps=1))
        >>> x = fit.reconstruct(y, bl.Tolerance(rms=1e-3))
        >>> found = Reconstructed(["a"], y, x.x, x.certificate.rms, x.status)
        >>> "without ground truth" in blind_page(fit, found)
        True
    """
    scores = images.scores
    numbers = sum(value.numel() for value in fit.theta.values())
    measurements = words.plural(len(scores), "measurement")
    lede = [
        f"{words.plural(numbers, 'parameter')} of {model_name(fit)} learned from {measurements}, "
        f"without ground truth, in {words.duration(fit.cost.seconds)}.",
        certainty(scores),
        *([f"Learned by {fit.algorithm}."] if fit.algorithm else []),
        f"Why it stopped: {fit.reason}.",
    ]
    context = about_fit(fit) | {
        "lede": lede,
        "numbers": numbers,
        "measurements": measurements,
        "total": len(scores),
        "cards": _cards(images),
        "accuracy": accuracy(scores),
        "claims": [*claims(scores), *learning_claims(fit)],
    }
    return render("blind.html.jinja", title, fit.configuration, context)


def _cards(images: Reconstructed) -> list[dict[str, object]]:
    count, size = min(_MOST, len(images.ids)), images.after.shape[2:]
    side = shown_side(count, images.after.shape[1])
    part = min(side, size[0]), min(side, size[1])
    note = "" if part == tuple(size) else f"middle {part[0]} × {part[1]} pixels"
    window = window_of(images.after)
    return [
        {
            "id": name,
            "size": part,
            "note": note,
            "tiles": [
                Tile(picture(shown(x[k : k + 1], side)[0], window), title, "", f"{name}, {title}")
                for x, title in ((images.before, "Data"), (images.after, "Reconstruction"))
            ],
        }
        for k, name in enumerate(images.ids[:count])
    ]

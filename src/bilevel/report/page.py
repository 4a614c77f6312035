"""One self-contained HTML page: what was learned, how good it is and how sure that is."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined

from bilevel.ground.errors import InputError
from bilevel.learn import Fit, Status
from bilevel.model import Cost
from bilevel.model.fidelities import SampledL2
from bilevel.model.losses import PSNR
from bilevel.model.regularisers import (
    DirectionalTV,
    ExactTotalVariation,
    FieldsOfExperts,
    TotalVariation,
)
from bilevel.report import figures, words
from bilevel.report.claims import certified_accuracy, claims, improvement, learning_claims
from bilevel.report.comparison import Samples, Scores, batches, peak_of_all
from bilevel.report.convergence import stationarity_chart, tolerance
from bilevel.report.directions import direction_fields
from bilevel.report.gallery import gallery, median_card, shown_side
from bilevel.report.generalisation import Generalisation
from bilevel.report.parameters import model_name, parameters, parts, scalar_values
from bilevel.report.pictures import filters, mask, weight_map
from bilevel.report.potentials import potential_charts
from bilevel.report.provenance import pretty, versions

__all__ = [
    "about_fit",
    "accuracy",
    "certainty",
    "evaluation_page",
    "learning_page",
    "render",
    "write_page",
]

_MOST_TRAINING, _MOST_EVALUATED = 4, 6


def learning_page(
    fit: Fit,
    *,
    training: Samples,
    held_out: Samples | Iterable[Samples] | None = None,
    title: str = "What was learned",
    peak: float | None = None,
) -> str:
    """The report of a fit: one HTML page that fetches nothing.

    Args:
        fit: what was learned, and how.
        training: images that θ was learned from, reconstructed with the fit.
        held_out: images that it was not learned from; one batch, or one for each size.
        title: headline.
        peak: what PSNR and SSIM take for white [grey value]; that of all targets if None.

    Raises:
        InputError: samples that are empty.
    """
    groups = {"training": (training,)} | (
        {"held-out": batches(held_out)} if held_out is not None else {}
    )
    peak = peak_of_all(b for group in groups.values() for b in group) if peak is None else peak
    scores = {name: Scores.of(group, peak) for name, group in groups.items()}
    verdict = None
    if "held-out" in scores:
        verdict = Generalisation(
            training=scores["training"],
            held_out=scores["held-out"],
            parameters=sum(v.numel() for v in fit.theta.values()),
            values=training.target.numel(),
        )
    context = _common(fit, groups, scores, _MOST_TRAINING) | {
        "lede": _learning_lede(fit, scores),
        "verdict": verdict,
        "claims": [*claims(_joined(scores)), *learning_claims(fit)],
    }
    return render("learning.html.jinja", title, fit.configuration, context)


def evaluation_page(
    fit: Fit,
    samples: Samples | Iterable[Samples],
    *,
    title: str = "Evaluation",
    peak: float | None = None,
) -> str:
    """How good a fit is on images: one HTML page that fetches nothing.

    Args:
        fit: what was learned.
        samples: reconstructions with the fit; one batch, or one for each size of image.
        title: headline.
        peak: what PSNR and SSIM take for white [grey value]; that of all targets if None.

    Raises:
        InputError: samples that are empty.
    """
    groups = {"evaluated": batches(samples)}
    scores = {name: Scores.of(group, peak) for name, group in groups.items()}
    context = _common(fit, groups, scores, _MOST_EVALUATED) | {
        "lede": _evaluation_lede(fit, scores["evaluated"]),
        "claims": claims(scores["evaluated"]),
    }
    return render("evaluation.html.jinja", title, fit.configuration, context)


def write_page(path: str | Path, html: str) -> Path:
    """Write a page, whole or not at all.

    Raises:
        InputError: the place cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(html, encoding="utf-8", errors="replace")
        temporary.replace(path)
    except OSError as problem:
        advice = "choose a place that you may write to"
        reason = problem.strerror or str(problem)
        raise InputError(f"cannot write '{path}': {reason}", advice=advice) from problem
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return path


def render(
    template: str,
    title: str,
    configuration: Mapping[str, Any] | None,
    context: Mapping[str, object],
) -> str:
    """Fill in a template of this package."""
    environment = Environment(
        loader=PackageLoader("bilevel.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=words.number,
        level=words.level,
        difference=words.difference,
        decibels=words.decibels,
        gain=words.gain,
        count=words.count,
        proved=words.proved,
        similarity=words.similarity,
    )
    always = {
        "title": title,
        "date": f"{date.today().day} {date.today():%B %Y}",
        "configuration": pretty(configuration or {}),
        "versions": versions(),
    }
    return environment.get_template(template).render({**always, **context})


def _common(
    fit: Fit,
    groups: dict[str, tuple[Samples, ...]],
    scores: dict[str, Scores],
    most: int,
) -> dict[str, object]:
    cards = sum(min(most, len(s)) for s in scores.values()) + 1
    channels = max(batch.target.shape[1] for group in groups.values() for batch in group)
    side, hero = shown_side(cards, channels), list(groups)[-1]
    return about_fit(fit) | {
        "scores": scores,
        "hero": median_card(groups[hero], scores[hero], side=side),
        "hero_group": hero,
        "galleries": {
            name: gallery(group, scores[name], side=side, most=most)
            for name, group in groups.items()
        },
        "gains": figures.gains_chart(scores),
        "accuracy": accuracy(_joined(scores)),
    }


def about_fit(fit: Fit) -> dict[str, object]:
    """What a page says of a fit, whatever came of it."""
    return {
        "fit": fit,
        "charts": _charts(fit),
        "progress": _progress(fit),
        "parameters": parameters(fit),
        "banks": [(name, filters(part)) for name, part in parts(fit, FieldsOfExperts)],
        "curves": potential_charts(fit),
        "maps": [
            (name, found)
            for kind in (TotalVariation, ExactTotalVariation)
            for name, part in parts(fit, kind)
            if (found := weight_map(part)) is not None
        ],
        "fields": [
            (name, field)
            for name, part in parts(fit, DirectionalTV)
            for field in direction_fields(part)
        ],
        "masks": [mask(part) for _, part in parts(fit, SampledL2)],
        "cost": fit.cost,
        "ledger": _ledger(fit.cost),
        "duration": words.duration(fit.cost.seconds),
    }


def _joined(scores: dict[str, Scores]) -> Scores:
    return Scores(tuple(row for group in scores.values() for row in group.rows))


def _learning_lede(fit: Fit, scores: dict[str, Scores]) -> list[str]:
    mean, many = scores["training"].mean, len(scores["training"])
    images = words.plural(many, "training image")
    average = "" if many == 1 else " on average"
    sentences = [
        _learned(fit),
        f"Reconstruction raises PSNR on {images} by {words.gain(mean.gain)}{average}, from "
        f"{words.decibels(mean.psnr_before)} to {words.decibels(mean.psnr_after)}.",
    ]
    if "held-out" in scores:
        other = scores["held-out"]
        images = words.plural(len(other), "image")
        sentences.append(
            f"On {images} that it has never seen, the gain is {words.gain(other.mean.gain)}."
        )
    sentences.append(words.for_peak(scores["training"].peak))
    sentences += _levels(fit)
    ended = [] if fit.status is Status.GIVEN else [f"Why it stopped: {fit.reason}."]
    return [*sentences, certainty(_joined(scores)), *_by(fit), *ended]


def _levels(fit: Fit) -> list[str]:
    """Where every image has noise of its own level."""
    sigma = (fit.configuration or {}).get("noise", {}).get("sigma")
    if not isinstance(sigma, (list, tuple)):
        return []
    low, high = (words.number(float(level)) for level in cast(Sequence[float], sigma))
    return [f"Every image has noise of a level of its own, drawn from {low} to {high} grey values."]


def _learned(fit: Fit) -> str:
    """What was learned, if anything was."""
    if fit.status is Status.GIVEN:
        return f"Nothing was learned: {model_name(fit)} as it was given."
    learned = words.plural(sum(v.numel() for v in fit.theta.values()), "parameter")
    return f"{learned} of {model_name(fit)} learned in {words.duration(fit.cost.seconds)}."


def _by(fit: Fit) -> list[str]:
    return [f"Learned by {fit.algorithm}."] if fit.algorithm else []


def _evaluation_lede(fit: Fit, scores: Scores) -> list[str]:
    mean = scores.mean
    learned = "" if fit.status is Status.GIVEN else "learned "
    return [
        f"{words.plural(len(scores), 'image')} reconstructed with {learned}{model_name(fit)}: PSNR "
        f"rises by {words.gain(mean.gain)} on average, from {words.decibels(mean.psnr_before)} "
        f"to {words.decibels(mean.psnr_after)}. {words.for_peak(scores.peak)}",
        certainty(scores),
    ]


def accuracy(scores: Scores) -> tuple[str, str]:
    """Of a tile: a number and what it is."""
    worst = scores.mean.certificate
    if math.isfinite(worst):
        return words.number(worst), "grey values (rms), at worst"
    return "none", "a distance is proved for " + scores.mean.status.removesuffix(" certified")


def certainty(scores: Scores) -> str:
    """How sure reconstructions are, in a sentence or two."""
    subject = "The reconstruction is" if len(scores) == 1 else "Every reconstruction is"
    if scores.certified < len(scores):
        subject = "Reconstructions are"
    late = sum(row.unfinished for row in scores.rows)
    stopped = f" {late} of {len(scores)} stopped before the accuracy asked for." if late else ""
    return f"{subject} {certified_accuracy(scores)}.{stopped}"


def _progress(fit: Fit) -> str:
    if not fit.history:
        return "Learning ended before its first outer step."
    name, first, last = improvement(fit)
    rejected = sum(not r.accepted for r in fit.history)
    steps = words.plural(len(fit.history) - 1, "outer step")
    return (
        f"{steps}, {rejected or 'none'} of them rejected. The {name} went from "
        f"{first} at the start to {last}."
    )


def _charts(fit: Fit) -> list[tuple[str, str]]:
    """Each with its caption."""
    if not fit.history:
        return []
    loss = "Loss at the reconstructions computed; shaded where the true loss is proved to lie."
    error = "Norm of the hypergradient, and how far from the exact one it may be."
    found = [
        (figures.loss_chart(fit.history, fit.unit), loss),
        (figures.accuracy_chart(fit.history), "Accuracy asked of the lower level, and reached."),
    ]
    if not all(math.isnan(r.gradient_norm) for r in fit.history):
        found.append((figures.gradient_chart(fit.history, fit.unit), error))
    if fit.unit != PSNR.unit and any(math.isfinite(r.psnr) for r in fit.history):
        found.insert(1, (figures.psnr_chart(fit.history), "The same as PSNR."))
    if any(math.isfinite(r.projected) for r in fit.history):
        tol = tolerance(fit.configuration)
        test = "Norm of the projected gradient and the test that ends learning."
        found.append((stationarity_chart(fit.history, tol, fit.unit), test))
    values = scalar_values(fit)
    if values:
        found.append((figures.paths_chart(fit.history, values), "Scalar parameters on their way."))
    return found


def _ledger(cost: Cost) -> list[tuple[str, str, str]]:
    """What was spent: name, amount, explanation."""
    return [
        ("Gradient evaluations", words.count(cost.gradient_evaluations), "of one sample's energy"),
        ("Hessian-vector products", words.count(cost.hvps), "of one sample's energy"),
        ("Operator applications", words.count(cost.operator_applications), "forward or adjoint"),
        ("Time", words.duration(cost.seconds), "in solves and derivatives"),
    ]

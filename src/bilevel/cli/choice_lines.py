"""What was chosen for a picture, as a line of the record, and back again."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bilevel import data
from bilevel.cli.choice_report import entry, unanswered
from bilevel.cli.record import Line, finite, from_null
from bilevel.ground.errors import InputError
from bilevel.model import Cost
from bilevel.report import ENDINGS, Compared, chosen
from bilevel.select import Choice, Comparison, Curve, Outcome
from bilevel.solve import Certificate, Claim

__all__ = ["compared_of", "light", "line_of"]


def line_of(one: Compared, estimated: data.Noise | None) -> Line:
    """The one image of a comparison; ``estimated`` noise if its level was not given."""
    found = chosen([one])
    first = next((row for row in found if ENDINGS[row.outcome].answered), found[0])
    choices = one.comparison.choices
    cost = sum((choice.cost for choice in choices.values()), Cost())
    low, high = one.comparison.before.aminmax()
    answered = ENDINGS[first.outcome].answered
    return {
        "id": one.ids[0],
        "status": ENDINGS[first.outcome].words,
        "answered": answered,
        "missing": None if answered else unanswered([one])[0],
        "weight": first.weight,
        "certificate": {"rms": finite(first.certificate)},
        "cost": vars(cost),
        "noise": None if estimated is None else vars(estimated),
        "range": [float(low), float(high)],
        "rules": {
            row.rule: {
                **entry(row, choices[row.rule], 0),
                "cost": vars(choices[row.rule].cost),
            }
            for row in found
        },
        "failures": dict(one.comparison.failures),
    }


def light(one: Compared) -> Compared:
    """Without its images, of which a report needs no more than the least and greatest value."""
    comparison = one.comparison
    low, high = comparison.before.aminmax()
    ends = _ends(float(low), float(high))
    choices = {
        name: replace(choice, x=ends, certificate=_certificate(float(choice.certificate.rms[0])))
        for name, choice in comparison.choices.items()
    }
    return Compared(one.ids, replace(comparison, y=ends, before=ends, choices=choices))


def compared_of(
    line: Line,
    y: Tensor | None = None,
    before: Tensor | None = None,
    images: dict[str, Tensor] | None = None,
) -> Compared:
    """From a line; with the data and the image of each rule, (1, c, h, w), if these are known.

    Raises:
        InputError: a line that was not written by :func:`line_of`.
    """
    try:
        ends = _ends(*line["range"])
        choices = {
            name: _choice(name, found, ends if images is None else images[name])
            for name, found in line["rules"].items()
        }
        data_seen, start = ends if y is None else y, ends if before is None else before
        return Compared([line["id"]], Comparison(data_seen, start, choices, line["failures"]))
    except (KeyError, TypeError, ValueError) as error:
        what = f"a line of the record does not say what was chosen for {line['id']} ({error})"
        raise InputError(what, advice="choose another folder with --out") from error


def _choice(name: str, found: dict[str, Any], x: Tensor) -> Choice:
    curve = found["curve"]
    weights, values = (
        torch.tensor([from_null(value) for value in curve[key]], dtype=torch.float64)[:, None]
        for key in ("weight", "criterion")
    )
    return Choice(
        rule=name,
        weight=torch.tensor([found["weight"]], dtype=torch.float64),
        x=x,
        certificate=_certificate(from_null(found["certificate"])),
        curve=Curve(weights, values),
        outcome=(Outcome[found["outcome"]],),
        advice=(found["advice"],),
        cost=Cost.of(found["cost"]),
    )


def _certificate(rms: float) -> Certificate:
    """Of a distance alone; the rest is not known any more."""
    unknown = torch.tensor([math.inf], dtype=torch.float64)
    claim = torch.tensor([Claim.GLOBAL if math.isfinite(rms) else Claim.STATIONARY])
    none = torch.zeros(1, dtype=torch.float64)
    distance = torch.tensor([rms], dtype=torch.float64)
    return Certificate(distance, unknown, unknown, unknown, unknown, none, claim, none)


def _ends(low: float, high: float) -> Tensor:
    return torch.tensor([low, high]).view(1, 1, 1, 2)

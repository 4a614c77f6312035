"""Learned potentials and profiles as charts."""

from __future__ import annotations

from torch import Tensor

from bilevel.learn import Fit
from bilevel.model.regularisers import CascadeRegulariser, FieldsOfExperts
from bilevel.report.parameters import parts
from bilevel.report.style import BLUE, chart
from bilevel.report.words import number, plural

__all__ = ["potential_charts"]


def potential_charts(fit: Fit) -> tuple[tuple[str, str], ...]:
    """Name and ``<svg>`` of every learned potential or profile of the energy."""
    experts = [
        (name, "response over the smoothing, s", found)
        for name, part in parts(fit, FieldsOfExperts)
        if (found := part.drawn()) is not None
    ]
    ridges = [
        (name, "response times its scale, s", part.drawn())
        for name, part in parts(fit, CascadeRegulariser)
    ]
    return tuple(
        (name, _chart(f"potential-{k}", name, label, *found))
        for k, (name, label, found) in enumerate((*experts, *ridges))
    )


def _chart(identity: str, name: str, label: str, s: Tensor, curves: Tensor) -> str:
    """One curve for all filters, or one for each."""
    places = [float(v) for v in s]
    low, high = float(curves.min()), float(curves.max())
    many = plural(len(curves), "curve")
    alt = f"Potential of {name}: {many} from {number(low)} to {number(high)}"
    with chart(identity, alt, f"{label} [1]", "potential ψ(s) [1]") as drawn:
        thin = len(curves) > 1
        for curve in curves:
            values = [float(v) for v in curve]
            drawn.axes.plot(
                places, values, color=BLUE, lw=0.7 if thin else 1.6, alpha=0.5 if thin else 1.0
            )
    return drawn.svg

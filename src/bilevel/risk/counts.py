"""What rules assume of counts: Poisson noise of a known peak."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.model import Variational
from bilevel.model.fidelities import KullbackLeibler

__all__ = ["check_poisson", "counts_of", "means_of"]


def check_poisson(rule: str, energy: Variational, y: Tensor, peak: float) -> None:
    """Raise InputError unless the fidelity is that of Poisson noise and each row has a count."""
    check_positive(peak, "the photon number peak")
    if not isinstance(energy.fidelity, KullbackLeibler):
        what = f"{rule} assumes Poisson noise, that is the fidelity KullbackLeibler"
        raise InputError(what, given=type(energy.fidelity).__name__)
    sums = energy.fidelity.counts(y).flatten(1).sum(1)
    empty = [k for k, total in enumerate(sums) if not float(total)]
    if empty:
        advice = "leave these rows out: without a photon nothing is known of them"
        raise InputError("all counts are zero", given=f"rows {empty}", advice=advice)


def counts_of(energy: Variational, y: Tensor) -> Tensor:
    """Z = y + background of every datum, whose law is Poisson(peak t)/peak; float64."""
    return cast(KullbackLeibler, energy.fidelity).counts(y).double()


def means_of(energy: Variational, prediction: Tensor) -> Tensor:
    """T = A x + background of every datum, with ``prediction`` A x >= 0; float64."""
    background = cast(KullbackLeibler, energy.fidelity).background
    return (prediction.double() + background).clamp_min(background)

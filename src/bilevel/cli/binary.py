"""Learned masks made binary."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor

from bilevel.learn import Fit
from bilevel.model import Variational
from bilevel.model.fidelities import SampledL2

__all__ = ["binarised", "is_binary", "sampling_of"]


def sampling_of(fit: Fit) -> Tensor:
    """The weights of its mask that are not kept."""
    energy = cast(Variational, fit.energy)
    return cast(SampledL2, energy.fidelity).sampling.detach()


def is_binary(fit: Fit) -> bool:
    """Whether its mask was learned and is binary now."""
    fidelity = fit.energy.fidelity if isinstance(fit.energy, Variational) else None
    return isinstance(fidelity, SampledL2) and not fidelity.sampling.requires_grad


def binarised(fit: Fit, energy: Variational, sampling: Tensor | None = None) -> Variational:
    """``energy`` with a binary mask, that of ``fit`` if None, and the other parameters of it."""
    learned = cast(Variational, fit.energy)
    own = cast(SampledL2, copy.deepcopy(learned.fidelity)).binarised()
    made = Variational(own, copy.deepcopy(energy).regulariser)
    with torch.no_grad():
        for name, value in learned.regulariser.named_parameters():
            made.regulariser.get_parameter(name).copy_(value)
        if sampling is not None:
            own.sampling.copy_(sampling)
    return made

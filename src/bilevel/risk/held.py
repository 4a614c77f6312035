"""Which data an operator reaches, and which of them are held out of a reconstruction."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.model import Variational
from bilevel.model.operators import Mask, Operator

__all__ = ["check_part", "held_out", "left", "prediction_error", "reached", "seen"]


def check_part(part: float) -> None:
    """Raise InputError unless 0 < part < 1."""
    if not 0 < part < 1:
        raise InputError("the part held out must lie in (0, 1)", given=part)


def held_out(energy: Variational, y: Tensor, part: float, seed: int) -> Tensor:
    """A random part of the data that the operator reaches, the same of all rows.

    Returns:
        (c', h', w') bool, like a row of ``y``.

    Raises:
        InputError: nothing would be held out, or nothing left.
    """
    within = reached(energy, y)
    random = torch.rand(y.shape[1:], generator=generator(seed, "hold out"))
    held = (random < part).to(y.device) & within
    count, total = int(held.sum()), int(within.sum())
    if not 0 < count < total:
        given = f"{count} of {total} held out (part = {part})"
        raise InputError("some data must be held out and some left", given=given)
    return held


def left(energy: Variational, y: Tensor, held: Tensor) -> Variational:
    """A copy that does not see the data ``held`` (c', h', w') bool of ``y``; A itself is shared."""
    operator = energy.fidelity.operator
    masked = copy.deepcopy(energy, {id(operator): operator})
    masked.fidelity.operator = Mask((~held).to(y)) @ operator
    return masked


def prediction_error(prediction: Tensor, y: Tensor, held: Tensor) -> Tensor:
    """The mean of (A x - y)² over the data held out, (b,) float64 [unit of the data squared]."""
    return (held * (prediction - y)).double().square().flatten(1).sum(1) / held.sum()


def reached(energy: Variational, y: Tensor) -> Tensor:
    """The data that the operator reaches, (c', h', w') bool; see :func:`seen`."""
    with torch.no_grad():
        return seen(energy.fidelity.operator, energy.image(energy.start(y)))


def seen(operator: Operator, x: Tensor) -> Tensor:
    """The data that A reaches, (c', h', w') bool: rows of A that are not 0, as under a mask."""
    random = torch.randn(x[:1].shape, generator=generator(0, "seen"))
    return operator(random.to(x))[0] != 0

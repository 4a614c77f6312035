"""Which data an operator reaches, and which of them are held out of a reconstruction."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.model import Variational
from bilevel.select.point import seen

__all__ = ["check_part", "held_out", "reached"]


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


def reached(energy: Variational, y: Tensor) -> Tensor:
    """The data that the operator reaches, (c', h', w') bool; see :func:`seen`."""
    with torch.no_grad():
        return seen(energy.fidelity.operator, energy.image(energy.start(y)))

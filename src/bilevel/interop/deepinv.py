"""Linear physics of deepinv."""

from __future__ import annotations

import copy
import importlib
from typing import Any, cast

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model.operators import Linear, Shape

__all__ = ["from_deepinv"]

EXTRA = "pip install 'bilevel[deepinv]'"


def from_deepinv(physics: object, image_shape: Shape, norm: float | None = None) -> Linear:
    """A ``deepinv.physics.LinearPhysics``: its ``A`` and ``A_adjoint``, without its noise.

    Images and data are real tensors (b, c, h, w), complex ones pairs of channels, as in deepinv.
    The physics is copied once for each precision; what is written into it later changes nothing.
    Its ``compute_norm`` is an estimate from below and not used.

    Args:
        physics: the forward operator; its noise model is left to the fidelity.
        image_shape: (c, h, w).
        norm: as for :class:`~bilevel.operators.Linear`.

    Raises:
        InputError: deepinv is missing or cannot be imported, something else than a linear physics,
            or an ``A_adjoint`` that is not the adjoint of ``A``.
    """
    if not isinstance(physics, _linear_physics()):
        given = type(physics).__name__
        raise InputError("a deepinv LinearPhysics is needed", given=given)
    found = cast(Any, physics)
    copies = {d: copy.deepcopy(found).to(d) for d in (torch.float32, torch.float64)}

    def forward(x: Tensor) -> Tensor:
        return copies[x.dtype].A(x)

    def adjoint(y: Tensor) -> Tensor:
        return copies[y.dtype.to_real()].A_adjoint(y)

    return Linear(forward, adjoint, image_shape, norm)


def _linear_physics() -> Any:
    try:
        return importlib.import_module("deepinv.physics").LinearPhysics
    except ImportError as error:
        raise InputError("deepinv is not installed", advice=EXTRA) from error
    except RuntimeError as error:  # its torchvision does not fit this PyTorch
        reason = str(error).split("\n")[0]
        what = f"deepinv cannot be imported ({reason})"
        raise InputError(what, advice="install a torchvision built for this PyTorch") from error

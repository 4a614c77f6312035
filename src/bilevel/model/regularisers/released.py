"""Weights of weakly convex ridge regularisers as their authors release them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model.sets import ZeroMean

__all__ = ["Released", "read_released"]

REACH = 0.1
"""The last knot of their splines."""
GREY = 255.0
"""Their noise levels count grey values of 8 bits, their images reach from 0 to 1."""


class Released:
    """What a file gives in the terms of ``SplineRidge``: for images in [0, 1], levels too.

    ``filters``, the first of mean zero; ``slopes`` (n,) of one spline between 0 and 1; ``scaling``
    (m, places), exp(q) of these units.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        """Of a state dict. Raises KeyError for a missing tensor."""
        layers = {
            int(found[1]): value.float()
            for name, value in state.items()
            if (
                found := re.fullmatch(
                    r"conv_layer\.conv_layers\.(\d+)\.(?:.*\.)?(?:weight|original)", name
                )
            )
        }
        self.filters = [layers[k] for k in range(len(layers))]
        if not self.filters:
            raise KeyError("conv_layer.conv_layers.0")
        self.filters[0] = ZeroMean().project(self.filters[0])
        convex, concave = (
            _slopes(state[f"activation_{kind}.coefficients"]) for kind in ("cvx", "ccv")
        )
        self.slopes = state["mu_"].double().exp().reshape(()) * convex - concave
        q = state["spline_scaling.coefficients"].double()
        self.scaling = q.exp() / (GREY * REACH)


def _slopes(coefficients: Tensor) -> Tensor:
    """As the authors project them: in [0, 1], 0 at either end, the odd part; of s >= 0."""
    values = coefficients.double().flatten()
    if len(values) < 5 or len(values) % 2 == 0:
        raise KeyError("an odd number of coefficients of the splines")
    slopes = (values.diff() * (len(values) - 1) / (2 * REACH)).clamp(0, 1)
    slopes[0] = slopes[-1] = 0
    return (0.5 * (slopes + slopes.flip(0)))[len(slopes) // 2 :]


def read_released(path: str | Path) -> Released:
    """The weights in a ``.pth`` file of Goujon, Neumayer, Unser 2024; nothing in it is run.

    Raises:
        InputError: no such file, or one that holds something else.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no file '{path}'")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        return Released(found["state_dict"])
    except (KeyError, TypeError, AttributeError, RuntimeError, EOFError, ValueError) as error:
        reason = f"{type(error).__name__} {error}".splitlines()[0]
    except pickle.UnpicklingError:
        reason = "it is no file of tensors alone"
    raise InputError(f"'{path}' holds no weakly convex ridge regulariser: {reason}")

"""Energies at work: a layer for other models, and arrays in and out."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bilevel.differentiate import argmin
from bilevel.ground.errors import InputError
from bilevel.model import Energy, Objective
from bilevel.solve import Tolerance, minimise
from bilevel.solve.policy import RECONSTRUCTING
from bilevel.solve.solvers import accelerated

__all__ = ["Reconstruction", "reconstruct", "tolerance_of"]

Number = TypeVar("Number", bound=np.generic)


def tolerance_of(
    energy: Energy, objective: Objective, y: Tensor, accuracy: float | None = None
) -> Tolerance:
    """For reconstructions from ``y`` to rms ``accuracy``, a thousandth of the contrast if None.

    The contrast is that of the images behind ``y``; it is a hundredth of that for images in wider
    states, which are far nearer than what is proved of them. Where the energy proves no strong
    convexity of use, the rms of ∇J is brought to a hundredth of the accuracy instead (a tenth where
    terms are dual), or to what rounding leaves of it.
    """
    contrast = energy.contrast(y)
    rms = RECONSTRUCTING.usual(objective) * contrast if accuracy is None else accuracy
    stiffness = energy.stiffness(contrast)
    return RECONSTRUCTING.tolerance(objective, rms, dtype=y.dtype, stiffness=stiffness)


class Reconstruction(nn.Module):
    """y -> argmin_x J(x; y) as a layer, differentiable by y and by the parameters of J.

    Its state is that of the energy: ``state_dict``, ``to(device)`` and ``double()`` work as for any
    module.

    Args:
        energy: J.
        accuracy: rms [grey value]; a thousandth of the contrast of the images behind y if None.
        max_steps: limit of the solver.

    Raises:
        NotCertified: when called, if the accuracy is not reached.

    Example:
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> layer = Reconstruction(energy, accuracy=1e-4)
        >>> layer(torch.ones(1, 1, 2, 2)).mean()
        tensor(0.5000, grad_fn=<MeanBackward0>)
    """

    def __init__(
        self, energy: Energy, accuracy: float | None = None, max_steps: int = 20_000
    ) -> None:
        super().__init__()
        self.energy, self.accuracy, self.max_steps = energy, accuracy, max_steps

    def forward(self, y: Tensor) -> Tensor:
        """x, (b, c, h, w), of data (b, c', h', w')."""
        with torch.no_grad():
            at = y.detach()
            tol = tolerance_of(self.energy, self.energy.at(at), at, self.accuracy)
        return self.energy.image(argmin(self.energy, y, tol=tol, max_steps=self.max_steps))

    def extra_repr(self) -> str:
        """The accuracy."""
        return f"accuracy={self.accuracy}"


def reconstruct(
    y: NDArray[Number], energy: Energy, *, accuracy: float | None = None, max_steps: int = 20_000
) -> NDArray[Any]:
    """x = argmin_x J(x; y), arrays in and out.

    Args:
        y: data (h', w'), (c', h', w') or (b, c', h', w'), float32 or float64; whole numbers count
            as float64, in their own units. Computed in the precision of y by a copy of the energy.
        energy: J; ``fit.energy`` for a learned one.
        accuracy: rms [grey value]; a thousandth of the contrast of the images behind y if None.
        max_steps: limit of the solver.

    Returns:
        The images: (b, c, h, w) for data of four dimensions, (c, h, w) for three; for two (h, w),
        or (c, h, w) if there are several channels.

    Raises:
        InputError: data that are complex or do not fit the energy.
        NotCertified: the accuracy was not reached.

    Example:
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> bl.reconstruct(np.full((2, 2), 4), energy, accuracy=1e-6)
        array([[2., 2.],
               [2., 2.]])
    """
    given = np.asarray(y)
    if given.dtype.kind not in "biuf" or not 2 <= given.ndim <= 4:
        what = "y must be a real array (h, w), (c, h, w) or (b, c, h, w)"
        advice = "give complex data as pairs of real channels"
        raise InputError(what, given=f"{given.dtype} {given.shape}", advice=advice)
    precise = given if given.dtype == np.float32 else given.astype(np.float64)
    data = torch.from_numpy(precise.copy())[(None,) * (4 - given.ndim)]
    own = copy.deepcopy(energy).to(data.dtype)
    own.settle(data)
    objective = own.at(data)
    tol = tolerance_of(own, objective, data, accuracy)
    found = minimise(objective, accelerated(objective), tol=tol, max_steps=max_steps).require()
    x = own.image(found.x)
    alone = x[0, 0] if x.shape[:2] == (1, 1) else x[0]  # of one channel, of several
    return (x if given.ndim == 4 else x[0] if given.ndim == 3 else alone).numpy()

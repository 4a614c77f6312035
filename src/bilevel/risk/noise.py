"""What rules assume of the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel import data
from bilevel.ground.checks import check_finite
from bilevel.ground.errors import InputError
from bilevel.model import Variational
from bilevel.model.fidelities import KullbackLeibler, SquaredL2
from bilevel.model.operators import Composition, Convolution, Downsampling, Identity, Operator
from bilevel.model.smooth import Smooth, SmoothSum

__all__ = [
    "Level",
    "background_of",
    "check_gaussian",
    "check_quadratic",
    "estimated_level",
    "gradient_of",
]

Level = float | Tensor | None
"""A noise level σ [unit of the data]: one for all rows, or one for each, (b,); None: estimated."""


def check_quadratic(rule: str, energy: Variational) -> SquaredL2:
    """The fidelity, if it is that of Gaussian noise; otherwise InputError."""
    if not isinstance(energy.fidelity, SquaredL2):
        what = f"{rule} assumes Gaussian noise, that is the fidelity SquaredL2"
        raise InputError(what, given=type(energy.fidelity).__name__)
    _check_one_level(rule, energy.fidelity)
    return energy.fidelity


def background_of(rule: str, energy: Variational) -> float | None:
    """That of Poisson noise, None for Gaussian noise; InputError for another fidelity."""
    fidelity = energy.fidelity
    if not isinstance(fidelity, SquaredL2 | KullbackLeibler):
        what = f"{rule} assumes Gaussian or Poisson noise, SquaredL2 or KullbackLeibler"
        raise InputError(what, given=type(fidelity).__name__)
    if isinstance(fidelity, SquaredL2):
        _check_one_level(rule, fidelity)
    return fidelity.background if isinstance(fidelity, KullbackLeibler) else None


def gradient_of(energy: Variational, y: Tensor) -> Smooth:
    """x -> Ψ(A x; y), if it has a gradient; otherwise InputError."""
    found = energy.fidelity.at(y)
    smooth = tuple(part for part in found if isinstance(part, Smooth))
    if len(smooth) < len(found):
        what = "how x follows the data can be told of a fidelity with a gradient alone"
        given, advice = type(energy.fidelity).__name__, "take SquaredL2 or KullbackLeibler"
        raise InputError(what, given=given, advice=advice)
    return SmoothSum(smooth)


def check_gaussian(rule: str, energy: Variational, y: Tensor, sigma: Level) -> None:
    """The same, with a level for every row of ``y``, or data that one can be estimated from."""
    fidelity = check_quadratic(rule, energy)
    if sigma is None:
        _check_estimable(fidelity.operator)
        return
    level = check_finite(torch.as_tensor(sigma, dtype=torch.float64), "the noise level sigma")
    fits = level.shape in {torch.Size([]), torch.Size([len(y)])}
    if not (fits and bool((level > 0).all())):
        expected = f"sigma must be positive, one number or one for each of {len(y)} rows"
        advice = "estimate it with bl.data.noise_level(y)"
        raise InputError(expected, given=sigma, advice=advice)


def estimated_level(energy: Variational, y: Tensor) -> Tensor:
    """The level σ of white noise that data which are images show, (b,) float64.

    Raises:
        InputError: data that are no whole images, in which no noise shows, or as
            :func:`~bilevel.data.noise_level.noise_level`.
    """
    _check_estimable(check_quadratic("a noise level estimated from the data", energy).operator)
    level = data.noise_level(y)
    if not bool((level > 0).all()):
        advice = "give sigma, or leave these rows out"
        raise InputError("no noise was found in the data", given=f"sigma = {level}", advice=advice)
    return level


def _check_one_level(rule: str, fidelity: SquaredL2) -> None:
    if fidelity.weights is not None:
        what = f"{rule} assumes noise of one level, and the data have weights of their own"
        advice = "scale data and operator by their square roots: Mask(weights.sqrt()) @ operator"
        raise InputError(what, advice=advice)


def _gives_images(operator: Operator) -> bool:
    """Whether data are images, with noise in every pixel."""
    if isinstance(operator, Composition):
        return _gives_images(operator.outer) and _gives_images(operator.inner)
    return isinstance(operator, Identity | Convolution | Downsampling)


def _check_estimable(operator: Operator) -> None:
    if not _gives_images(operator):
        what = "the noise level can be estimated from data that are whole images alone"
        advice = "give sigma, e.g. as estimated by bl.data.noise_level from a part that is one"
        raise InputError(what, given=type(operator).__name__, advice=advice)

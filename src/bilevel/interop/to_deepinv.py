"""Regularisers and energies as priors and reconstructors of deepinv."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from bilevel.differentiate import argmin
from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.ground.theta import bind
from bilevel.interop.deepinv import data_from_deepinv, deepinv, from_deepinv
from bilevel.learn.reconstruction import Reconstruction, tolerance_of
from bilevel.model import Energy, Variational
from bilevel.model.fidelities import SquaredL2
from bilevel.model.operators import Operator, Shape
from bilevel.model.part import Part
from bilevel.model.regularisers.regulariser import ImageTerm
from bilevel.model.smooth import Smooth, SmoothSum
from bilevel.model.term import parts_of

__all__ = ["to_deepinv_prior", "to_deepinv_reconstructor"]

_ACCURACY = 1e-5
"""Of proximal points, relative to the contrast: optimisers of deepinv stop there."""
_SAME = {torch.float32: 1e-4, torch.float64: 1e-10}
"""How far A x may be off, relative to ‖A x‖, of one and the same operator."""


def to_deepinv_prior(
    regulariser: ImageTerm, accuracy: float | None = None, max_steps: int = 20_000
) -> Any:
    """A regulariser, learned or not, as a ``deepinv.optim.Prior`` for deepinv's optimisers.

    Its ``prox`` is argmin_x γ R(x) + ½‖x - z‖², solved to a certified accuracy where R is convex
    and differentiable by z, by γ and by the parameters of R; a smooth R has its closed-form
    ``grad``. ``lambda_reg`` of an optimiser multiplies R with its own weight.

    Args:
        regulariser: R, e.g. ``fit.energy.regulariser``; shared, not copied.
        accuracy: rms of proximal points [grey value]; 1e-5 of the contrast of z if None.
        max_steps: limit of the solver of proximal points.

    Raises:
        InputError: deepinv is missing, something else than a regulariser, one with channels of its
            own, or one whose weights are left to data it has not seen; later a γ that is not
            positive, or the gradient of a term that has none.
        NotCertified: when called, a proximal point that was not found to the accuracy.
    """
    deepinv("optim")
    _check(regulariser, ImageTerm, "a prior is made from a regulariser")
    if sum(part.further for part in parts_of(regulariser)):
        given, advice = type(regulariser).__name__, "make a reconstructor from the energy"
        raise InputError("a prior is a function of the image alone", given=given, advice=advice)
    if any(part.left for part in regulariser.modules() if isinstance(part, Part)):
        advice = "give weight and smoothing as numbers, or take them from a fit"
        raise InputError("its weights are left to data that it has not seen", advice=advice)
    return _prior_class()(regulariser, accuracy, max_steps)


def to_deepinv_reconstructor(
    energy: Energy, accuracy: float | None = None, max_steps: int = 20_000
) -> Any:
    """An energy, e.g. that of a fit, as a ``deepinv.models.Reconstructor``: ``model(y, physics)``.

    x = argmin_x J(x; y), differentiable by y and by the parameters of J. Without a physics, or
    with one that does what the energy's operator does, that operator serves. Any other linear
    physics takes its place, adapted by :func:`from_deepinv` at each call, as what a physics holds
    may change; the weights stay as they are. ``y`` may be a ``TensorList``.

    Args:
        energy: J; shared, not copied.
        accuracy: rms [grey value]; a thousandth of the contrast of the images behind y if None.
        max_steps: limit of the solver.

    Raises:
        InputError: deepinv is missing, or something else than an energy; later a physics that is
            not linear, or none that the fidelity could take.
        NotCertified: when called, if the accuracy is not reached.
    """
    deepinv("models")
    _check(energy, Energy, "a reconstructor is made from an energy, such as fit.energy")
    return _reconstructor_class()(energy, accuracy, max_steps)


def _check(value: object, kind: type, what: str) -> None:
    if not isinstance(value, kind):
        raise InputError(what, given=type(value).__name__)


@cache
def _prior_class() -> Any:
    base: Any = deepinv("optim").Prior

    class BilevelPrior(base):
        """See :func:`to_deepinv_prior`."""

        def __init__(self, regulariser: ImageTerm, accuracy: float | None, max_steps: int) -> None:
            super().__init__()
            self.explicit_prior = True
            self.accuracy, self.max_steps = accuracy, max_steps
            dtype = next((p.dtype for p in regulariser.parameters()), torch.float32)
            self.energy = Variational(SquaredL2().to(dtype), regulariser)

        def fn(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
            del args, kwargs
            return self.energy.regulariser.forward(x)

        def grad(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
            del args, kwargs
            return _gradient(self.energy.regulariser, x)

        def prox(self, x: Tensor, *args: object, gamma: Any = 1.0, **kwargs: object) -> Tensor:
            del args, kwargs
            return _prox(self.energy, x, gamma, self.accuracy, self.max_steps)

    return BilevelPrior


@cache
def _reconstructor_class() -> Any:
    base: Any = deepinv("models").Reconstructor

    class BilevelReconstructor(base):
        """See :func:`to_deepinv_reconstructor`."""

        def __init__(self, energy: Energy, accuracy: float | None, max_steps: int) -> None:
            super().__init__()
            self.layer = Reconstruction(energy, accuracy, max_steps)

        def forward(self, y: object, physics: Any = None, **kwargs: object) -> Tensor:
            del kwargs
            data = data_from_deepinv(y)
            return _with_physics(self.layer, data, y, physics)(data)

    return BilevelReconstructor


def _gradient(regulariser: ImageTerm, x: Tensor) -> Tensor:
    functions = regulariser.at(x)
    smooth = tuple(part for part in functions if isinstance(part, Smooth))
    if len(smooth) < len(functions):
        advice = "take an optimiser that calls prox (PGD, FISTA, ADMM, DRS), or smooth the term"
        given = type(regulariser).__name__
        raise InputError("a term that is not smooth has no gradient", given=given, advice=advice)
    return SmoothSum(smooth).grad(x)


def _prox(
    energy: Variational, z: Tensor, gamma: object, accuracy: float | None, max_steps: int
) -> Tensor:
    """argmin_x ½‖x - z‖²/γ + R(x)."""
    steps = torch.as_tensor(gamma).to(z).flatten()
    if not len(steps) or not bool((steps == steps[0]).all() & (steps > 0).all()):
        given = f"{steps.tolist()}"
        raise InputError("gamma must be a positive number, the same for all rows", given=given)
    theta = {"fidelity.log_weight": -steps[0].log()}
    at = z.detach()
    with torch.no_grad():
        objective = energy.at(at, theta)
        rms = _ACCURACY * energy.contrast(at) if accuracy is None else accuracy
        tol = tolerance_of(energy, objective, at, rms)
    return argmin(energy, z, tol=tol, theta=theta, max_steps=max_steps)


def _with_physics(layer: Reconstruction, data: Tensor, y: object, physics: Any) -> nn.Module:
    """The layer, or one whose operator is that of the physics."""
    if physics is None:
        return layer
    if not isinstance(physics, deepinv("physics").LinearPhysics):
        raise InputError("a deepinv LinearPhysics is needed", given=type(physics).__name__)
    energy = layer.energy
    if not isinstance(energy, Variational) or len(parts_of(energy.fidelity)) > 1:
        what = "a physics needs an energy of one fidelity, whose operator it can be"
        raise InputError(what, given=type(energy).__name__, advice="call without a physics")
    with torch.no_grad():
        _, *sides = physics.A_adjoint(y).shape
        shape = (sides[0], sides[1], sides[2])
        if _same(energy.fidelity.operator, physics, shape, data):
            return layer
    twin = bind(energy, {})
    twin.fidelity.operator = from_deepinv(physics, shape)
    return Reconstruction(twin, layer.accuracy, layer.max_steps)


def _same(operator: Operator, physics: Any, shape: Shape, data: Tensor) -> bool:
    """Whether A x is the same for a random x: of two maps that differ it never is."""
    try:
        fits = operator.data_shape(shape) == tuple(data.shape[1:])
    except InputError:
        return False
    if not fits:
        return False
    x = torch.randn(1, *shape, generator=generator(0, "physics"), dtype=torch.float64).to(data)
    theirs = data_from_deepinv(physics.A(x))
    gap = rows.norm(theirs - operator(x))
    return bool((gap <= _SAME[data.dtype] * rows.norm(theirs)).all())

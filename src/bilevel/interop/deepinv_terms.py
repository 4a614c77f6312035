"""Noise models and data fidelities of deepinv as fidelities, with derivatives of our own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from bilevel.ground.errors import BilevelWarning, InputError
from bilevel.ground.randomness import generator
from bilevel.interop.deepinv import deepinv
from bilevel.model.fidelities import L1, DataTerm, GaussianPoisson, KullbackLeibler, SquaredL2
from bilevel.model.operators import Identity, Operator

__all__ = ["fidelity_from_deepinv"]

_AGREE = 1e-6
_SMALL = 1e-9
"""A background that does not show, relative to the numbers compared."""


def fidelity_from_deepinv(
    term: object, operator: Operator, background: float | None = None
) -> DataTerm:
    """The fidelity for a noise model or a data fidelity of deepinv, with certified derivatives.

    ``GaussianNoise`` and ``L2`` become ½‖A x - y‖²/σ², ``PoissonNoise`` and ``PoissonLikelihood``
    the Kullback-Leibler divergence over the gain, ``PoissonGaussianNoise`` the infimal convolution
    of both, with λ₁ = 1/σ² and λ₂ = 1/gain, ``LaplaceNoise`` ‖A x - y‖₁/b, ``L1`` and
    ``SaltPepperNoise`` ‖A x - y‖₁, ``ZeroNoise`` ½‖A x - y‖². What a data fidelity of deepinv
    computes itself is compared once: a warning says where its gradient is not the derivative of
    its values or a batch is not its rows, as for ``PoissonLikelihood``; it is not used anyway.

    Args:
        term: ``physics.noise_model``, or a data fidelity from ``deepinv.optim``.
        operator: A, from :func:`~bilevel.interop.from_deepinv` or of this library.
        background: of counts, added to A x and to y, in the units of y: without one the
            divergence has no Lipschitz constant. One count if None.

    Returns:
        A fidelity of fixed weight. Of counts that were not multiplied by their gain, the operator
        is A over the gain.

    Raises:
        InputError: deepinv is missing; a noise that no fidelity is known for; a level that is not
            positive or differs between samples; values that differ from ours.
    """
    found = _of_noise(term, operator, background) or _of_fidelity(term, operator, background)
    if found is None:
        advice = "choose one of bl.fidelities, or derive one from bilevel.extend.Fidelity"
        given = type(term).__name__
        raise InputError("this term of deepinv has no fidelity here", given=given, advice=advice)
    return found


def _of_noise(term: object, operator: Operator, background: float | None) -> DataTerm | None:
    known, noise = deepinv("physics"), cast(Any, term)
    if isinstance(term, known.ZeroNoise | known.GaussianNoise):
        none = isinstance(term, known.ZeroNoise)
        return SquaredL2(operator, weight=1.0 if none else _level(noise.sigma, "sigma") ** -2)
    if isinstance(term, known.LaplaceNoise):
        return L1(operator, weight=1 / _level(noise.b, "b"))
    if isinstance(term, known.SaltPepperNoise):
        return L1(operator)
    if isinstance(term, known.PoissonNoise):
        gain = _level(noise.gain, "gain")
        return _counts(operator, gain, bool(noise.normalize), background)
    if isinstance(term, known.PoissonGaussianNoise):
        gain, read = _level(noise.gain, "gain"), _level(noise.sigma, "sigma")
        own = gain if background is None else background
        return GaussianPoisson(operator, read**-2, 1 / gain, own)
    return None


def _of_fidelity(term: object, operator: Operator, background: float | None) -> DataTerm | None:
    known, fidelity = deepinv("optim.data_fidelity"), cast(Any, term)
    if isinstance(term, known.PoissonLikelihood):
        return _likelihood(fidelity, operator, background)
    if isinstance(term, known.L2):
        _compare(fidelity, SquaredL2(weight=float(fidelity.norm)))
        return SquaredL2(operator, weight=float(fidelity.norm))
    if isinstance(term, known.L1):
        _compare(fidelity, L1())
        return L1(operator)
    return None


def _level(value: object, name: str) -> float:
    levels = torch.as_tensor(value).double().flatten()
    if not len(levels) or not bool((levels == levels[0]).all()):
        given = f"{levels.tolist()}"
        raise InputError(f"{name} must be one number for all samples", given=given)
    if not 0 < float(levels[0]) < torch.inf:
        raise InputError(f"{name} must be positive", given=float(levels[0]))
    return float(levels[0])


def _counts(
    operator: Operator, gain: float, multiplied: bool, background: float | None
) -> KullbackLeibler:
    """Data are the counts, times the gain if ``multiplied``."""
    count = gain if multiplied else 1.0
    own = count if background is None else background
    if multiplied:
        return KullbackLeibler(operator, background=own, weight=1 / gain)
    return KullbackLeibler((1 / gain) * operator, background=own)


def _likelihood(term: Any, operator: Operator, background: float | None) -> KullbackLeibler:
    gain, multiplied = _level(term.gain, "gain"), bool(term.normalize)
    if float(term.bkg) != 0:
        own = gain * float(term.bkg) if multiplied else float(term.bkg)
        advice = (
            f"take bl.fidelities.KullbackLeibler with background = {own:g}, and data from which "
            "it is subtracted"
        )
        raise InputError("the likelihood must be without background", given=own, advice=advice)
    one = (1.0 if multiplied else 1 / gain) * Identity()
    weight = 1 / gain if multiplied else 1.0
    _compare(term, KullbackLeibler(one, background=_SMALL, weight=weight))
    return _counts(operator, gain, multiplied, background)


def _compare(theirs: Any, ours: DataTerm) -> None:
    """Warn where their gradients or batches are wrong; refuse where their values are not ours."""
    rng = generator(0, "deepinv")
    u, other, y = 1 + 3 * torch.rand(3, 2, 1, 1, 5, generator=rng, dtype=torch.float64)
    alone = _by_rows(theirs.d.fn, u, y) - _by_rows(theirs.d.fn, other, y)
    expected = ours.forward(u, y) - ours.forward(other, y)
    name = type(theirs).__name__
    if not _close(alone, expected):
        given = f"{alone.tolist()} in the place of {expected.tolist()}"
        raise InputError(f"the values of deepinv's {name} are not those known", given=given)
    faults: list[str] = []
    if not _close(theirs.d.fn(u, y), _by_rows(theirs.d.fn, u, y)):
        faults.append("the values of a batch are not those of its rows")
    point = u.clone().requires_grad_()
    (slope,) = torch.autograd.grad(_by_rows(theirs.d.fn, point, y).sum(), point)
    if not _close(theirs.d.grad(u.clone(), y).detach(), slope):
        faults.append("its grad is not the derivative of its values")
    if faults:
        what = f"of deepinv's {name} {' and '.join(faults)}; the derivatives here are our own"
        warnings.warn(what, BilevelWarning, stacklevel=4)


def _by_rows(value: Callable[[Tensor, Tensor], Tensor], u: Tensor, y: Tensor) -> Tensor:
    return torch.cat([value(u[k : k + 1], y[k : k + 1]).reshape(1) for k in range(len(u))])


def _close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=_AGREE, atol=_AGREE)

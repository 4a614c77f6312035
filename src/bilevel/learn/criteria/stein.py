"""Unbiased risk estimates whose divergence is a difference of two reconstructions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from bilevel.data import noise_level
from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.learn.criteria.criterion import Criterion, Prepared, Quadratic
from bilevel.model import Variational
from bilevel.model.fidelities import KullbackLeibler
from bilevel.select.counts import check_poisson
from bilevel.select.noise import Level, check_gaussian

__all__ = ["PURE", "SURE"]


@dataclass(frozen=True)
class SURE(Criterion):
    """(‖A x(y) - y‖² + (2σ²/s) bᵀ(A x(y + s b) - A x(y)))/m - σ², b random signs, s = 2σ/m^0.3.

    Stein's unbiased estimate of the mean squared error of A x, of x itself for denoising, with its
    divergence by Monte Carlo (Ramani, Blu, Unser 2008). It is a sum of losses over the data y and
    y + s b, so that its gradient is exact: the SUGAR of Deledalle, Vaiter, Fadili, Peyré 2014,
    whose s this is. With many parameters it fits the noise of σ² and of b: take many images, or
    more probes, or few steps.

    Args:
        sigma: noise level [unit of the data]: one for all images, or one for each, (K,); None:
            estimated by ``data.noise_level``.
        probes: directions b; each costs one more reconstruction of every image.
        seed: of the directions.

    Raises:
        InputError: no probe; later a fidelity that is not SquaredL2, or levels that do not fit.
    """

    sigma: Level
    probes: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the options."""
        _check_probes(self.probes)

    def prepare(self, energy: Variational, y: Tensor) -> Prepared:
        """The data and their perturbations."""
        check_gaussian("SURE", energy, y, self.sigma)
        sigma = levels(self.sigma, y)
        step = 2 * sigma / y[0].numel() ** 0.3
        signs = _signs(y, self.probes, self.seed)
        return _perturbed(energy, y, signs, sigma**2, step, sigma.square())


@dataclass(frozen=True)
class PURE(Criterion):
    """(‖A x(y) - y‖² + (2/(peak s)) cᵀ(A x(y + s c) - A x(y)) - Σz/peak)/m, c = √z ⊙ b.

    With z = y + background and random signs b: the Poisson unbiased estimate of the mean squared
    error of A x, to first order in 1/peak (see :class:`~bilevel.select.rules.PURE`), with its
    derivative by Monte Carlo, s = 2/(√peak m^0.3) as for SURE.

    Args:
        peak: photons at grey value 1, that of the noise.
        probes: directions b; each costs one more reconstruction of every image.
        seed: of the directions.

    Raises:
        InputError: a peak that is not positive, no probe; later a fidelity that is not
            KullbackLeibler.
    """

    peak: float
    probes: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self.peak, "the photon number peak")
        _check_probes(self.probes)

    def prepare(self, energy: Variational, y: Tensor) -> Prepared:
        """The data and their perturbations, which stay above -background."""
        check_poisson("PURE", energy, y, self.peak)
        z = cast(KullbackLeibler, energy.fidelity).counts(y)
        root = z.sqrt()
        step = y.new_full((len(y),), min(2 / y[0].numel() ** 0.3, 1.0) / self.peak**0.5)
        directions = [root * signs for signs in _signs(y, self.probes, self.seed)]
        variance = torch.full_like(step, 1 / self.peak)
        return _perturbed(energy, y, directions, variance, step, z.flatten(1).mean(1) / self.peak)


def levels(sigma: Level, y: Tensor) -> Tensor:
    """σ for each row of y, (K,), of its dtype."""
    found = noise_level(y) if sigma is None else torch.as_tensor(sigma, dtype=torch.float64)
    return found.expand(len(y)).to(y)


def _perturbed(
    energy: Variational,
    y: Tensor,
    directions: list[Tensor],
    variance: Tensor,
    step: Tensor,
    constant: Tensor,
) -> Prepared:
    """Rows y and y + s c; variance, s and constant (K,)."""
    m, copies = y[0].numel(), 1 + len(directions)
    wide = [part[:, None, None, None] for part in (variance, step)]
    pull = 2 * copies * wide[0] / (wide[1] * m * len(directions))
    zero = torch.zeros_like(y)
    moved = [y + wide[1] * c for c in directions]
    pulls = [-pull * torch.stack(directions).sum(0), *(pull * c for c in directions)]
    curvature = y.new_zeros(copies, len(y), 1, 1, 1)
    curvature[0] = copies / m
    offset = y.new_zeros(copies, len(y))
    offset[0] = -copies * constant
    loss = Quadratic(
        curvature.flatten(0, 1),
        torch.cat([y, *(zero for _ in directions)]),
        torch.cat(pulls),
        offset.flatten(),
    )
    names = ("", *(f" + probe {k}" for k in range(len(directions))))
    return Prepared(energy, torch.cat([y, *moved]), loss, names)


def _signs(y: Tensor, probes: int, seed: int) -> list[Tensor]:
    """Each image has its own."""
    random = generator(seed, "probe")
    draws = [torch.randint(0, 2, y.shape, generator=random) for _ in range(probes)]
    return [(2 * draw - 1).to(y) for draw in draws]


def _check_probes(probes: int) -> None:
    if probes < 1:
        raise InputError("at least one probe is needed", given=probes)

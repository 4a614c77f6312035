"""Unbiased risk estimates whose divergence is a difference of two reconstructions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.learn.criteria.criterion import Criterion, Prepared, Quadratic
from bilevel.model import Variational
from bilevel.model.fidelities import KullbackLeibler
from bilevel.risk.counts import check_poisson
from bilevel.risk.held import reached
from bilevel.risk.noise import Level, check_gaussian, estimated_level
from bilevel.risk.unbiased import UnbiasedRisk, probe_step

__all__ = ["PURE", "SURE", "check_probes", "levels", "moved", "signs"]


@dataclass(frozen=True)
class SURE(Criterion):
    """(‖A x(y) - y‖² + (2σ²/s) bᵀ(A x(y + s b) - A x(y)))/m - σ², b random signs, s = 2σ/m^0.3.

    Stein's unbiased estimate of the mean squared error of A x, of x itself for denoising, in the m
    data that A reaches, with its divergence by Monte Carlo (Ramani, Blu, Unser 2008). It is a sum
    of losses over the data y and y + s b, so that its gradient is exact: the SUGAR of Deledalle,
    Vaiter, Fadili, Peyré 2014, whose s this is. With many parameters it fits the noise of σ² and of
    b: take many images, or more probes, or few steps.

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
        check_probes(self.probes)

    def prepare(self, energy: Variational, y: Tensor) -> Prepared:
        """The data and their perturbations."""
        check_gaussian("SURE", energy, y, self.sigma)
        sigma, seen = levels(self.sigma, energy, y), reached(energy, y)
        m = int(seen.sum())
        risk = UnbiasedRisk.prediction(sigma, m)
        directions = signs(y, self.probes, self.seed)
        return _perturbed(energy, seen, y, directions, risk, sigma.square(), probe_step(sigma, m))


@dataclass(frozen=True)
class PURE(Criterion):
    """(‖A x(y) - y‖² + (2/(peak s)) cᵀ(A x(y + s c) - A x(y)) - Σz/peak)/m, c = √z ⊙ b.

    With z = y + background, random signs b and the m data that A reaches: the Poisson unbiased
    estimate of the mean squared error of A x, to first order in 1/peak (see
    :class:`~bilevel.select.rules.PURE`), with its derivative by Monte Carlo, s = 2/(√peak m^0.3) as
    for SURE.

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
        check_probes(self.probes)

    def prepare(self, energy: Variational, y: Tensor) -> Prepared:
        """The data and their perturbations, which stay above -background."""
        check_poisson("PURE", energy, y, self.peak)
        seen = reached(energy, y)
        z = cast(KullbackLeibler, energy.fidelity).counts(y)
        risk, root = UnbiasedRisk.counts(z, seen, self.peak), z.sqrt()
        step = y.new_full((len(y),), min(2 / risk.size**0.3, 1.0) / self.peak**0.5)
        directions = [root * b for b in signs(y, self.probes, self.seed)]
        return _perturbed(
            energy, seen, y, directions, risk, torch.full_like(step, 1 / self.peak), step
        )


def levels(sigma: Level, energy: Variational, y: Tensor) -> Tensor:
    """σ for each row of y, (K,), of its dtype."""
    estimate = estimated_level(energy, y) if sigma is None else sigma
    found = torch.as_tensor(estimate, dtype=torch.float64)
    return found.expand(len(y)).to(y)


def _perturbed(
    energy: Variational,
    seen: Tensor,
    y: Tensor,
    directions: list[Tensor],
    risk: UnbiasedRisk,
    variance: Tensor,
    step: Tensor,
) -> Prepared:
    """Rows y and y + s c, where V is ``variance`` (K,) times the mean of c cᵀ; s (K,)."""
    copies = 1 + len(directions)
    duals = [risk.dual(c) for c in directions]
    rows, pulls, names = moved(y, directions, duals, variance / risk.size, step)
    curvature = y.new_zeros(copies, len(y), 1, 1, 1)
    curvature[0] = copies / risk.size
    offset = y.new_zeros(copies, len(y))
    offset[0] = -copies * (risk.noise / risk.size).to(y)
    centre = torch.zeros_like(rows)
    centre[: len(y)] = seen * y
    loss = Quadratic(curvature.flatten(0, 1), centre, pulls, offset.flatten())
    return Prepared(energy, rows, loss, names)


def moved(
    y: Tensor, directions: list[Tensor], duals: list[Tensor], variance: Tensor, step: Tensor
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Rows y and y + s c, and g: the mean of ⟨g, A x⟩ over them estimates 2σ² tr(D ∂(A x)/∂y).

    Args:
        y: data, (K, c', h', w').
        directions: c, like y.
        duals: D c.
        variance: σ², (K,).
        step: s, (K,).

    Returns:
        The rows, g, and the names of the copies.
    """
    copies = 1 + len(directions)
    s, factor = (
        part[:, None, None, None]
        for part in (step, 2 * copies * variance / (step * len(directions)))
    )
    rows = torch.cat([y, *(y + s * c for c in directions)])
    pulls = [-factor * torch.stack(duals).sum(0), *(factor * dual for dual in duals)]
    names = ("", *(f" + probe {k}" for k in range(len(directions))))
    return rows, torch.cat(pulls), names


def signs(y: Tensor, probes: int, seed: int) -> list[Tensor]:
    """Random, like y: each image has its own."""
    random = generator(seed, "probe")
    draws = [torch.randint(0, 2, y.shape, generator=random) for _ in range(probes)]
    return [(2 * draw - 1).to(y) for draw in draws]


def check_probes(probes: int) -> None:
    """Raise InputError unless there is one."""
    if probes < 1:
        raise InputError("at least one probe is needed", given=probes)

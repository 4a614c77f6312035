"""Stein's estimate of the error of what the data tell of the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.learn.criteria.criterion import Criterion, DataLoss, Prepared
from bilevel.learn.criteria.stein import check_probes, levels, moved, signs
from bilevel.model import Variational
from bilevel.risk.held import reached
from bilevel.risk.noise import Level, check_gaussian
from bilevel.risk.pseudo_inverse import PseudoInverse
from bilevel.risk.unbiased import UnbiasedRisk, probe_step

__all__ = ["GSURE"]


@dataclass(frozen=True)
class GSURE(Criterion):
    """(‖L(A x(y) - y)‖² - σ² tr LLᵀ + (2σ²/s) (L b)ᵀL A(x(y + s b) - x(y)))/n, L ≈ A⁺.

    Unbiased, but for the finite step, for the error ‖L A (x - x̃)‖²/n of the part of x that A sees
    well (Eldar 2009, arXiv 0804.3010; see :class:`~bilevel.select.rules.GSURE`), with its
    derivative by Monte Carlo as for SURE: b random signs, s = 2σ/m^0.3. Where the basis is not
    known in which A is diagonal, tr LLᵀ is the mean of ‖L b‖².

    Args:
        sigma: noise level [unit of the data]: one for all images, or one for each, (K,); None:
            estimated by ``data.noise_level``.
        probes: directions b; each costs one more reconstruction of every image.
        seed: of the directions.
        truncation: singular values below this part of the largest count as 0 [1]; see
            :class:`~bilevel.risk.pseudo_inverse.PseudoInverse`.

    Raises:
        InputError: no probe, a truncation that is not positive; later a fidelity that is not
            SquaredL2, or levels that do not fit.

    Example:
        >>> GSURE(sigma=0.1).truncation
        0.1
    """

    sigma: Level
    probes: int = 1
    seed: int = 0
    truncation: float = 0.1

    def __post_init__(self) -> None:
        """Check the options."""
        check_probes(self.probes)
        check_positive(self.truncation, "the truncation")

    def prepare(self, energy: Variational, y: Tensor) -> Prepared:
        """The data and their perturbations."""
        check_gaussian("GSURE", energy, y, self.sigma)
        sigma, m = levels(self.sigma, energy, y), int(reached(energy, y).sum())
        with torch.no_grad():
            _, c, h, w = energy.image(energy.start(y)).shape
            n, copies = c * h * w, 1 + self.probes
            inverse = PseudoInverse(energy.fidelity.operator, (c, h, w), self.truncation)
            directions, known = signs(y, self.probes, self.seed), inverse.energy()
            if known is None:
                lifted = [inverse(b).square().flatten(1).sum(1) for b in directions]
                known = torch.stack(lifted).mean(0)
            risk = UnbiasedRisk.lifted(inverse, sigma, known, n)
            duals = [risk.dual(b) for b in directions]
        data, pulls, names = moved(y, directions, duals, sigma.square() / n, probe_step(sigma, m))
        weight, constant = y.new_zeros(2, copies, len(y))
        weight[0] = copies / n
        constant[0] = -copies * (risk.noise / n).to(y)
        centre = y.repeat(copies, 1, 1, 1)
        loss = _Lifted(inverse, weight.flatten(), centre, pulls, constant.flatten())
        return Prepared(energy, data, loss, names)


@dataclass(frozen=True)
class _Lifted(DataLoss):
    """a ‖L(v - d)‖² + ⟨g, v⟩ + constant; a and the constant (b,), d and g like v."""

    inverse: PseudoInverse
    weight: Tensor
    centre: Tensor
    pull: Tensor
    constant: Tensor

    def value(self, v: Tensor) -> Tensor:
        """Of each row."""
        squares = self.inverse(v - self.centre).square().flatten(1).sum(1)
        return self.weight * squares + rows.inner(self.pull, v) + self.constant

    def grad(self, v: Tensor) -> Tensor:
        """2 a LᵀL(v - d) + g."""
        back = self.inverse.adjoint(self.inverse(v - self.centre))
        return 2 * rows.expand(self.weight, v) * back + self.pull

    def lipschitz(self, v: Tensor, radius: Tensor) -> Tensor:
        """2 a ‖L‖², everywhere."""
        del v, radius
        return 2 * self.weight.double() * self.inverse.square_bound()

    def rows(self, index: Tensor) -> _Lifted:
        """Of the rows ``index``."""
        parts = (self.weight, self.centre, self.pull, self.constant)
        return _Lifted(self.inverse, *rows.take(parts, index))

    def double(self) -> _Lifted:
        """The same in float64."""
        parts = (self.weight, self.centre, self.pull, self.constant)
        return _Lifted(self.inverse.double(), *(part.double() for part in parts))

"""Unbiased estimates of the error of a reconstruction, from the data and their noise alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bilevel.ground import rows
from bilevel.risk.pseudo_inverse import PseudoInverse

__all__ = ["UnbiasedRisk", "probe_step"]


@dataclass(frozen=True)
class UnbiasedRisk:
    """(‖L(A x - y)‖² + 2 tr(LᵀL V ∂(A x)/∂y) - tr(L V Lᵀ))/size, V the diagonal covariance of y.

    Its expectation is that of ‖L A (x - x̃)‖²/size (Stein 1981; Eldar 2009, arXiv 0804.3010).

    Args:
        size: what the sum is divided by.
        variance: of each datum, (b, c', h', w') or (b, 1, 1, 1) float64.
        noise: tr(L V Lᵀ), (b,) float64.
        inverse: L; the identity if None.

    Example:
        >>> import torch
        >>> risk = UnbiasedRisk.prediction(torch.tensor([0.5]).double(), 4)
        >>> residual = torch.full((1, 1, 2, 2), 0.5)  # x = constant, unbiased: no risk
        >>> float(risk.value(residual, torch.zeros(1)))
        0.0
    """

    size: int
    variance: Tensor
    noise: Tensor
    inverse: PseudoInverse | None = None

    @staticmethod
    def prediction(sigma: Tensor, size: int) -> UnbiasedRisk:
        """SURE: the mean squared error of A x in ``size`` data of noise ``sigma`` (b,)."""
        variance = sigma.double().square()
        return UnbiasedRisk(size, variance[:, None, None, None], size * variance)

    @staticmethod
    def counts(z: Tensor, seen: Tensor, peak: float) -> UnbiasedRisk:
        """PURE: the same for counts z = y + background, to first order in 1/peak.

        For peak z_i ~ Poisson(peak t_i), E t_i f_i(z) = E z_i f_i(z - e_i/peak), here with
        f_i(z - e_i/peak) ≈ f_i - (∂f_i/∂z_i)/peak (Luisier, Blu, Unser 2011, without their
        Gaussian part), and E t_i² = E (z_i² - z_i/peak): V = diag(z)/peak.
        """
        variance = z.double() / peak
        return UnbiasedRisk(int(seen.sum()), variance, (seen * variance).flatten(1).sum(1))

    @staticmethod
    def lifted(inverse: PseudoInverse, sigma: Tensor, energy: Tensor, size: int) -> UnbiasedRisk:
        """GSURE: the error of L A x in ``size`` pixels; ``energy`` is tr LLᵀ, () or (b,)."""
        variance = sigma.double().square()
        return UnbiasedRisk(size, variance[:, None, None, None], variance * energy, inverse)

    def value(self, residual: Tensor, trace: Tensor) -> Tensor:
        """The estimate, (b,) float64, from A x - y and tr(LᵀL V ∂(A x)/∂y)."""
        square = self.lift(residual).double().square().flatten(1).sum(1)
        return (square + 2 * trace - self.noise) / self.size

    def slope(self, residual: Tensor, moved: Tensor, trace: Tensor) -> Tensor:
        """Its derivative along ``moved``, that of A x; ``trace`` is that of the trace."""
        pull = rows.inner(self.lift(residual).double(), self.lift(moved).double())
        return 2 * (pull + trace) / self.size

    def lift(self, y: Tensor) -> Tensor:
        """L y."""
        return y if self.inverse is None else self.inverse(y)

    def dual(self, b: Tensor) -> Tensor:
        """LᵀL b of one probe or several: V times it is paired with A (∂x/∂y) b."""
        return b if self.inverse is None else self.inverse.adjoint(self.inverse(b))


def probe_step(sigma: Tensor, m: int) -> Tensor:
    """The step s = 2σ/m^0.3 for m data (Deledalle, Vaiter, Fadili and Peyré 2014)."""
    return 2 * sigma / m**0.3

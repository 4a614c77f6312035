"""The Kullback-Leibler divergence from the data: Poisson noise."""

from __future__ import annotations

from torch import Tensor

from bilevel.ground import rows
from bilevel.model.fidelities.counts import Counts
from bilevel.model.fidelities.photons import divergence

__all__ = ["KullbackLeibler"]


class KullbackLeibler(Counts):
    """weight times the Kullback-Leibler divergence of A x + background: Poisson noise.

    Ψ(A x; y) = w/gain Σ t - z - z log(t/z) with t = A x + background and z = y + background >= 0.

    Up to a constant, peak gain/w times it is minus the log-likelihood of data drawn by
    :class:`~bilevel.data.PoissonNoise` of that ``peak`` and the same background: such y are counts
    over the peak, minus the background. Of w = 1 it is the log-likelihood itself where the gain is
    1/peak, the grey value of one photon. The gain scales the energy alone: beside a regulariser
    of learned or chosen weight it can stay 1.

    Where A x < 0 the sum goes on as its second-order Taylor polynomial at t = background, plus a
    wall whose second derivative grows to 2/background within one background: it is convex and
    twice differentiable everywhere, has a Lipschitz Hessian and grows in all directions that A
    sees, even where no count is; without a count and a regulariser A x would be -background.
    Minimisers with A x >= 0 are not affected. L = w/gain ‖A‖² (max z/background² + 2/background):
    the smaller the background, the larger.

    Args:
        operator: A, the identity if None.
        background: that of the noise, > 0 [grey value].
        weight: w [1], fixed unless ``learn=("weight",)``.
        gain: of one photon [grey value].
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a background, weight or gain that is not positive, an unknown name in
            ``learn``; later data below -background.

    Example:
        >>> import torch
        >>> fidelity = KullbackLeibler(background=1.0)
        >>> x, y = torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2)
        >>> fidelity(x, y)  # 2 (1 - 2 + 2 log 2)
        tensor([0.7726])
        >>> fidelity.grad(x, y)  # 1 - 2/1
        tensor([[[[-1., -1.]]]])
    """

    def _phi(self, s: Tensor, z: Tensor) -> Tensor:
        """KL(s; z)."""
        return divergence(s, z)

    def _bent(self, s: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """1 - z/s and z/s²."""
        return 1 - z / s, z / s.square()

    def _third(self, s: Tensor, z: Tensor) -> Tensor:
        """2 z/s³."""
        return 2 * z / s**3

    def _most(self, z: Tensor) -> Tensor:
        """Z/background²."""
        return z / self.background**2

    def _offset(self, z: Tensor) -> Tensor:
        """√m + 2 ‖z‖/background."""
        z = z.double()
        return z[0].numel() ** 0.5 + 2 * rows.length(z) / self.background

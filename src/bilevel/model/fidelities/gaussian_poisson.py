"""Photons and a detector that adds noise of its own: Gaussian and Poisson, each with its share."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.model.fidelities.photons import Photons, divergence
from bilevel.model.fidelities.pointwise import Turned
from bilevel.model.operators.operator import Operator
from bilevel.model.part import around, check_learn, positive_parameter
from bilevel.model.sets import Set

__all__ = ["GaussianPoisson", "wright_omega"]

LOWEST = -40.0
"""Below it ω(z) is exp(z) to the last digit of float64."""
LEARNABLE = ("weight", "gaussian", "poisson")


class GaussianPoisson(Photons):
    """Gaussian and Poisson noise at once, by infimal convolution: a camera with read noise.

    Ψ(A x; y) = w Σ min over v > 0 of λ₁/2 (f - v)² + λ₂ (t - v + v log(v/t)) with
    t = A x + background and f = y + background (Calatroni, De los Reyes, Schönlieb 2017, arXiv
    1611.00690, section 4): v are the counts behind the data, f - v the share of the detector.

    Data of :class:`~bilevel.data.PoissonGaussianNoise` have λ₁ = 1/read_noise² and λ₂ = 1/gain;
    they may be negative. For λ₁ → ∞ it is the Kullback-Leibler divergence times λ₂. With k = λ₁/λ₂

        v = ω(log(k t) + k f)/k,   ∂_tΦ = λ₂ (1 - v/t),   ∂²_tΦ = λ₁ (v/t)²/(1 + k v) >= 0,

    ω Wright's function, ω + log ω = z. Where A x < 0 the sum goes on as the Kullback-Leibler
    divergence does in :class:`KullbackLeibler`: convex, twice differentiable, with a Lipschitz
    Hessian. L = w ‖A‖² (max ∂²_tΦ at t = background, plus 2 λ₂/background).

    One factor of (w, λ₁, λ₂, weight of the regulariser) is redundant: learn at most three of them.

    Args:
        operator: A, the identity if None.
        gaussian: λ₁, one over the variance of the read noise [1/grey value²].
        poisson: λ₂, one over the gain, photons at grey value 1 [1/grey value].
        background: light that is always there, > 0 [grey value].
        weight: w [1].
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a number that is not positive, an unknown name in ``learn``.

    Example:
        >>> fidelity = GaussianPoisson(gaussian=1.0, poisson=1.0, background=1.0)
        >>> x, y = torch.zeros(1, 1, 1, 2), torch.tensor([0.0, -2.0]).view(1, 1, 1, 2)
        >>> fidelity.grad(x, y).flatten()  # 1 - ω(1 + log 1) = 0, and 1 - ω(-1)
        tensor([0.0000, 0.7215])
    """

    degree = 1
    log_gaussian: Tensor
    log_poisson: Tensor

    def __init__(
        self,
        operator: Operator | None = None,
        gaussian: float = 1.0,
        poisson: float = 1.0,
        background: float = 0.01,
        weight: float = 1.0,
        *,
        learn: Collection[str] = (),
    ) -> None:
        """Forward operator, both shares, background and weight."""
        check_learn(learn, LEARNABLE)
        super().__init__(operator, background, weight, learn=[n for n in learn if n == "weight"])
        self.log_gaussian = positive_parameter(gaussian, "gaussian", learn)
        self.log_poisson = positive_parameter(poisson, "poisson", learn)

    def sets(self) -> Mapping[str, Set]:
        """Positive factors."""
        own = {"log_gaussian": around(self.log_gaussian), "log_poisson": around(self.log_poisson)}
        return {**super().sets(), **own}

    def options(self) -> dict[str, object]:
        """What builds it again; the factors themselves travel as parameters."""
        logs = (self.log_weight, self.log_gaussian, self.log_poisson)
        named = zip(LEARNABLE, logs, strict=True)
        return {**super().options(), "learn": tuple(n for n, log in named if log.requires_grad)}

    def accounted(self) -> frozenset[str]:
        """All factors, and what the operator has."""
        return super().accounted() | {"log_gaussian", "log_poisson"}

    def broadcasts(self) -> frozenset[str]:
        """All factors."""
        return super().broadcasts() | {"log_gaussian", "log_poisson"}

    def _stiffness(self, like: Tensor) -> Tensor:
        """λ₂."""
        return self.log_poisson.to(like).exp()

    def counted(self, x: Tensor, y: Tensor) -> Tensor:
        """The counts v behind the data, (b, c', h', w') [grey value]; f - v is read noise."""
        return self._hidden(self._parted(self.mean(x))[0], self.counts(y)).v

    def _hidden(self, s: Tensor, f: Tensor) -> _Hidden:
        """In the precision of the means: factors in float64 for float64 means."""
        gaussian, poisson = (log.to(s).exp() for log in (self.log_gaussian, self.log_poisson))
        k = gaussian / poisson
        v = wright_omega((k * s).log() + k * f) / k
        counted = k * v > 1
        log = torch.where(counted, torch.where(counted, v / s, 1.0).log(), k * (f - v))
        return _Hidden(gaussian, poisson, k * v, v / s, v, log)

    def _phi(self, s: Tensor, z: Tensor) -> Tensor:
        """λ₁/2 (f - v)² + λ₂ KL(t; v), with f - v = log(v/t)/k."""
        h = self._hidden(s, z)
        gaussian = 0.5 * (h.poisson * h.log).square() / h.gaussian
        return gaussian + h.poisson * divergence(s, h.v)

    def _bent(self, s: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """λ₂ (1 - v/t) and λ₁ (v/t)²/(1 + k v)."""
        h = self._hidden(s, z)
        return h.poisson * (1 - h.ratio), h.gaussian * h.ratio.square() / (1 + h.kv)

    def _third(self, s: Tensor, z: Tensor) -> Tensor:
        """λ₁ k (v/t)³ (3 + 2 k v)/(1 + k v)³."""
        h = self._hidden(s, z)
        factor = h.gaussian.square() / h.poisson * h.ratio**3
        return factor * (3 + 2 * h.kv) / (1 + h.kv) ** 3

    def _most(self, z: Tensor) -> Tensor:
        """∂²Φ at t = background, where it is largest."""
        z = z.double()
        return self._bent(torch.full_like(z, self.background), z)[1].detach() * (1 + 1e-12)

    def _offset(self, z: Tensor) -> Tensor:
        """λ₂ √m + 2 λ₂ ‖v/background‖ at t = background."""
        z = z.double()
        low = torch.full_like(z, self.background)
        h = self._hidden(low, z)
        return (h.poisson * (z[0].numel() ** 0.5 + 2 * rows.length(h.ratio))).detach()

    def _by_parameters(self, t: Tensor, z: Tensor, reach: Tensor) -> Sequence[Turned]:
        """By log λ₁ and log λ₂, those that are learned.

        With ρ = v/t: ∂Φ'/∂log λ₁ = -λ₂ ρ log ρ/(1 + k v) =: e and ∂Φ'/∂log λ₂ = Φ' - e; the slope
        of e is Φ'' (1/(1 + k v) + log ρ (2 + k v)/(1 + k v)²). Φ'', ρ and the last factor fall as t
        grows, so that their values at both ends bound them. Below the background e goes on in a
        line, with its slope there.
        """
        low, high = ((t + sign * reach).clamp_min(self.background) for sign in (-1, 1))
        at, far = self._hidden(low, z), self._hidden(high, z)
        log = torch.maximum(at.log.abs(), far.log.abs())
        most = self._bent(low, z)[1] * (1 / (1 + at.kv) + log * at.turning)
        s, _ = self._parted(t)
        h, curvature = self._hidden(s, z), self._bent(s, z)[1]
        turn = -h.poisson * h.ratio * h.log / (1 + h.kv)
        turn = turn - (s - t) * curvature * (1 / (1 + h.kv) + h.log * h.turning)
        found: list[Turned] = []
        if self.log_gaussian.requires_grad:
            found.append(Turned(turn, most))
        if self.log_poisson.requires_grad:
            found.append(Turned(self._slope(t, z) - turn, self._curvature(t - reach, z) + most))
        return found


class _Hidden(NamedTuple):
    """λ₁, λ₂, k v, v/t, the counts v, and log(v/t) = k (f - v)."""

    gaussian: Tensor
    poisson: Tensor
    kv: Tensor
    ratio: Tensor
    v: Tensor
    log: Tensor

    @property
    def turning(self) -> Tensor:
        """(2 + k v)/(1 + k v)²."""
        return (2 + self.kv) / (1 + self.kv).square()


def wright_omega(z: Tensor) -> Tensor:
    """ω with ω + log ω = z, for real z: to a few eps, and so are its first three derivatives.

    Newton's steps ω (1 + z - log ω)/(1 + ω), the last two of them on the tape: each doubles the
    number of right terms of the Taylor series.

    Example:
        >>> float(wright_omega(torch.tensor(1.0)))
        1.0
    """
    z = z.clamp_min(LOWEST)
    fixed = z.detach()
    omega = torch.where(fixed > 1, fixed, fixed.clamp_max(1.0).exp())
    for step in range(7):
        at = fixed if step < 5 else z
        omega = omega * (1 + at - omega.log()) / (1 + omega)
    return omega

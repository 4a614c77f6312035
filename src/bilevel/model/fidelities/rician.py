"""Magnitudes of complex data with Gaussian noise: the Rice distribution."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.model.fidelities.pointwise import Pointwise, Turned
from bilevel.model.operators.operator import Operator
from bilevel.model.part import around, check_learn, positive_parameter
from bilevel.model.sets import Set

__all__ = ["Rician", "bessel_ratio", "ratio_slope_bound"]

FAR, TERMS = 50.0, 10
"""From where the slope of the ratio is an asymptotic series in 1/z, and how many terms it has."""
STEEPEST = 0.22447
"""|B''| <= this: as |B'''| <= 2 and |B''| <= 2 B', a grid proves it (see the tests)."""
ROUNDING = 1e-5
"""Data may lie so far below 0, relative to the largest of them."""


class Rician(Pointwise):
    """Magnitudes |x + complex Gaussian noise|: the Rice distribution, magnitude MRI.

    Ψ(A x; y) = w Σ (t² + y²)/2 - σ² log I₀(t y/σ²) with t = A x, which is σ² times minus the
    log-likelihood of magnitudes y >= 0, up to a constant (Gudbjartsson, Patz 1995; for
    variational denoising Getreuer, Tong, Vese 2011). Squares bias dark pixels, whose noise cannot
    be negative; for y >> σ it is ``SquaredL2``. It is even in t: magnitudes tell no sign.

    With z = t y/σ², B = I₁/I₀ and B' = 1 - B/z - B², which is the variance of cos under the von
    Mises density,

        ψ' = t - y B(z),   1 - y²/(2 σ²) <= ψ'' = 1 - (y/σ)² B'(z) <= 1,

    since 0 <= B' <= 2/(1/2 + √(z² + 9/4))² <= 1/2 (by B >= z/(1/2 + √(z² + 9/4)), Amos 1974).
    So Ψ is only weakly convex, and the less so the larger y/σ: it has a hill at A x = 0 between
    both signs. Distances to the exact minimiser are rarely proved; what holds locally is.

    Args:
        operator: A, the identity if None.
        sigma: deviation σ of real and imaginary part [grey value]; a twentieth of the contrast if
            None.
        weight: factor w [1].
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a number that is not positive, an unknown name in ``learn``; later data that
            are negative.

    Example:
        >>> fidelity = Rician(sigma=1.0)
        >>> x, y = torch.tensor([0.0, 3.0]).view(1, 1, 1, 2), torch.full((1, 1, 1, 2), 2.0)
        >>> fidelity.grad(x, y).flatten()  # 0, and 3 - 2 B(6)
        tensor([0.0000, 1.1753])
    """

    convex = False
    evaluation: ClassVar[float] = 8.0
    log_sigma: Tensor

    def __init__(
        self,
        operator: Operator | None = None,
        sigma: float | None = None,
        weight: float = 1.0,
        *,
        learn: Collection[str] = (),
    ) -> None:
        """Forward operator, deviation of the noise, and weight."""
        check_learn(learn, ("weight", "sigma"))
        super().__init__(operator, weight, learn=[n for n in learn if n == "weight"])
        if sigma is None:
            self.leave("log_sigma", grey=1)
        self.log_sigma = positive_parameter(0.05 if sigma is None else sigma, "sigma", learn)

    def sets(self) -> Mapping[str, Set]:
        """A positive deviation."""
        return {**super().sets(), "log_sigma": around(self.log_sigma)}

    def options(self) -> dict[str, object]:
        """What builds it again; the values themselves travel as parameters."""
        named = {"weight": self.log_weight, "sigma": self.log_sigma}
        learn = tuple(name for name, own in named.items() if own.requires_grad)
        return {**super().options(), "learn": learn}

    def accounted(self) -> frozenset[str]:
        """Weight and deviation, and what the operator has."""
        return super().accounted() | {"log_sigma"}

    def broadcasts(self) -> frozenset[str]:
        """Both."""
        return super().broadcasts() | {"log_sigma"}

    def check(self, y: Tensor) -> None:
        """Data of the operator, none negative."""
        super().check(y)
        if bool((y < -ROUNDING * y.abs().max()).any()):
            advice = "take magnitudes, or SquaredL2 for real and imaginary parts"
            given = f"a least value of {float(y.min()):.3g}"
            raise InputError("magnitudes are not negative", given=given, advice=advice)

    def _observed(self, y: Tensor) -> Tensor:
        """Without what rounding left below 0."""
        return y.clamp_min(0.0)

    def _variance(self, like: Tensor) -> Tensor:
        """σ² in the precision of ``like``."""
        return (2 * self.log_sigma.to(like)).exp()

    def _point(self, t: Tensor, z: Tensor) -> Tensor:
        variance = self._variance(t)
        size = t.abs()
        scaled = cast(Tensor, torch.special.i0e(size * z / variance))  # I₀ exp(-|·|)
        return 0.5 * (size - z).square() - variance * scaled.log()

    def _slope(self, t: Tensor, z: Tensor) -> Tensor:
        return t - z * bessel_ratio(t * z / self._variance(t))[0]

    def _curvature(self, t: Tensor, z: Tensor) -> Tensor:
        variance = self._variance(t)
        return 1 - z.square() / variance * bessel_ratio(t * z / variance)[1]

    def _majorised(self, t: Tensor, z: Tensor) -> Tensor:
        """1 >= ψ''."""
        del z
        return torch.ones_like(t)

    def _extremes(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """1 - max y²/(2 σ²), at t = 0, and 1."""
        largest = z.double().flatten(1).amax(1)
        low = 1 - 0.5 * largest.square() / self._variance(largest).detach()
        return low - 1e-12 * low.abs(), torch.ones_like(low)

    def _least(self, t: Tensor, z: Tensor, reach: Tensor) -> Tensor:
        """The least |t| y/σ² within ``reach``, where B' and its bounds are largest."""
        return (t.abs() - reach).clamp_min(0.0) * z / self._variance(t)

    def _jump(self, t: Tensor, z: Tensor, reach: Tensor) -> Tensor:
        """(y/σ)² times what B' can be, or its slope allows for."""
        scale = z / self._variance(t)
        most = ratio_slope_bound(self._least(t, z, reach))
        steep = STEEPEST * scale * reach
        return z * scale * torch.minimum(most, steep)

    def _steepness(self, t: Tensor, z: Tensor, reach: Tensor) -> Tensor:
        """(y/σ)² y/σ² |B''|."""
        scale = z / self._variance(t)
        near = 2 * ratio_slope_bound(self._least(t, z, reach))
        return z * scale.square() * near.clamp_max(STEEPEST)

    def _offset(self, z: Tensor) -> Tensor:
        """‖y‖."""
        return rows.length(z)

    def _by_parameters(self, t: Tensor, z: Tensor, reach: Tensor) -> Sequence[Turned]:
        """Of log σ: 2 y z B'(z), with slope 2 (y/σ)² (B' + z B'').

        |B' + z B''| <= 1/2: from above since B is concave, from below since |B''| <= 2 B' for large
        z and a grid for small ones.
        """
        if not self.log_sigma.requires_grad:
            return ()
        scale = z / self._variance(t)
        at = t * scale
        return (Turned(2 * z * at * bessel_ratio(at)[1], z * scale),)


def ratio_slope_bound(z: Tensor) -> Tensor:
    """2/(1/2 + √(z² + 9/4))² >= (I₁/I₀)'(z), which falls as |z| grows."""
    return 2 / (0.5 + (z.square() + 2.25).sqrt()).square()


def bessel_ratio(z: Tensor) -> tuple[Tensor, Tensor]:
    """B = I₁(z)/I₀(z) and B' = 1 - B/z - B², for real z; the derivatives of B are right twice.

    For |z| > 50, where that formula cancels, B' is the series that it implies,
    B = Σ b_n z⁻ⁿ with 2 b_n = (n - 2) b_{n-1} - Σ_{0<i<n} b_i b_{n-i}.

    Example:
        >>> bessel_ratio(torch.tensor([0.0, 2.0]))
        (tensor([0.0000, 0.6978]), tensor([0.5000, 0.1642]))
    """
    fixed = z.detach()
    ratio = cast(Tensor, torch.special.i1e(fixed) / torch.special.i0e(fixed))
    near = fixed.abs() < 1e-2
    safe = torch.where(near, 1.0, fixed)
    slope = 1 - ratio / safe - ratio.square()
    slope = torch.where(near, 0.5 - 3 / 16 * fixed.square() + 5 / 96 * fixed**4, slope)
    slope = torch.where(fixed.abs() > FAR, _far_slope(fixed.abs().clamp_min(FAR)), slope)
    bend = (ratio / safe - slope) / safe - 2 * ratio * slope
    bend = torch.where(near, -3 / 8 * fixed + 5 / 24 * fixed**3, bend)
    move = z - fixed
    return ratio + move * (slope + 0.5 * move * bend), slope + move * bend


def _far_slope(z: Tensor) -> Tensor:
    found = torch.zeros_like(z)
    for n in range(TERMS, 0, -1):
        found = (found - n * _SERIES[n]) / z
    return found / z


def _series(count: int) -> list[float]:
    b = [1.0]
    for n in range(1, count + 1):
        inner = sum(b[i] * b[n - i] for i in range(1, n))
        b.append(((n - 2) * b[n - 1] - inner) / 2)
    return b


_SERIES = _series(TERMS)

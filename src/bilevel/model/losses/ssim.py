"""One minus the structural similarity: local contrast and structure count, not grey values."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn.functional import pad

from bilevel.ground.checks import check_positive
from bilevel.ground.contrast import peak_of
from bilevel.ground.errors import InputError
from bilevel.model.losses.loss import Loss
from bilevel.model.operators.operator import Shape

__all__ = ["SSIM", "WINDOW"]

WINDOW = 11
"""Side of the Gaussian window [pixel]; smaller images have no SSIM."""
_REACH = WINDOW // 2
_RAW = [math.exp(-0.5 * (t / 1.5) ** 2) for t in range(-_REACH, _REACH + 1)]
_GAUSSIAN = [value / sum(_RAW) for value in _RAW]


@dataclass(frozen=True)
class SSIM(Loss):
    """One minus the structural similarity, which looks at local contrast and structure.

    ℓ(x, target) = 1 - mean SSIM [1], over channels and over all places where the 11x11 Gaussian
    window (σ = 1.5) fits: one minus what reports call SSIM. Computed in float64 as variances are
    differences of squares.

    Not convex. With μ, σ², σ_xt the moments under the window, l = (2 μ_x μ_t + C1)/(μ_x² + μ_t² +
    C1) and s = (2 σ_xt + C2)/(σ_x² + σ_t² + C2), SSIM = l s, C1 = (0.01 peak)², C2 = (0.03 peak)².
    Source: Wang, Bovik, Sheikh, Simoncelli 2004, (13).

    Args:
        peak: the grey value that stands for white; that of the targets of a problem if None
            (:func:`~bilevel.ground.contrast.peak_of`, 1 for targets in [0, 1]), and 1 without one.

    Raises:
        InputError: a peak that is not positive, or images smaller than the window.

    Example:
        >>> import torch
        >>> x = torch.rand(1, 1, 16, 16)
        >>> float(SSIM().value(x, x)) < 1e-6
        True
    """

    peak: float | None = None

    def __post_init__(self) -> None:
        """Check the peak."""
        if self.peak is not None:
            check_positive(self.peak, "the peak")

    def fitted(self, target: Tensor) -> SSIM:
        """With the peak of the targets, unless it was given."""
        return self if self.peak is not None else replace(self, peak=peak_of(target))

    def check(self, image_shape: Shape, target_shape: Shape) -> None:
        """The window must fit."""
        super().check(image_shape, target_shape)
        if min(image_shape[1:]) < WINDOW:
            what = f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels"
            raise InputError(what, given=image_shape[1:])

    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """1 - SSIM of each row, in [0, 2]."""
        m = self._moments(x, target)
        return (1 - (m.mean.ratio * m.structure.ratio).flatten(1).mean(1)).to(x.dtype)

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """By the chain rule through the moments: three sums over the windows of each pixel.

        ∇μ_x = w and ∇s = 2/(σ_x² + σ_t² + C2) w (t - μ_t - s (x - μ_x)), elementwise.
        """
        m, wide, truth = self._moments(x, target), x.double(), target.double()
        mean, s = m.mean, m.structure
        steep = 2 * mean.ratio / s.below
        flat = 2 * s.ratio / mean.below * (m.of_target - mean.ratio * m.of_x)
        shift = flat - steep * (m.of_target - s.ratio * m.of_x)
        total = _spread(shift) + truth * _spread(steep) - wide * _spread(steep * s.ratio)
        return (-total / m.of_x[0].numel()).to(x.dtype)

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """max_i Σ_p w_pi h_p/P over pixels i, P windows p, h_p a bound of ∇²(l s) in the ball.

        Under each window l and s are g(u) = (2 uᵀv + C)/(‖u‖² + K), K = ‖v‖² + C, of u = μ_x and of
        u = M^½ x, M = diag w - w wᵀ, and T: x -> (μ_x, M^½ x) has TᵀT = diag w. From ∇g = 2
        (v - g u)/(‖u‖² + K) and ∇²g = -2 (g I + u ∇gᵀ + ∇g uᵀ)/(‖u‖² + K), with |g| <= 1,
        ‖∇g‖ <= 2 √K/D and ‖u‖‖∇g‖ <= 1 follows ‖∇²g‖ <= 6/D, D <= ‖u‖² + K in the ball; hence h =
        6/min(D_l, D_s) + 4 √(K_l K_s)/(D_l D_s).
        """
        m = self._moments(x, target)
        reach = radius.double().view(-1, 1, 1, 1) * max(_GAUSSIAN)  # of T, √max w
        c1, c2 = self._constants
        of_l, of_s = m.of_target.square() + c1, m.var_target + c2
        least_l = of_l + (m.of_x.abs() - reach).clamp_min(0.0).square()
        least_s = of_s + (m.var_x.sqrt() - reach).clamp_min(0.0).square()
        steep = 6 / least_l.minimum(least_s) + 4 * (of_l * of_s).sqrt() / (least_l * least_s)
        return _spread(steep).flatten(1).amax(1) / steep[0].numel()

    @property
    def _constants(self) -> tuple[float, float]:
        peak = self.peak or 1.0
        return (0.01 * peak) ** 2, (0.03 * peak) ** 2

    def _moments(self, x: Tensor, target: Tensor) -> _Moments:
        x, target = x.double(), target.double()
        mean_x, mean_t = _blur(x), _blur(target)
        var_x = (_blur(x * x) - mean_x**2).clamp_min(0.0)
        var_t = (_blur(target * target) - mean_t**2).clamp_min(0.0)
        cov = _blur(x * target) - mean_x * mean_t
        c1, c2 = self._constants
        below_l, below_s = mean_x**2 + mean_t**2 + c1, var_x + var_t + c2
        return _Moments(
            of_x=mean_x,
            of_target=mean_t,
            var_x=var_x,
            var_target=var_t,
            mean=_Ratio((2 * mean_x * mean_t + c1) / below_l, below_l),
            structure=_Ratio((2 * cov + c2) / below_s, below_s),
        )


@dataclass(frozen=True)
class _Ratio:
    """l or s, and what it is divided by."""

    ratio: Tensor
    below: Tensor


@dataclass(frozen=True)
class _Moments:
    """Under every window, (b, c, h - 10, w - 10), float64."""

    of_x: Tensor
    of_target: Tensor
    var_x: Tensor
    var_target: Tensor
    mean: _Ratio
    structure: _Ratio


def _blur(x: Tensor) -> Tensor:
    """Mean under the window, where it fits."""
    return _slide(_slide(x, 2), 3)


def _spread(y: Tensor) -> Tensor:
    """The adjoint of :func:`_blur`."""
    edge = WINDOW - 1
    return _blur(pad(y, (edge, edge, edge, edge)))


def _slide(x: Tensor, dim: int) -> Tensor:
    """Weighted sum of shifted copies: several times faster than a convolution in float64."""
    length = x.shape[dim] - WINDOW + 1
    total = _GAUSSIAN[0] * x.narrow(dim, 0, length)
    for k in range(1, WINDOW):
        total = total.add(x.narrow(dim, k, length), alpha=_GAUSSIAN[k])
    return total

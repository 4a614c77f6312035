"""Cells that are contractions by construction, a classifier and a denoiser built on them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bilevel.ground.errors import InputError
from deep_equilibrium.layer import DeepEquilibrium, Equilibrium

__all__ = ["Classifier", "ConvolutionCell", "Denoiser", "DenseCell"]


def _schur(matrix: Tensor) -> Tensor:
    """An upper bound of ‖A‖₂ from sums of absolute values: (n, n) -> ()."""
    size = matrix.abs()
    return (size.sum(0).amax() * size.sum(1).amax()).sqrt()


def _shrink(bound: Tensor, contraction: float) -> Tensor:
    """The factor that brings a norm below ``contraction``, at most 1."""
    return (contraction / bound).clamp(max=1)


def _check_contraction(contraction: float) -> float:
    if not 0 < contraction < 1:
        raise InputError("contraction must lie between 0 and 1", given=contraction)
    return contraction


class DenseCell(nn.Module):
    """tanh(W z + U y + b) with ‖W‖₂ <= contraction < 1 by Schur's test, so that z is unique.

    Args:
        inputs: length of y.
        states: length of z.
        contraction: Lipschitz constant in z [1].

    Raises:
        InputError: ``contraction`` does not lie between 0 and 1.
    """

    def __init__(self, inputs: int, states: int, contraction: float = 0.9) -> None:
        super().__init__()
        self.contraction = _check_contraction(contraction)
        self.inject = nn.Linear(inputs, states)
        self.weight = nn.Parameter(torch.randn(states, states) / states**0.5)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """f(z; y): (b, states), (b, inputs) -> (b, states)."""
        weight = self.weight * _shrink(_schur(self.weight), self.contraction)
        return torch.tanh(z @ weight.T + self.inject(y))


class ConvolutionCell(nn.Module):
    """tanh(W z + U y + b) with 3x3 convolutions and ‖W‖₂ <= contraction < 1 by Schur's test.

    Args:
        inputs: channels of y.
        channels: channels of z.
        contraction: Lipschitz constant in z [1].

    Raises:
        InputError: ``contraction`` does not lie between 0 and 1.
    """

    def __init__(self, inputs: int, channels: int, contraction: float = 0.9) -> None:
        super().__init__()
        self.contraction = _check_contraction(contraction)
        self.inject = nn.Conv2d(inputs, channels, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(channels, channels, 3, 3) / (9 * channels) ** 0.5)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """f(z; y): (b, channels, h, w), (b, inputs, h, w) -> (b, channels, h, w)."""
        bound = _schur(self.weight.abs().sum((2, 3)))
        weight = self.weight * _shrink(bound, self.contraction)
        return torch.tanh(functional.conv2d(z, weight, padding=1) + self.inject(y))


class Classifier(nn.Module):
    """Logits of small grey images, linear in a deep equilibrium whose pixels are pooled.

    The largest value of every 2x2 block of z counts, so that a shift by one pixel changes little.

    Args:
        channels: channels of z.
        side: height and width of the images [pixel], even.
        classes: number of classes.
        contraction: Lipschitz constant of the cell in z [1].
    """

    def __init__(
        self, channels: int = 16, side: int = 8, classes: int = 10, contraction: float = 0.9
    ) -> None:
        super().__init__()
        self.layer = DeepEquilibrium(
            ConvolutionCell(1, channels, contraction),
            lambda y: y.new_zeros(len(y), channels, side, side),
            rtol=1e-3,
            backward_rtol=1e-3,
        )
        self.readout = nn.Linear(channels * (side // 2) ** 2, classes)

    def forward(self, y: Tensor) -> tuple[Tensor, Equilibrium]:
        """Logits (b, classes) and the equilibrium, for images (b, 1, side, side)."""
        found = self.layer(y)
        return self.readout(functional.max_pool2d(found.z, 2).flatten(1)), found


class Denoiser(nn.Module):
    """x = y - C z, where z is a deep equilibrium fed with the noisy y and C a 3x3 convolution.

    Args:
        channels: channels of z.
        contraction: Lipschitz constant of the cell in z [1].
    """

    def __init__(self, channels: int = 24, contraction: float = 0.95) -> None:
        super().__init__()
        self.layer = DeepEquilibrium(
            ConvolutionCell(1, channels, contraction),
            lambda y: y.new_zeros(len(y), channels, *y.shape[2:]),
            rtol=1e-3,
            backward_rtol=1e-3,
        )
        self.readout = nn.Conv2d(channels, 1, 3, padding=1)
        nn.init.zeros_(self.readout.bias)

    def forward(self, y: Tensor) -> tuple[Tensor, Equilibrium]:
        """The image (b, 1, h, w) and the equilibrium, for noisy images (b, 1, h, w)."""
        found = self.layer(y)
        return y - self.readout(found.z), found

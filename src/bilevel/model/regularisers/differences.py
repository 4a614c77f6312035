"""Forward differences of images and their adjoint."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

__all__ = ["differences", "divergence"]


def differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """Downwards and to the right, zero across the last row and column: (b, c, h, w) each."""
    down = pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    right = pad(x[..., 1:] - x[..., :-1], (0, 1))
    return down, right


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """The negative adjoint of :func:`differences`."""
    return (
        pad(p[..., :-1, :], (0, 0, 0, 1))
        - pad(p[..., :-1, :], (0, 0, 1, 0))
        + pad(q[..., :-1], (0, 1))
        - pad(q[..., :-1], (1, 0))
    )

"""The learned weights of pixels and noise in one picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from torch import Tensor

from hyper_parameters.digits import PIXELS

__all__ = ["draw_weights"]


def draw_weights(log_weights: Tensor, picture: Tensor, path: Path) -> Path:
    """Deviations (64,) of the pixels, their log-weights, those of 36 features of noise."""
    values = log_weights.detach().numpy()
    limits = {"vmin": float(values.min()), "vmax": float(values.max()), "cmap": "viridis"}
    figure, axes = plt.subplots(1, 3, figsize=(7.6, 2.7), layout="constrained")
    axes[0].imshow(picture.view(8, 8).numpy(), cmap="gray")
    axes[0].set_title("deviation of pixels")
    image = axes[1].imshow(values[:PIXELS].reshape(8, 8), **limits)
    axes[1].set_title("log-weights, 64 pixels")
    axes[2].imshow(values[PIXELS:].reshape(6, 6), **limits)
    axes[2].set_title("log-weights, 36 of noise")
    for axis in axes:
        axis.set_axis_off()
    figure.colorbar(image, ax=axes[1:], label="log-weight", shrink=0.85)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path

"""What the tape keeps, implicit and unrolled, against the number of forward iterations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from deep_equilibrium.layer import DeepEquilibrium
from deep_equilibrium.solvers import Picard

__all__ = ["ITERATIONS", "draw", "implicit", "saved_bytes", "unrolled"]

ITERATIONS = (1, 2, 5, 10, 20, 50, 100)


def saved_bytes(work: Callable[[], None]) -> int:
    """Bytes of all distinct memory that autograd saved while ``work`` ran, forward and backward.

    All is held until the end, so it is the peak of a tape of which nothing is released early.
    """
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        work()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def implicit(cell: nn.Module, y: Tensor, start: Tensor, iterations: int) -> None:
    """``iterations`` steps forward without a tape, then the implicit gradient by GMRES."""
    layer = DeepEquilibrium(
        cell, lambda _: start, method=Picard(), rtol=0.0, max_steps=iterations, backward_rtol=1e-3
    )
    layer(y).z.square().sum().backward()


def unrolled(cell: nn.Module, y: Tensor, start: Tensor, iterations: int) -> None:
    """``iterations`` steps with a tape, then the gradient through all of them."""
    z = start
    for _ in range(iterations):
        z = cell(z, y)
    z.square().sum().backward()


def draw(iterations: list[int], found: dict[str, list[float]], path: Path) -> None:
    """Write the figure; ``found`` has one list [MiB] for each curve."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(4.2, 3.0), layout="constrained")
    for (name, values), marker in zip(found.items(), "os", strict=True):
        axes.loglog(iterations, values, marker=marker, label=name)
    axes.set(xlabel="forward iterations", ylabel="peak memory of the tape [MiB]")
    axes.set_title("8 images of 32 × 32, 16 channels", fontsize=10)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
    plt.close(figure)

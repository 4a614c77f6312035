"""Measure what the tape keeps, implicit and unrolled, against the number of forward iterations."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from deq_layer import DeepEquilibrium
from deq_networks import ConvolutionCell
from deq_solvers import Picard
from torch import Tensor, nn

__all__ = ["draw", "implicit", "saved_bytes", "unrolled"]

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


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "memory.png")
    options = parser.parse_args()
    torch.manual_seed(0)
    cell, y, start = ConvolutionCell(1, 16), torch.rand(8, 1, 32, 32), torch.zeros(8, 16, 32, 32)
    found: dict[str, list[float]] = {"unrolled": [], "implicit": []}
    for iterations in ITERATIONS:
        for name, way in (("unrolled", unrolled), ("implicit", implicit)):
            size = saved_bytes(lambda way=way, k=iterations: way(cell, y, start, k)) / 2**20
            found[name].append(size)
        print(
            f"{iterations:4d}", *(f"{name} {sizes[-1]:8.2f} MiB" for name, sizes in found.items())
        )
    draw(list(ITERATIONS), found, options.out)


if __name__ == "__main__":
    main()

"""A discrete cell trained from scratch and tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from architecture_search.digits import Labelled, cross_entropy_sum
from architecture_search.momentum import Momentum
from architecture_search.network import Cell, Network
from bilevel.ground.checks import check_positive
from bilevel.learn.directions import Sampler

__all__ = ["Training"]


@dataclass(frozen=True)
class Training:
    """Minibatch gradients with momentum 0.9 and a cosine, the same for every cell.

    Args:
        epochs: over the training samples.
        step: the first step size.
        batch_size: samples a step.
        decay: weight decay.
        clip: the longest gradient.
        channels: of every node.

    Raises:
        InputError: an option out of range.

    Example:
        >>> Training(epochs=10).batch_size
        50
    """

    epochs: int = 30
    step: float = 0.05
    batch_size: int = 50
    decay: float = 3e-4
    clip: float = 1.0
    channels: int = 8

    def __post_init__(self) -> None:
        """Check the options."""
        for name in ("epochs", "step", "batch_size", "clip", "channels"):
            check_positive(getattr(self, name), name)

    def accuracies(
        self, cell: Cell, train: Labelled, parts: Sequence[Labelled], seed: int
    ) -> tuple[float, ...]:
        """Share of each part that is classified rightly after training on ``train``, in [0, 1]."""
        network = Network(cell, self.channels)
        alpha, x = network.alpha(), network.start(seed).requires_grad_()
        loss = cross_entropy_sum(network, train, self.decay)
        sampler = Sampler(len(train), min(self.batch_size, len(train)), seed, "training")
        steps = self.epochs * sampler.batches
        momentum, velocity = Momentum(self.step, clip=self.clip), torch.zeros_like(x)
        for t in range(steps):
            value = loss.mean(x, {"alpha": alpha}, sampler.batch(sampler.number(t)))
            slope = torch.autograd.grad(value, x)[0]
            x, velocity = momentum.moved(x.detach(), velocity, slope, t / steps)
            x.requires_grad_()
        with torch.no_grad():
            return tuple(
                float((network.scores(x, alpha, p.images).argmax(1) == p.classes).double().mean())
                for p in parts
            )

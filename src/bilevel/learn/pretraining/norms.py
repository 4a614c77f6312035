"""The norms of cascades of filters, which stay as they were while these are trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from bilevel.ground.theta import Theta
from bilevel.model.regularisers import CascadeRegulariser, GroupedExperts, estimated_norm

__all__ = ["Norms"]


@dataclass(frozen=True)
class Cascade:
    """Names of the banks of a cascade, and at the start its norm and the length of each bank."""

    names: tuple[str, ...]
    norm: float
    lengths: tuple[float, ...]

    def kept(self, theta: Theta) -> Theta:
        """The banks of those lengths, times what makes the norm that of the start."""
        pairs = zip(self.names, self.lengths, strict=True)
        banks = {name: theta[name] * (size / _length(theta[name])) for name, size in pairs}
        share = (self.norm / estimated_norm(list(banks.values()))) ** (1 / len(banks))
        return {name: bank * share for name, bank in banks.items()}


@dataclass(frozen=True)
class Norms:
    """The cascades that are learned beside their scales or a weight.

    Their norm is no degree of freedom then: filters count by their direction alone (Goujon,
    Neumayer, Unser 2024, Section 4, divide by it). Nor is the length of a bank: were it free, noise
    would let some grow, and a step that is short for these long for the others. Where no scale is
    learned, all stay free.
    """

    found: tuple[Cascade, ...]

    @staticmethod
    def of(part: nn.Module, theta: Theta, prefix: str) -> Norms:
        """Those within ``part``, whose parameters have that prefix in ``theta``."""
        found: list[Cascade] = []
        for path, module in cast(Iterable[tuple[str, nn.Module]], part.named_modules()):
            if isinstance(module, CascadeRegulariser | GroupedExperts):
                start = f"{prefix}.{path}" if path else prefix
                names = tuple(f"{start}.filters.{k}" for k in range(len(module.filters)))
                if theta.keys() >= set(names) and any(_sizes(name, start) for name in theta):
                    banks = [theta[name] for name in names]
                    norm = float(estimated_norm(banks))
                    if norm > 0:
                        lengths = tuple(float(_length(bank)) for bank in banks)
                        found.append(Cascade(names, norm, lengths))
        return Norms(tuple(found))

    def kept(self, theta: Theta) -> Theta:
        """With the banks of each cascade as long, and their norm as large, as at the start.

        Can be differentiated.
        """
        scaled = dict(theta)
        for cascade in self.found:
            scaled |= cascade.kept(theta)
        return scaled


def _length(bank: Tensor) -> Tensor:
    return bank.square().sum().sqrt()


def _sizes(name: str, path: str) -> bool:
    """Whether the parameter says how large the responses of the part at ``path`` count."""
    owner, _, own = name.rpartition(".")
    return own in ("log_weight", "log_scaling", "log_scale") and f"{path}.".startswith(f"{owner}.")

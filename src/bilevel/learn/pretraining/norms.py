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
class Norms:
    """Names of the banks of each cascade that is learned, and its norm at the start.

    The norm is no degree of freedom beside scales and weight: filters count by their direction
    alone (Goujon, Neumayer, Unser 2024, Section 4, divide by it). Where none of these is learned,
    it is, and stays free.
    """

    found: tuple[tuple[tuple[str, ...], float], ...]

    @staticmethod
    def of(part: nn.Module, theta: Theta, prefix: str) -> Norms:
        """Those within ``part``, whose parameters have that prefix in ``theta``."""
        found: list[tuple[tuple[str, ...], float]] = []
        for path, module in cast(Iterable[tuple[str, nn.Module]], part.named_modules()):
            if isinstance(module, CascadeRegulariser | GroupedExperts):
                start = f"{prefix}.{path}" if path else prefix
                names = tuple(f"{start}.filters.{k}" for k in range(len(module.filters)))
                known = theta.keys() >= set(names) and any(_sizes(name, start) for name in theta)
                norm = float(_norm(theta, names)) if known else 0.0
                if norm > 0:
                    found.append((names, norm))
        return Norms(tuple(found))

    def kept(self, theta: Theta) -> Theta:
        """With the last bank of each cascade scaled so that its norm is that of the start.

        Can be differentiated.
        """
        scaled = dict(theta)
        for names, norm in self.found:
            scaled[names[-1]] = theta[names[-1]] * (norm / _norm(theta, names))
        return scaled


def _sizes(name: str, path: str) -> bool:
    """Whether the parameter says how large the responses of the part at ``path`` count."""
    owner, _, own = name.rpartition(".")
    return own in ("log_weight", "log_scaling", "log_scale") and f"{path}.".startswith(f"{owner}.")


def _norm(theta: Theta, names: tuple[str, ...]) -> Tensor:
    return estimated_norm([theta[name] for name in names])

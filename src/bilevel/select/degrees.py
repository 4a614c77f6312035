"""How many degrees of freedom a reconstruction has: df = tr ∂(A x)/∂y."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.checks import check_choice
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.select.point import Point

__all__ = ["ONE_PROBE", "Degrees"]

WAYS = ("implicit", "exact")


@dataclass(frozen=True)
class Degrees:
    """tr ∂(A x)/∂y by bᵀ A H⁻¹ ∂_y∇J b: one linear system for each probe b, or for each datum.

    "implicit" takes the mean over ``probes`` random signs b (Hutchinson 1990), the same for all
    weights and rows, so that curves are smooth; "exact" all unit vectors, for small data.

    Raises:
        InputError: an unknown way, no probe.

    Example:
        >>> Degrees(probes=2).way
        'implicit'
    """

    way: str = "implicit"
    probes: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the options."""
        check_choice(self.way, WAYS, "way to count degrees of freedom")
        if self.probes < 1:
            raise InputError("at least one probe is needed", given=self.probes)

    def of(self, point: Point) -> Tensor:
        """The number of each row, (b,) float64."""
        probes = self.vectors(point.y)
        total = sum((point.degrees(b.expand_as(point.y)) for b in probes), torch.zeros(()).double())
        return total if self.way == "exact" else total / len(probes)

    def vectors(self, y: Tensor) -> Tensor:
        """The probes, (n, c', h', w')."""
        shape, m = y.shape[1:], y[0].numel()
        if self.way == "exact":
            return torch.eye(m, dtype=y.dtype, device=y.device).view(m, *shape)
        random = generator(self.seed, "probe")
        signs = torch.randint(0, 2, (self.probes, *shape), generator=random)
        return (2 * signs - 1).to(y)


ONE_PROBE = Degrees()
"""What rules count with unless told otherwise."""

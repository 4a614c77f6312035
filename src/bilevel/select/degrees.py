"""How many degrees of freedom a reconstruction has: df = tr ∂(A x)/∂y."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_choice, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.risk.unbiased import UnbiasedRisk, probe_step
from bilevel.select.point import Point

__all__ = ["ONE_PROBE", "Degrees"]

MOST = 1000
"""Random signs, which all are kept: beyond, ten times as many tell but one digit more."""
WAYS = ("implicit", "exact", "monte carlo")


@dataclass(frozen=True)
class Degrees:
    """tr ∂(A x)/∂y by bᵀ A (∂x/∂y) b.

    "implicit" takes the mean over ``probes`` random signs b (Hutchinson 1990), one linear system
    each, b the same for all weights and rows, so that curves are smooth; "exact" all unit vectors,
    for small data. "monte carlo" replaces (∂x/∂y) b by (x(y + s b) - x(y))/s with
    s = 2σ/m^0.3 (Deledalle, Vaiter, Fadili and Peyré 2014, arXiv 1405.1164): one more
    reconstruction for each b, and the only way whose slope by log w is known.

    Args:
        way: "implicit", "exact" or "monte carlo".
        probes: the number of random b.
        seed: of these.
        step: s [unit of the data]; by the formula if None.

    Raises:
        InputError: an unknown way, no probe, a step that is not positive.

    Example:
        >>> Degrees(probes=2).way
        'implicit'
    """

    way: str = "implicit"
    probes: int = 1
    seed: int = 0
    step: float | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        check_choice(self.way, WAYS, "way to count degrees of freedom")
        if not 1 <= self.probes <= MOST:
            raise InputError(f"from 1 to {MOST} probes are needed", given=self.probes)
        if self.step is not None:
            check_positive(self.step, "the step of the probes")

    def fresh(self) -> Degrees | None:
        """With other probes; None where all are taken."""
        return None if self.way == "exact" else replace(self, seed=self.seed + 1)

    def of(self, point: Point, sigma: Tensor | None = None) -> Tensor:
        """The number of each row, (b,) float64; ``sigma`` (b,) is needed for s alone."""
        return self.trace(_inner(point, b, dx) for b, dx in self.responses(point, sigma))

    def slope(self, point: Point, sigma: Tensor | None = None) -> Tensor:
        """Its derivative by log w, (b,) float64; that of the difference for "monte carlo"."""
        return self.trace(_inner(point, b, dx) for b, dx in self.slopes(point, sigma))

    def moments(self, point: Point) -> tuple[Tensor, Tensor]:
        """Tr P and tr PᵀP of P = ∂(A x)/∂y, (b,) float64 each."""
        pairs = [(_inner(point, b, dx), _square(point, dx)) for b, dx in self.responses(point)]
        return self.trace(first for first, _ in pairs), self.trace(second for _, second in pairs)

    def paired(
        self, point: Point, risk: UnbiasedRisk, pairs: Iterable[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """tr(LᵀL V A ∂x/∂y) or its slope, from the probes with their responses, (b,) float64."""
        a = point.energy.fidelity.operator
        return self.trace(
            rows.inner(risk.variance * risk.dual(b).double(), a(dx).double()) for b, dx in pairs
        )

    def trace(self, summands: Iterable[Tensor]) -> Tensor:
        """The trace of which every probe gives a summand, (b,) float64 each."""
        found = list(summands)
        total = torch.stack(found).sum(0)
        return total if self.way == "exact" else total / len(found)

    def responses(
        self, point: Point, sigma: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Every probe b with (∂x/∂y) b, (b, c', h', w') and (b, c, h, w)."""
        if self.way == "monte carlo":
            for b, base, shifted, s in self._shifted(point, sigma):
                yield b, (shifted.x - base.x) / s
        else:
            probes = self.vectors(point.y)
            for b, dx in zip(probes, point.responses(probes), strict=True):
                yield b.expand_as(point.y), dx

    def slopes(self, point: Point, sigma: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Every probe with the derivative of its response by log w.

        Raises:
            InputError: a way other than "monte carlo".
        """
        if self.way != "monte carlo":
            advice = 'use Degrees(way="monte carlo")'
            raise InputError("degrees of freedom have no slope", given=self.way, advice=advice)
        for b, base, shifted, s in self._shifted(point, sigma):
            yield b, (shifted.slope_near(base.slope) - base.slope) / s

    def vectors(self, y: Tensor) -> Tensor:
        """The probes, (n, c', h', w')."""
        shape, m = y.shape[1:], y[0].numel()
        if self.way == "exact":
            return torch.eye(m, dtype=y.dtype, device=y.device).view(m, *shape)
        random = generator(self.seed, "probe")
        signs = torch.randint(0, 2, (self.probes, *shape), generator=random)
        return (2 * signs - 1).to(y)

    def _shifted(
        self, point: Point, sigma: Tensor | None
    ) -> list[tuple[Tensor, Point, Point, Tensor]]:
        """Points at y and at y + s b, as accurate in comparison with s as linear systems are."""
        key = self, () if sigma is None else tuple(float(level) for level in sigma)
        if key not in point.memo:
            point.memo[key] = self._moved(point, sigma)
        return point.memo[key]

    def _moved(
        self, point: Point, sigma: Tensor | None
    ) -> list[tuple[Tensor, Point, Point, Tensor]]:
        s = self._step(point, sigma)
        wide, rtol = rows.expand(s.to(point.y), point.y), SHARPER * point.rtol
        probes = [b.expand_as(point.y) for b in self.vectors(point.y)]
        pushed = torch.stack([rows.rms(point.pushed(b)).double() * s for b in probes])
        accuracy = point.rtol * float(pushed.min())
        base = point.moved(point.y, accuracy, rtol)
        return [(b, base, point.moved(point.y + wide * b, accuracy, rtol), wide) for b in probes]

    def _step(self, point: Point, sigma: Tensor | None) -> Tensor:
        if self.step is not None:
            return torch.full_like(point.weight, self.step)
        if sigma is None:
            what = "this rule knows no noise level to take the step of the probes from"
            raise InputError(what, advice='use Degrees(way="monte carlo", step=...)')
        return probe_step(sigma, point.size)


SHARPER = 1e-2
"""Slopes of both reconstructions are solved more accurately, since their difference counts."""


def _inner(point: Point, b: Tensor, dx: Tensor) -> Tensor:
    return rows.inner(b.double(), point.energy.fidelity.operator(dx).double())


def _square(point: Point, dx: Tensor) -> Tensor:
    return point.energy.fidelity.operator(dx).double().square().flatten(1).sum(1)


ONE_PROBE = Degrees()
"""What rules count with unless told otherwise."""

"""Fidelities of residuals κ ν² ψ((A x - y)/ν): noise with outliers, one potential ψ each."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.model.fidelities.pointwise import Pointwise, Turned
from bilevel.model.fidelities.weighted import around_data
from bilevel.model.operators.operator import Operator
from bilevel.model.part import around, check_learn, positive_parameter
from bilevel.model.potentials import Potential
from bilevel.model.sets import Set

__all__ = ["LARGE", "Robust"]

LARGE = 0.1
"""Residuals from which they are outliers, where no other number is given: of the contrast."""


class Robust(Pointwise):
    """w κ ν² Σ ψ((A x - y)/ν) with an even potential ψ, ψ''(0) = 1.

    κ is the curvature at 0, ν the residual at which ψ turns from quadratic. Both are products of
    powers of positive parameters, which subclasses name in ``powers``, beside the weight.
    """

    potential: ClassVar[Potential]
    powers: ClassVar[Mapping[str, tuple[int, int]]]
    """The exponents of every parameter in κ and in ν; the second is not 0."""
    evaluation: ClassVar[float] = 2.0

    def __init__(
        self,
        operator: Operator | None,
        weight: float,
        learn: Collection[str],
        **given: tuple[float | None, float],
    ) -> None:
        """Each parameter with its value, and that for a contrast of 1 where it is None."""
        check_learn(learn, ("weight", *self.powers))
        super().__init__(operator, weight, learn=[name for name in learn if name == "weight"])
        for name, (value, usual) in given.items():
            if value is None:
                self.leave(f"log_{name}", grey=1)
            first = usual if value is None else value
            setattr(self, f"log_{name}", positive_parameter(first, name, learn))

    def _log(self, name: str) -> Tensor:
        found: Tensor = getattr(self, f"log_{name}")
        return found

    def sets(self) -> Mapping[str, Set]:
        """Positive and bounded, so that L stays finite."""
        return {**super().sets(), **{f"log_{n}": around(self._log(n)) for n in self.powers}}

    def options(self) -> dict[str, object]:
        """What builds it again; the values themselves travel as parameters."""
        learn = [n for n in ("weight", *self.powers) if self._log(n).requires_grad]
        return {**super().options(), "learn": tuple(learn)}

    def accounted(self) -> frozenset[str]:
        """All parameters, and what the operator has."""
        return super().accounted() | {f"log_{name}" for name in self.powers}

    def broadcasts(self) -> frozenset[str]:
        """All parameters."""
        return super().broadcasts() | {f"log_{name}" for name in self.powers}

    def widened(self, y: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Around the data, where pixels are seen."""
        return around_data(self.operator, y, lower, upper)

    def _scales(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """κ and ν, in the precision of ``like``."""
        logs = [(self._log(n).to(like), powers) for n, powers in self.powers.items()]
        stiffness = torch.stack([a * log for log, (a, _) in logs]).sum(0)
        turn = torch.stack([b * log for log, (_, b) in logs]).sum(0)
        return stiffness.exp(), turn.exp()

    def _point(self, t: Tensor, z: Tensor) -> Tensor:
        stiffness, turn = self._scales(t)
        return stiffness * turn.square() * self.potential.value((t - z) / turn)

    def _slope(self, t: Tensor, z: Tensor) -> Tensor:
        return self._majorised(t, z) * (t - z)

    def _curvature(self, t: Tensor, z: Tensor) -> Tensor:
        stiffness, turn = self._scales(t)
        return stiffness * self.potential.curvature((t - z) / turn)

    def _majorised(self, t: Tensor, z: Tensor) -> Tensor:
        """κ ψ'(s)/s with s = (t - z)/ν: ψ(√·) is concave for every potential here."""
        stiffness, turn = self._scales(t)
        return stiffness * self.potential.ratio((t - z) / turn)

    def _extremes(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """κ times those of ψ''."""
        stiffness = self._scales(z.double())[0].detach().expand(len(z))
        return self.potential.curvature_min * stiffness, stiffness

    def _jump(self, t: Tensor, z: Tensor, reach: Tensor) -> Tensor:
        """The spread of ψ'' where a kink may be crossed, and no more than its slope elsewhere."""
        stiffness, turn = self._scales(t)
        spread, gradual = self.potential.curvature_spread, self.potential.lipschitz * reach / turn
        kinked = self._crossing(t, z, reach)
        return stiffness * torch.where(kinked, spread, gradual.clamp_max(spread)).to(t)

    def _steepness(self, t: Tensor, z: Tensor, reach: Tensor) -> Tensor:
        """κ λ/ν, λ the Lipschitz constant of ψ''."""
        stiffness, turn = self._scales(t)
        return (stiffness * self.potential.lipschitz / turn).expand_as(t)

    def _crossing(self, t: Tensor, z: Tensor, reach: Tensor) -> Tensor:
        """Residuals within ``reach`` of a kink."""
        kink = self.potential.kink * self._scales(t)[1]
        return ((t - z).abs() - kink).abs() <= reach

    def _offset(self, z: Tensor) -> Tensor:
        """κ ‖y‖."""
        return self._scales(z.double())[0].detach() * rows.length(z)

    def _by_parameters(self, t: Tensor, z: Tensor, reach: Tensor) -> Sequence[Turned]:
        """Of log p with the powers a and b: (a + b) ψ' - b κ r ψ''(s), s = r/ν, r = t - z.

        Its slope κ (a ψ'' - b s ψ''') is at most κ (|a| + |b| τ), τ >= |s ψ'''|, and because of
        |ψ'' + s ψ'''| <= 1 at most κ (|a + b| + |b|). At a kink |s| = k it jumps by |b| κ ν k times
        what ψ'' does; both kinks may be crossed where r can move by k ν.
        """
        stiffness = self._scales(t)[0]
        slope, bent, psi = self._slope(t, z), self._curvature(t, z) * (t - z), self.potential
        leap = self._leap(t, reach)
        found: list[Turned] = []
        for name, (a, b) in self.powers.items():
            if not self._log(name).requires_grad:
                continue
            most = min(abs(a) + abs(b) * psi.turning, abs(a + b) + abs(b))
            steep = (most * stiffness).expand_as(t)
            own = None if leap is None else abs(b) * leap
            found.append(Turned((a + b) * slope - b * bent, steep, own))
        return found

    def _leap(self, t: Tensor, reach: Tensor) -> Tensor | None:
        """How far κ r ψ'' may jump at kinks; None without any."""
        if self.potential.kink == math.inf:
            return None
        stiffness, turn = self._scales(t)
        edge = self.potential.kink * turn
        one = stiffness * edge * self.potential.curvature_spread
        return (torch.where(reach >= edge, 2 * one, one)).expand_as(t)

"""Nonmonotone accelerated (proximal) gradients of Li and Lin, for non-convex smooth energies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.momentum import momentum
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.solve.solver import Solver

__all__ = ["NMAPG"]

TRIALS = 150


@dataclass(frozen=True)
class NMAPGState:
    """x_k, x_{k-1}, z_k; y_{k-1} with its gradient; t_k, t_{k-1}, q_k, c_k and 1/step, per row."""

    x: Tensor
    previous: Tensor
    z: Tensor
    y: Tensor
    slope: Tensor
    t: Tensor
    t_old: Tensor
    q: Tensor
    c: Tensor
    lipschitz: Tensor


@dataclass(frozen=True)
class _Trial:
    """Where a line search ended: the point, its value, ‖move‖² and 1/step."""

    x: Tensor
    value: Tensor
    square: Tensor
    lipschitz: Tensor


@dataclass(frozen=True)
class NMAPG(Solver[NMAPGState]):
    """Nonmonotone accelerated gradients with line search: for non-convex energies.

    nmAPG with line search; for smooth J the proximal map is the identity.

    z = y - ∇J(y)/L is taken if J(z) <= c - δ‖z - y‖², where c is a decaying mean of earlier
    values; otherwise the better of z and v = x - ∇J(x)/L. Each search starts from the
    Barzilai-Borwein L and divides it by ρ. Comparisons allow for rounding. A step takes a gradient
    and a value, and more of both where a search goes on.

    Args:
        rho: factor of the step after a failed trial.
        delta: sufficient decrease.
        eta: weight of earlier values in c; 0 is monotone.
        first_lipschitz: L of the first trial.

    Source: Li and Lin 2015, Accelerated proximal gradient methods for nonconvex programming,
    supplement, Algorithm 4.

    Raises:
        InputError: rho or eta outside [0, 1), delta or first_lipschitz not positive.

    Example:
        >>> NMAPG().rho
        0.9
    """

    rho: float = 0.9
    delta: float = 0.1
    eta: float = 0.8
    first_lipschitz: float = 1.0

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self.delta, "delta")
        check_positive(self.first_lipschitz, "first_lipschitz")
        if not (0 < self.rho < 1 and 0 <= self.eta < 1):
            given = self.rho, self.eta
            raise InputError("nmAPG needs 0 < rho < 1 and 0 <= eta < 1", given=given)

    def init(self, objective: SmoothObjective, x: Tensor) -> NMAPGState:
        """No momentum, no memory."""
        c = objective.value(x)
        one = torch.ones_like(c)
        nothing = torch.zeros_like(x)
        return NMAPGState(x, x, x, x, nothing, one, 0 * one, one, c, self.first_lipschitz * one)

    def step(self, objective: SmoothObjective, state: NMAPGState) -> NMAPGState:
        """One iteration, (148) to (161) of the source."""
        s = state
        ahead, inertia = s.t_old / s.t, (s.t_old - 1) / s.t
        y = s.x + rows.expand(ahead, s.x) * (s.z - s.x)
        y = y + rows.expand(inertia, y) * (s.x - s.previous)
        value, slope = objective.value_and_grad(y)
        lipschitz = _barzilai_borwein(y - s.y, slope - s.slope, s)
        z = self._search(objective, y, slope, torch.maximum(value, s.c), lipschitz)
        x, reached = z.x, z.value
        doubtful = torch.nonzero(reached > s.c - self.delta * z.square).flatten()
        lipschitz = z.lipschitz
        if len(doubtful):
            v = self._corrected(objective.rows(doubtful), rows.take(s, doubtful))
            lipschitz = lipschitz.index_copy(0, doubtful, v.lipschitz)
            better = v.value <= reached[doubtful]
            chosen = doubtful[better]
            x = x.index_copy(0, chosen, v.x[better])
            reached = reached.index_copy(0, chosen, v.value[better])
        t, _ = momentum(s.t)
        q = self.eta * s.q + 1
        c = (self.eta * s.q * s.c + reached) / q
        return NMAPGState(x, s.x, z.x, y, slope, t, s.t, q, c, lipschitz)

    def _corrected(self, objective: SmoothObjective, s: NMAPGState) -> _Trial:
        """A descent step from x itself, where the accelerated one may not be trusted."""
        slope = objective.grad(s.x)
        lipschitz = _barzilai_borwein(s.x - s.y, slope - s.slope, s)
        return self._search(objective, s.x, slope, s.c, lipschitz)

    def _search(
        self, objective: SmoothObjective, x: Tensor, slope: Tensor, level: Tensor, lipschitz: Tensor
    ) -> _Trial:
        """Shorten the step until the value is δ‖move‖² below ``level``; only failed rows go on."""
        noise = _noise(level) * level.abs()
        found = _trial(objective, x, slope, lipschitz)
        for _ in range(TRIALS):
            enough = found.value <= level - self.delta * found.square + noise
            left = torch.nonzero(~enough).flatten()
            if not len(left):
                break
            shorter = found.lipschitz[left] / self.rho
            rows.put(found, left, _trial(objective.rows(left), x[left], slope[left], shorter))
        return found


def _trial(objective: SmoothObjective, x: Tensor, slope: Tensor, lipschitz: Tensor) -> _Trial:
    move = slope / rows.expand(-lipschitz, slope)
    point = x + move
    return _Trial(point, objective.value(point), rows.inner(move, move), lipschitz)


def _barzilai_borwein(s: Tensor, r: Tensor, state: NMAPGState) -> Tensor:
    """⟨r, r⟩/⟨s, r⟩, (150); the last L where it is not positive or where there is no history."""
    curved = rows.inner(s, r)
    known = (state.t_old > 0) & (curved > 0)
    fresh = rows.inner(r, r) / torch.where(known, curved, 1.0)
    usable = known & torch.isfinite(fresh) & (fresh > 0)
    return torch.where(usable, fresh, state.lipschitz)


def _noise(value: Tensor) -> float:
    return 1e-6 if value.dtype == torch.float32 else 1e-14

"""Free-FISTA: accelerated gradients that learn L by backtracking and mu by restarts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.momentum import momentum
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.solve.solver import Solver

__all__ = ["FreeFISTA"]

HISTORY = 64


@dataclass(frozen=True)
class FreeFISTAState:
    """The last two points, t, the step s there, the one to try, and the cycle of restarts; per row.

    ``done`` counts the steps of the cycle of ``length``.
    ``values`` (b, 64) holds J at the last restarts, the newest last, and ``lengths`` those of the
    cycles that led there; nan where there was none.
    """

    x: Tensor
    previous: Tensor
    t: Tensor
    s: Tensor
    trial: Tensor
    done: Tensor
    length: Tensor
    values: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class FreeFISTA(Solver[FreeFISTAState]):
    """Accelerated gradients that find both constants on the way.

    FISTA with backtracking that lets L decrease, restarted by an estimate of mu/L.

    After cycle j, with r_i the points of the restarts and n_i the lengths of the cycles,
    q = min_i 4/(ρ (n_i + 1)²) (J(r_{i-1}) - J(r_j))/(J(r_i) - J(r_j)) estimates mu/L from above,
    and the length is doubled if it is at most C/√q with C = 6.38/√ρ. Linear convergence at the
    rate exp(-K √(mu/L) k) for convex J with quadratic growth, without knowing mu or L. One
    gradient and two values a step; a step that backtracks stays where it is. The minimum is taken
    over the last 64 cycles.

    Args:
        rho: factor of the step after a failed trial.
        delta: the step grows by 1/delta where the last one was clearly short enough.
        first_lipschitz: L of the first trial.

    Source: Aujol, Calatroni, Dossal, Labarrière, Rondepierre 2023 (arXiv 2307.14323).

    Raises:
        InputError: rho outside (0, 1), delta outside (0, 1], first_lipschitz not positive.

    Example:
        >>> FreeFISTA().rho
        0.8
    """

    rho: float = 0.8
    delta: float = 0.95
    first_lipschitz: float = 1.0

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self.first_lipschitz, "first_lipschitz")
        if not (0 < self.rho < 1 and 0 < self.delta <= 1):
            given = self.rho, self.delta
            raise InputError("Free-FISTA needs 0 < rho < 1 and 0 < delta <= 1", given=given)

    @property
    def _c(self) -> float:
        return 6.38 / math.sqrt(self.rho)

    def init(self, objective: SmoothObjective, x: Tensor) -> FreeFISTAState:
        """The first cycle."""
        value = objective.value(x)
        one = torch.ones_like(value)
        s = one / self.first_lipschitz
        missing = value.new_full((len(x), HISTORY), torch.nan)
        values = missing.clone()
        values[:, -1] = value
        return FreeFISTAState(
            x,
            x,
            one,
            s,
            s,
            done=0 * one,
            length=math.floor(2 * self._c) * one,
            values=values,
            lengths=missing,
        )

    def step(self, objective: SmoothObjective, state: FreeFISTAState) -> FreeFISTAState:
        """One trial of a FISTA step; at the end of a cycle, a restart."""
        f, s = state, state.trial
        t, beta = momentum(f.t, growth=f.s / s)
        y = f.x + rows.expand(beta, f.x) * (f.x - f.previous)
        before, slope = objective.value_and_grad(y)
        x = y - rows.expand(s, slope) * slope
        value, square = objective.value(x), rows.inner(slope, slope)
        bregman = value - before + s * square
        noise = 16 * torch.finfo(value.dtype).eps * (value.abs() + before.abs())
        enough = bregman <= s / 2 * square + noise
        clear = bregman + noise <= self.rho * s / 2 * square
        after = torch.where(clear, s / self.delta, s)
        taken = replace(f, x=x, previous=f.x, t=t, s=s, trial=after, done=f.done + 1)
        taken = rows.choose(enough, taken, replace(f, trial=self.rho * s))
        return self._restarted(taken, value, enough & (taken.done >= f.length))

    def _restarted(self, f: FreeFISTAState, value: Tensor, ends: Tensor) -> FreeFISTAState:
        """Rows whose cycle ends forget their momentum and judge the length of the next."""
        values = torch.cat((f.values[:, 1:], value[:, None]), 1)
        lengths = torch.cat((f.lengths[:, 1:], f.length[:, None]), 1)
        drop = (values[:, :-2] - values[:, -1:]) / (values[:, 1:-1] - values[:, -1:])
        q = 4 / (self.rho * (lengths[:, 1:-1] + 1).square()) * drop
        q = torch.where(torch.isfinite(q) & (q > 0), q, torch.inf).amin(1)
        longer = torch.where(f.length <= self._c / q.sqrt(), 2 * f.length, f.length)
        anew = replace(f, previous=f.x, t=torch.ones_like(f.t), done=torch.zeros_like(f.done))
        anew = replace(anew, length=longer, values=values, lengths=lengths)
        return rows.choose(ends, anew, f)

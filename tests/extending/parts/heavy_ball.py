"""A lower-level solver of one's own."""

from dataclasses import dataclass

from torch import Tensor

from bilevel.extend import Objective, Solver, check_nonnegative, rows


@dataclass(frozen=True)
class HeavyBallState:
    x: Tensor
    previous: Tensor
    step: Tensor  # (b,)
    momentum: Tensor  # (b,)


@dataclass(frozen=True)
class HeavyBall(Solver[HeavyBallState]):
    """Gradient steps with a constant momentum: for quadratic energies.

    x⁺ = x - α ∇J(x) + β (x - x⁻) (Polyak 1964).

    Args:
        damping: from 0, the fastest for quadratic energies, to 1, no momentum at all.
    """

    damping: float = 0.0

    def __post_init__(self) -> None:
        check_nonnegative(self.damping, "damping")

    def init(self, objective: Objective, x: Tensor) -> HeavyBallState:
        root_mu = objective.bounds.proved_mu().sqrt().to(x.dtype)
        root_l = objective.bounds.lipschitz.sqrt().to(x.dtype)
        momentum = (1 - self.damping) * ((root_l - root_mu) / (root_l + root_mu)) ** 2
        step = (1 + momentum) * 2 / (root_l**2 + root_mu**2)
        return HeavyBallState(x, x, step, momentum)

    def step(self, objective: Objective, state: HeavyBallState) -> HeavyBallState:
        s = state
        inertia = rows.expand(s.momentum, s.x) * (s.x - s.previous)
        x = s.x - rows.expand(s.step, s.x) * objective.grad(s.x) + inertia
        return HeavyBallState(x, s.x, s.step, s.momentum)

"""Small saddle problems whose sets of flat and jumping features do not change nearby."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

import bilevel as bl
from bilevel.differentiate import Hypergradient, Upper, UpperGradient
from bilevel.differentiate.saddle_adjoint import dual_of
from bilevel.ground.theta import Theta, bind, learnable
from bilevel.model import SaddleObjective
from bilevel.solve import Solution, Status, Tolerance, certify
from bilevel.solve.solvers import PDHG
from contracts.states import TwoTaps

LOSS = bl.losses.SquaredError()
SHAPE = (5, 6)
R = bl.regularisers
F = bl.fidelities


def blur() -> bl.operators.Convolution:
    near = torch.tensor([1.0, 4.0, 1.0]) / 6
    return bl.operators.Convolution(near[:, None] * near)


def weights() -> Tensor:
    return 0.05 + 0.1 * torch.rand(SHAPE, generator=torch.Generator().manual_seed(5))


def directional() -> R.ExactDirectionalTV:
    """Maps of weights and of directions, learned."""
    angle = 90 * torch.rand(SHAPE, generator=torch.Generator().manual_seed(6))
    return R.ExactDirectionalTV(
        weights(), angle=angle, anisotropy=4.0, learn=("weight", "direction")
    )


def box() -> bl.regularisers.Regulariser:
    return R.ExactTotalVariation(0.1) + R.Box(0.3, 0.7)


ENERGIES: dict[str, Callable[[], bl.Variational]] = {
    "anisotropic": lambda: bl.Variational(
        F.SquaredL2(learn=("weight",)), R.ExactTotalVariation(0.1, isotropic=False)
    ),
    "isotropic": lambda: bl.Variational(F.SquaredL2(learn=("weight",)), R.ExactTotalVariation(0.1)),
    "anisotropic map": lambda: bl.Variational(
        F.SquaredL2(), R.ExactTotalVariation(weights(), isotropic=False)
    ),
    "isotropic map": lambda: bl.Variational(F.SquaredL2(), R.ExactTotalVariation(weights())),
    "directional": lambda: bl.Variational(F.SquaredL2(), directional()),
    "blur": lambda: bl.Variational(
        F.SquaredL2(blur()), R.ExactTotalVariation(0.05) + R.Tikhonov(0.3)
    ),
    "box": lambda: bl.Variational(F.SquaredL2(), box()),
    "sparse": lambda: bl.Variational(F.SquaredL2(), R.ExactTotalVariation(0.1) + R.Sparsity(0.3)),
    "absolute": lambda: bl.Variational(F.L1(blur(), learn=("weight",)), R.Tikhonov(0.3)),
    "absolute, Huber": lambda: bl.Variational(
        F.L1(blur(), learn=("weight",)), R.TotalVariation(0.3, 0.1) + R.Tikhonov(0.3)
    ),
    "two": lambda: bl.Variational(
        F.L1(blur(), weight=0.5, learn=("weight",)), R.ExactTotalVariation(0.1) + R.Tikhonov(0.5)
    ),
    "wavelets": lambda: bl.Variational(
        F.SquaredL2(), R.ExactWaveletSparsity(torch.tensor([0.05, 0.1, 0.15]), levels=1)
    ),
    "learned operator": lambda: bl.Variational(F.L1(TwoTaps(), learn=("weight",)), R.Tikhonov(0.5)),
    "pixels": lambda: bl.Variational(
        F.L1(weight=0.5, learn=("weight",)), R.ExactTotalVariation(0.2) + R.Tikhonov(0.8)
    ),
}


@dataclass(frozen=True)
class Saddle:
    """An energy with data, targets and a solution as accurate as rounding lets it be."""

    energy: bl.Variational
    y: Tensor
    target: Tensor
    solution: Solution

    @property
    def lower(self) -> SaddleObjective:
        lower = self.energy.at(self.y)
        assert isinstance(lower, SaddleObjective)
        return lower

    @property
    def upper(self) -> Upper:
        return Upper(LOSS, self.target)

    def by(self, method: Hypergradient, **options: float) -> UpperGradient:
        return method(self.lower, self.upper, self.solution, **options)

    def slope(self, direction: Theta) -> float:
        """The directional derivative of the loss, by central differences."""
        theta = learnable(self.energy)

        def loss(t: float) -> float:
            moved = {k: v + t * direction[k] for k, v in theta.items()}
            x = accurate(bind(self.energy, moved), self.y, self.solution).x
            return float(LOSS.value(x, self.target).mean())

        return (loss(1e-4) - loss(-1e-4)) / 2e-4


def accurate(energy: bl.Energy, y: Tensor, start: Solution | None = None) -> Solution:
    """PDHG for fixed numbers of steps: certificates end at rounding, errors go on falling.

    Accelerated steps come near, constant ones then converge linearly; with a ``start`` both are
    fewer.
    """
    lower, steps = energy.at(y), 0
    x, dual = lower.start(), None
    if start is not None:
        x, dual = start.x, dual_of(start, "this start")
    count = 1000 if start is None else 300
    with torch.no_grad():
        for solver in (PDHG(), PDHG(acceleration=0.0)):
            state = solver.init(lower, x)
            if dual is not None:
                state = replace(state, dual=dual, relaxed_dual=dual)
            for _ in range(count):
                state = solver.step(lower, state)
            x, dual, steps = state.x, state.dual, steps + count
        found = certify(lower, x, dual=dual)
    taken = torch.full((len(y),), steps)
    status = torch.full((len(y),), int(Status.CONVERGED))
    return Solution(x, found, status, taken, Tolerance(rms=1.0), state)


@cache
def saddle(name: str) -> Saddle:
    random = torch.Generator().manual_seed(3)
    y, target = torch.rand(2, 2, 1, *SHAPE, dtype=torch.float64, generator=random)
    energy = ENERGIES[name]().double()
    return Saddle(energy, y, target, accurate(energy, y))

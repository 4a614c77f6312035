"""The optimisers of torch.optim at the upper level."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from bilevel.ground.checks import check_choice, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta, add
from bilevel.ground.theta import norm as theta_norm
from bilevel.learn.accuracy import FROM_DATA, Accuracy
from bilevel.learn.algorithm import Algorithm, Status, settled, verdict
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import Problem
from bilevel.learn.schedules import Geometric, Progress, Schedule

__all__ = ["TorchOptimiser"]

Slots = tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class TorchState(Packable):
    """``slots`` are what the optimiser keeps of each parameter; ``step`` how far θ moved."""

    evaluation: Evaluation
    step: float
    first: float
    slots: Slots
    t: int = 0
    accepted: bool = True
    status: Status = Status.RUNNING


@dataclass(frozen=True)
class TorchOptimiser(Algorithm[TorchState]):
    """An optimiser of torch.optim, e.g. Adam, and a schedule of the accuracy.

    A step of a torch optimiser along the hypergradient, then the projection onto Θ.

    Every step is taken: nothing guards against an ``lr`` that is too large.

    Args:
        optimiser: name of a class in ``torch.optim`` whose step needs no closure.
        lr: its learning rate; for Adam about the change of a parameter in one step.
        options: its other options, e.g. ``{"momentum": 0.9}``.
        schedule: accuracy ε_t of the lower level.
        accuracy: ε_0 and the floor, :class:`~bilevel.learn.accuracy.Accuracy`.
        tol: stop when the projected gradient and its error are below ``tol`` times the loss.

    Raises:
        InputError: an unknown optimiser, or options that it refuses.

    Example:
        >>> TorchOptimiser("SGD", lr=1.0, options={"momentum": 0.9}).optimiser
        'SGD'
    """

    optimiser: str = "Adam"
    lr: float = 0.1
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    schedule: Schedule = field(default_factory=Geometric)
    accuracy: Accuracy = FROM_DATA
    tol: float = 3e-3

    def __post_init__(self) -> None:
        """Take a step with the optimiser, to see that it can."""
        check_choice(self.optimiser, _names(), "optimiser")
        for name in ("lr", "tol"):
            check_positive(getattr(self, name), name)
        taken = list(inspect.signature(getattr(torch.optim, self.optimiser)).parameters)[1:]
        for name in self.options:
            check_choice(name, taken, f"option of {self.optimiser}")
        one = {"": torch.ones(1)}
        try:
            self._moved(one, one, ())
        except (TypeError, ValueError, RuntimeError) as error:
            advice = f"see torch.optim.{self.optimiser}; MAID and LBFGS need no such options"
            given = str(error) if isinstance(error, ValueError) else self.optimiser
            what = f"{self.optimiser} must work with its options, and without a closure"
            raise InputError(what, given=given, advice=advice) from error

    def init(self, problem: Problem, theta: Theta) -> TorchState:
        """Evaluate θ_0 to ε_0."""
        first = self.accuracy.start(problem, theta)
        epsilon = self.accuracy.above(problem, self.schedule.accuracy(Progress(0, first, first)))
        at = settled(problem, problem.value_and_grad(theta, tol=epsilon), self.tol)
        return TorchState(at, 0.0, first, (), status=verdict(problem, at, self.tol))

    def step(self, problem: Problem, state: TorchState) -> TorchState:
        """One step, with ε_{t+1} at the new θ."""
        at = state.evaluation
        norm = theta_norm(at.grad)
        now = Progress(state.t + 1, state.first, at.accuracy, at.doubt, norm)
        epsilon = self.accuracy.above(problem, self.schedule.accuracy(now))
        moved, slots = self._moved(at.theta, at.grad, state.slots)
        theta = problem.space.project(moved)
        new = settled(problem, problem.value_and_grad(theta, tol=epsilon), self.tol)
        return replace(
            state,
            evaluation=new,
            step=theta_norm(add(theta, at.theta, -1.0)),
            slots=slots,
            t=now.t,
            status=verdict(problem, new, self.tol),
        )

    def _moved(self, theta: Theta, grad: Theta, slots: Slots) -> tuple[Theta, Slots]:
        """θ after a step, and what the optimiser keeps; nothing given is written into."""
        leaves = {k: v.detach().clone().requires_grad_() for k, v in theta.items()}
        make = getattr(torch.optim, self.optimiser)
        optimiser: Optimizer = make(list(leaves.values()), lr=self.lr, **self.options)
        if slots:
            kept = {i: _copied(slot) for i, slot in enumerate(slots)}
            optimiser.load_state_dict({**optimiser.state_dict(), "state": kept})
        for name, leaf in leaves.items():
            leaf.grad = grad[name].detach().clone()
        optimiser.step()
        state = cast(dict[int, dict[str, Any]], optimiser.state_dict()["state"])
        after = tuple(_copied(state.get(i, {})) for i in range(len(leaves)))
        return {name: leaf.detach() for name, leaf in leaves.items()}, after


def _copied(slot: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in slot.items()}


def _names() -> list[str]:
    """Optimisers that torch has."""
    found: list[str] = []
    for name, entry in vars(torch.optim).items():
        if isinstance(entry, type) and issubclass(entry, Optimizer) and entry is not Optimizer:
            found.append(name)
    return found

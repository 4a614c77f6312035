"""What ``learn`` and upper-level algorithms see of a bilevel problem, whatever is behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.differentiate import Upper
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta
from bilevel.learn.directions import Directions, Draw, Iterates, Slopes
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.identity import Identity
from bilevel.learn.level import LowerLevel, Memory
from bilevel.model import Cost, Energy, Objective, SmoothObjective, required
from bilevel.model.losses import Scale
from bilevel.model.sets import Product

__all__ = ["DirectedProblem", "Facts", "OwnProblem", "Problem", "directed", "smooth"]


@dataclass(frozen=True)
class Facts:
    """What all faces of a problem have, and share but for θ and its set."""

    level: LowerLevel
    """Of the reconstructions, their cost and budget; shared by all faces of a problem."""
    theta: Theta
    """First values; their names and shapes."""
    space: Product
    """Θ."""
    loss: Scale
    """Units and sizes of L."""
    sought: Energy
    """What θ is learned for, the energy of a fit."""
    counts: tuple[int, int]
    """How many samples the lower and the upper level have."""
    separable: bool
    """Whether each sample has its own x; D_x and D_v are then exact for the rows drawn."""


class Problem(ABC):
    """min_θ L(θ) over Θ, a mean over samples that is known to the accuracy asked for.

    Args:
        facts: what it is made of.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.level, self.theta, self.space = facts.level, facts.theta, facts.space
        self.loss, self.sought, self.separable = facts.loss, facts.sought, facts.separable

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples in the mean."""

    @abstractmethod
    def look(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None
    ) -> tuple[Evaluation, Tensor]:
        """As ``value_and_grad`` without a gradient, and the loss of every sample, (K,)."""

    @abstractmethod
    def value_and_grad(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None, estimate: bool = False
    ) -> Evaluation:
        """Loss and hypergradient at lower-level accuracy ``tol`` (rms, [grey value]), with errors.

        Where no strong convexity of use is proved, ``tol`` bounds the rms of ∇J instead. The
        gradient is its part along Θ (:meth:`~bilevel.model.sets.Set.tangent`): the mean of a
        filter, say, is not free, and a derivative by it would only mislead step sizes.
        ``estimate`` adds an estimate of the gradient's true error, at some extra cost.

        Raises:
            BudgetExhausted: during ``learn``, when the budget is used up.
        """

    @abstractmethod
    def gauss_newton(
        self, theta: Theta, *, tol: float, rtol: float = 1e-6, ids: Tensor | None = None
    ) -> Tensor:
        """Mean of Sᵀ ∇²ℓ S over the samples with S = dx/dθ, (p, p) float64: for few parameters.

        The systems of S are solved to the relative residual ``rtol``.

        Raises:
            InputError: an energy that has no second derivatives.
        """

    @abstractmethod
    def first_accuracy(self, theta: Theta, fraction: float = 0.02) -> float:
        """An accuracy to start from [grey value]: ``fraction`` of the certificate at the start.

        Between 1e-6 of the targets' contrast and ``fraction`` times twice their deviation from
        their means, or their rms where these are flat; measured on the first 64 samples.
        """

    @abstractmethod
    def few(self) -> Tensor:
        """At most about 64 samples whose mean stands for that of all."""

    @abstractmethod
    def reached(self, at: Evaluation) -> bool:
        """Whether learning should go no further."""

    @abstractmethod
    def outward(self, theta: Theta) -> Theta:
        """θ in the units of the energy, in its set."""

    @abstractmethod
    def price(self, theta: Theta) -> float:
        """What θ itself costs, a part of L beside the mean over samples; 0 without a penalty."""

    @abstractmethod
    def identity(self, theta: Theta) -> Identity:
        """What makes this problem another than others, with θ as the reference."""

    @property
    def contrast(self) -> float:
        """Of the images [grey value]: the unit of accuracies."""
        return self.level.contrast

    def value(self, theta: Theta, *, tol: float, ids: Tensor | None = None) -> float:
        """Mean loss at reconstructions of accuracy ``tol`` (rms, [grey value])."""
        return float(self.values(theta, tol=tol, ids=ids).mean())

    def values(self, theta: Theta, *, tol: float, ids: Tensor | None = None) -> Tensor:
        """Loss of every sample, (K,)."""
        return self.look(theta, tol=tol, ids=ids)[1]

    def metered(self) -> AbstractContextManager[None]:
        """Counts the seconds spent inside, whatever is metered within once.

        Raises:
            BudgetExhausted: during ``learn``, when the budget is used up.
        """
        return self.level.ledger.metered()

    @property
    def cost(self) -> Cost:
        """Spent so far; one account for all faces of a problem."""
        return self.level.ledger.cost

    @property
    def chunk(self) -> int:
        """Samples solved at once."""
        return self.level.chunk

    @property
    def memory(self) -> Memory:
        """What the next solves start from, and write into."""
        return self.level.memory

    @memory.setter
    def memory(self, memory: Memory) -> None:
        self.level.memory = memory


class DirectedProblem(Problem):
    """A problem with directions from few samples, as single-loop algorithms need them."""

    @property
    def counts(self) -> tuple[int, int]:
        """How many samples the lower and the upper level have."""
        return self.facts.counts

    @abstractmethod
    def iterates(self, theta: Theta) -> Iterates:
        """Where single-loop algorithms begin: the last reconstructions, and v = 0.

        Raises:
            InputError: images of several sizes.
        """

    @abstractmethod
    def lipschitz(self, theta: Theta, rows: Tensor | None = None) -> Tensor:
        """L of the lower level, one value for each of the ``rows`` of the iterates, all if None.

        Raises:
            InputError: the energy declares none.
        """

    @abstractmethod
    def rows(self, draw: Draw) -> Tensor:
        """The rows of the iterates that a draw concerns."""

    @abstractmethod
    def directions(self, theta: Theta, at: Iterates, draw: Draw) -> Directions:
        """D_x, D_v and D_θ for the samples drawn, whose rows of x and v they belong to.

        Raises:
            BudgetExhausted: during ``learn``, when the budget is used up.
        """

    @abstractmethod
    def slope(self, theta: Theta, x: Tensor, draw: Draw) -> Tensor:
        """∇_xJ alone, as in :meth:`slopes`."""

    @abstractmethod
    def slopes(self, theta: Theta, x: Tensor, draw: Draw) -> Slopes:
        """First derivatives of both levels at ``x``, the rows of the draw, (b, c, h, w).

        Raises:
            BudgetExhausted: during ``learn``, when the budget is used up.
        """

    @abstractmethod
    def lower_at(self, theta: Theta, index: Tensor) -> Objective:
        """The lower level of the rows ``index`` at θ."""

    @abstractmethod
    def upper_at(self, theta: Theta, index: Tensor) -> Upper:
        """The loss of the rows ``index`` at θ, as a function of their x."""


class OwnProblem(DirectedProblem):
    """A problem that is no view of another: it has a lower level of its own."""

    def few(self) -> Tensor:
        """The first 64."""
        return self.level.rows.few()

    def reached(self, at: Evaluation) -> bool:
        """Never: with ground truth there is no such thing as too far."""
        del at
        return False

    def outward(self, theta: Theta) -> Theta:
        """θ itself."""
        return theta

    def iterates(self, theta: Theta) -> Iterates:
        """The last reconstructions, and v = 0."""
        del theta
        x = self.level.x.whole()
        return Iterates(x, torch.zeros_like(x))

    def lower_at(self, theta: Theta, index: Tensor) -> Objective:
        """The lower level of the rows ``index`` at θ."""
        return self.level.at(theta, index)


def directed(problem: Problem) -> DirectedProblem:
    """The problem, if it gives directions.

    Raises:
        InputError: it gives none.
    """
    if not isinstance(problem, DirectedProblem):
        advice = "give the whole problem, or use an algorithm that solves the lower level"
        raise InputError("directions of single samples are needed", given=problem, advice=advice)
    return problem


def smooth(objective: Objective) -> SmoothObjective:
    """The objective, if it has a gradient and second derivatives.

    Raises:
        InputError: it has none.
    """
    advice = "use Tikhonov and smoothed terms, or an algorithm that solves the lower level"
    return required(objective, SmoothObjective, "a single-loop algorithm", advice=advice)

"""Bilevel problems without ground truth."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bilevel.data import Pairs
from bilevel.differentiate import Hypergradient, Upper
from bilevel.ground import theta as algebra
from bilevel.ground.checks import check_nonnegative
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta, derivative, leaves
from bilevel.learn.criteria.criterion import Criterion, DataLoss
from bilevel.learn.directions import Directions, Draw, Iterates, Slopes
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import BilevelProblem
from bilevel.model import Variational
from bilevel.model.losses import Loss
from bilevel.model.operators import Differences, Operator
from bilevel.solve import Solver

__all__ = ["UnsupervisedProblem"]

DIFFERENCES = Differences()


class UnsupervisedProblem(BilevelProblem):
    """min_θ 1/K Σ_k criterion(A x_k(θ), y_k) with x_k(θ) = argmin_x J_θ(x; y_k): only data.

    For many parameters (maps of weights, filters) by any algorithm of ``learn``; a single weight
    for each image is quicker by ``select``. Two noisy images of the same scene need no criterion:
    ``BilevelProblem`` with the second as the target learns from them (Noise2Noise, Lehtinen et al.
    2018), since independent noise of mean zero adds a constant to the mean squared error.

    Maps of weights have as many parameters as there are data and would soon fit the noise.
    ``roughness`` adds so many times the mean of |D log w|² of every map, D its forward differences:
    neighbours then share what they learn (as in Hintermüller, Rautenberg 2017, who penalise the
    gradient of the map).

    Samples are rows of the criterion, some of which are perturbed data: ``len(problem)`` may be a
    multiple of K, and costs are counted accordingly.

    Args:
        energy: J; its parameters with ``requires_grad`` are learned, but none of the operator.
        y: data, (K, c', h', w').
        criterion: from ``bl.criteria``.
        roughness: weight of the smoothness of maps [unit of the criterion].
        ids: one an image, all different; "0", "1", ... unless given.
        solver: of the lower level; as for ``BilevelProblem`` if None.
        hypergradient: the same.
        chunk: samples solved at once; memory grows with it.
        max_steps: limit of each lower-level solve.

    Raises:
        InputError: data that do not fit the energy or the criterion, or nothing to learn.

    Example:
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> y = 0.1 * torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> problem = UnsupervisedProblem(energy, y, bl.criteria.SURE(sigma=0.1))
        >>> len(problem)  # y and one perturbation each
        8
        >>> found = problem.value_and_grad(problem.theta, tol=1e-6)
        >>> found.grad["regulariser.log_weight"] < 0  # nothing but noise: smooth more
        tensor(True)
    """

    def __init__(
        self,
        energy: Variational,
        y: Tensor,
        criterion: Criterion,
        *,
        roughness: float = 0.0,
        ids: tuple[str, ...] | None = None,
        solver: Solver[Any] | None = None,
        hypergradient: Hypergradient | None = None,
        chunk: int = 64,
        max_steps: int = 20_000,
    ) -> None:
        """Check everything before any work starts."""
        energy.check(y)
        if any(p.requires_grad for p in energy.fidelity.operator.parameters()):
            what = "a criterion of A x cannot learn A"
            raise InputError(what, advice="learn the operator from pairs with BilevelProblem")
        energy.settle(y)
        prepared = criterion.prepare(energy, y)
        names = tuple(str(k) for k in range(len(y))) if ids is None else ids
        with torch.no_grad():
            start = energy.start(prepared.y).detach()
        rows = tuple(name + copied for copied in prepared.names for name in names)
        super().__init__(
            prepared.energy,
            _Estimate(criterion),
            Pairs(prepared.y, start, rows),
            solver=solver,
            hypergradient=hypergradient,
            chunk=chunk,
            max_steps=max_steps,
        )
        self.sought, self._images = energy, len(y)
        self.criterion, self._terms = criterion, prepared.loss
        self.roughness = check_nonnegative(roughness, "the roughness")
        self._operator = energy.fidelity.operator
        self._wide = copy.deepcopy(self._operator).double()

    def reached(self, at: Evaluation) -> bool:
        """Whether the criterion says so, of all samples."""
        own = at.value - self._rough(at.theta)[0]
        return at.samples == len(self) and self.criterion.reached(own)

    def look(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None
    ) -> tuple[Evaluation, Tensor]:
        """As for pairs, the roughness in every loss."""
        found, losses = super().look(theta, tol=tol, ids=ids)
        more, _ = self._rough(theta)
        raised = replace(found, value=found.value + more, corrected=found.corrected + more)
        return raised, losses + more

    def value_and_grad(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None, estimate: bool = False
    ) -> Evaluation:
        """As for pairs, with the roughness, which is exact."""
        found = super().value_and_grad(theta, tol=tol, ids=ids, estimate=estimate)
        more, slope = self._rough(theta)
        return replace(
            found,
            value=found.value + more,
            corrected=found.corrected + more,
            grad=algebra.add(found.grad, slope),
        )

    def directions(self, theta: Theta, at: Iterates, draw: Draw) -> Directions:
        """As for pairs, with the roughness."""
        found = super().directions(theta, at, draw)
        more, slope = self._rough(theta)
        total = algebra.add(found.theta, slope)
        return replace(found, theta=total, value=found.value + more)

    def slopes(self, theta: Theta, x: Tensor, draw: Draw) -> Slopes:
        """As for pairs, with the roughness at the upper level."""
        found = super().slopes(theta, x, draw)
        more, slope = self._rough(theta)
        raised = algebra.add(found.upper_theta, slope)
        return replace(found, upper_theta=raised, value=found.value + more)

    def _rough(self, theta: Theta) -> tuple[float, Theta]:
        """The penalty of all maps, and its derivative."""
        named = leaves(theta)
        with torch.enable_grad():
            maps = [value for value in named.values() if value.ndim == 2]
            total = torch.zeros((), dtype=torch.float64)
            for value in maps if self.roughness else ():
                squares = DIFFERENCES(value[None, None]).square().sum().double()
                total = total + self.roughness * squares / value.numel()
            return float(total.detach()), derivative(total, named)

    def some(self, count: int) -> Tensor:
        """Images with all their copies: one row of the criterion means nothing by itself."""
        copies = len(self) // self._images
        chosen = torch.arange(max(1, min(self._images, count // copies)))
        return (chosen + self._images * torch.arange(copies)[:, None]).flatten()

    def upper_at(self, theta: Theta, index: Tensor) -> Upper:
        """The criterion of these samples."""
        del theta
        terms, target = self._terms.rows(index), self.pairs.target[index]
        return _DataUpper(self.loss, target, terms, self._operator, self._wide)


@dataclass(frozen=True)
class _DataUpper(Upper):
    """x -> ℓ_k(A x_k); ``target`` is no more than a start."""

    terms: DataLoss
    operator: Operator
    wide: Operator

    def check(self, x: Tensor) -> None:
        """There is no target."""

    def double(self) -> _DataUpper:
        """The same in float64."""
        target, terms = self.target.double(), self.terms.double()
        return _DataUpper(self.loss, target, terms, self.wide, self.wide)

    def rows(self, index: Tensor) -> _DataUpper:
        """Of the rows ``index`` alone."""
        return replace(self, target=self.target[index], terms=self.terms.rows(index))

    def value(self, x: Tensor) -> Tensor:
        """ℓ, (b,)."""
        return self.terms.value(self.operator(x))

    def grad(self, x: Tensor) -> Tensor:
        """Aᵀ∇ℓ."""
        return self.operator.adjoint(self.terms.grad(self.operator(x)))

    def lipschitz(self, x: Tensor, radius: Tensor) -> Tensor:
        """‖A‖² times that of ℓ."""
        square = self.operator.gram_bounds((x.shape[1], x.shape[2], x.shape[3])).upper
        return square * self.terms.lipschitz(self.operator(x), radius * square**0.5)


@dataclass(frozen=True)
class _Estimate(Loss):
    """Stands for the criterion where only its scale is asked for."""

    criterion: Criterion

    def scale(self, value: float) -> float:
        """That of the criterion."""
        return self.criterion.scale(value)

    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """Refused."""
        raise self._refusal()

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """Refused."""
        raise self._refusal()

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """Refused."""
        raise self._refusal()

    @staticmethod
    def _refusal() -> InputError:
        return InputError("a criterion without ground truth compares with no target")

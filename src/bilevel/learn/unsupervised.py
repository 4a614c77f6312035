"""Bilevel problems without ground truth."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bilevel.data import Pairs
from bilevel.data.samples import FEW
from bilevel.differentiate import Hypergradient
from bilevel.ground.checks import check_nonnegative
from bilevel.ground.errors import InputError
from bilevel.ground.theta import learnable
from bilevel.learn.criteria.criterion import Criterion, DataLoss
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.level import LowerLevel
from bilevel.learn.penalties import Penalty, Roughness
from bilevel.learn.separable import SeparableProblem
from bilevel.model import Variational
from bilevel.model.losses import Loss
from bilevel.model.operators import Operator
from bilevel.solve import Solver

__all__ = ["UnsupervisedProblem"]


class UnsupervisedProblem(SeparableProblem):
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
        penalty: what θ itself costs, from ``bl.penalties``; nothing but ``roughness`` if None.

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

    def __init__(  # noqa: PLR0913, all but three by name
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
        penalty: Penalty | None = None,
    ) -> None:
        """Check everything before any work starts."""
        energy.check(y)
        if any(p.requires_grad for p in energy.fidelity.operator.parameters()):
            what = "a criterion of A x cannot learn A"
            raise InputError(what, advice="learn the operator from pairs with BilevelProblem")
        energy.settle(y)
        prepared = criterion.prepare(energy, y)
        prepared.energy.check(prepared.y)
        names = tuple(str(k) for k in range(len(y))) if ids is None else ids
        with torch.no_grad():
            start = prepared.energy.image(prepared.energy.start(prepared.y)).detach()
        ids = tuple(name + copied for copied in prepared.names for name in names)
        samples = Pairs(prepared.y, start, ids)
        level = LowerLevel(
            prepared.energy,
            samples,
            solver=solver,
            hypergradient=hypergradient,
            chunk=chunk,
            max_steps=max_steps,
            contrast=prepared.energy.contrast(prepared.y),
        )
        operator = energy.fidelity.operator
        loss = _OfData(prepared.loss, operator, copy.deepcopy(operator).double())
        self.roughness = check_nonnegative(roughness, "the roughness")
        maps = tuple(k for k, v in learnable(energy).items() if v.shape == start.shape[2:])
        if roughness and maps:
            rough = Roughness(roughness, maps)
            penalty = rough if penalty is None else rough + penalty
        super().__init__(
            level,
            samples,
            loss,
            criterion,
            energy,
            penalty,
            {"roughness": self.roughness},
        )
        self.criterion, self.y = criterion, prepared.y
        self._images = len(y)

    def reached(self, at: Evaluation) -> bool:
        """Whether the criterion says so, of all samples."""
        own = at.value - self.price(at.theta)
        return at.samples == len(self) and self.criterion.reached(own)

    def few(self) -> Tensor:
        """Images with all their copies: one row of the criterion means nothing by itself."""
        copies = len(self) // self._images
        chosen = torch.arange(max(1, min(self._images, FEW // copies)))
        return (chosen + self._images * torch.arange(copies)[:, None]).flatten()


@dataclass(frozen=True)
class _OfData(Loss):
    """x -> ℓ_k(A x_k), one function for each row; targets are no more than where to start."""

    terms: DataLoss
    operator: Operator
    wide: Operator

    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """ℓ, (b,)."""
        del target
        return self.terms.value(self.operator(x))

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """Aᵀ∇ℓ."""
        del target
        return self.operator.adjoint(self.terms.grad(self.operator(x)))

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """‖A‖² times that of ℓ."""
        del target
        square = self.operator.gram_bounds((x.shape[1], x.shape[2], x.shape[3])).upper
        return square * self.terms.lipschitz(self.operator(x), radius * square**0.5)

    def rows(self, index: Tensor) -> _OfData:
        """Of the rows ``index`` alone."""
        return _OfData(self.terms.rows(index), self.operator, self.wide)

    def double(self) -> _OfData:
        """The same in float64."""
        return _OfData(self.terms.double(), self.wide, self.wide)

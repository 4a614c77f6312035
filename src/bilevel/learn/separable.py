"""Bilevel problems whose samples have an x of their own; among them the one with ground truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bilevel.data.samples import Batch, Samples, check_samples
from bilevel.data.stores import Store
from bilevel.differentiate import Hypergradient, Upper
from bilevel.ground import theta as algebra
from bilevel.ground.checks import check_matching
from bilevel.ground.contrast import contrast, spread
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta, bind, learnable
from bilevel.learn.directions import Directions, Draw, Iterates, Slopes
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.identity import Identity, facts, nearby
from bilevel.learn.level import LowerLevel
from bilevel.learn.problem import Facts, OwnProblem, smooth
from bilevel.model import Energy, space_of
from bilevel.model.losses import Loss, Scale
from bilevel.solve import Solver

__all__ = ["BilevelProblem", "Penalty", "SeparableProblem"]

Penalty = Callable[[Theta], tuple[float, Theta]]
"""A term of the upper level in θ alone, exact: its value and its derivative."""


class SeparableProblem(OwnProblem):
    """min_θ 1/K Σ_k ℓ_k(x_k(θ)) + penalty(θ) with x_k(θ) = argmin_x J_θ(x; y_k).

    Args:
        level: solves the K rows.
        samples: the same rows, with targets that say how large images are.
        losses: the ℓ_k of all rows.
        loss: what their values mean.
        sought: what θ is learned for.
        penalty: none unless given.
        about: what else makes it another problem than others, by name.
    """

    def __init__(
        self,
        level: LowerLevel,
        samples: Samples,
        losses: Loss,
        loss: Scale,
        sought: Energy,
        penalty: Penalty | None = None,
        about: Mapping[str, object] | None = None,
    ) -> None:
        theta, count = learnable(level.energy), len(samples)
        if not theta:
            advice = "e.g. TotalVariation(..., learn=('weight',))"
            raise InputError("the energy has no learnable parameter", advice=advice)
        space = space_of(level.energy)
        counts = count, count
        super().__init__(Facts(level, theta, space, loss, sought, counts, separable=True))
        self.energy, self.samples, self.ids = level.energy, samples, samples.ids
        self._losses, self._penalty, self._about = losses, penalty, dict(about or {})

    def __len__(self) -> int:
        """Number of samples K."""
        return len(self.ids)

    def look(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None
    ) -> tuple[Evaluation, Tensor]:
        """As ``value_and_grad`` without a gradient, and the loss of every sample, (K,)."""
        found, losses = self.level.look(theta, self.upper_at, tol, ids)
        if self._penalty is None:
            return found, losses
        more, _ = self._penalty(theta)
        raised = replace(found, value=found.value + more, corrected=found.corrected + more)
        return raised, losses + more

    def value_and_grad(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None, estimate: bool = False
    ) -> Evaluation:
        """Loss and hypergradient, with errors; see :class:`~bilevel.learn.problem.Problem`."""
        found = self.level.value_and_grad(theta, self.upper_at, tol, ids, estimate)
        if self._penalty is None:
            return found
        more, slope = self._penalty(theta)
        return replace(
            found,
            value=found.value + more,
            corrected=found.corrected + more,
            grad=algebra.add(found.grad, slope),
        )

    def gauss_newton(
        self, theta: Theta, *, tol: float, rtol: float = 1e-6, ids: Tensor | None = None
    ) -> Tensor:
        """Mean of Sᵀ ∇²ℓ S over the samples, (p, p) float64; without the penalty."""
        return self.level.gauss_newton(theta, self.upper_at, tol, rtol, ids)

    def first_accuracy(self, theta: Theta, fraction: float = 0.02) -> float:
        """``fraction`` of the certificate at the start [grey value], on the first 64 samples."""
        shown = [b.target.double() for b in self.samples.batches(self.samples.few(), self.chunk)]
        size = 2 * float(torch.cat([spread(t) for t in shown]).mean())
        if not size:
            size = float(torch.cat([t.square().flatten(1).mean(1) for t in shown]).mean().sqrt())
        return self.level.first_accuracy(theta, fraction, size)

    def identity(self, theta: Theta) -> Identity:
        """By energy, loss, sets and samples, and both levels at the first sample."""
        with torch.no_grad():
            energy, y = bind(self.energy, theta), self.level.first
            x = nearby(energy.start(y))
            lower = float(energy.forward(x, y))
            first = torch.tensor([0], device=x.device)
            upper = float(self.upper_at(theta, first).value(x))
        parts = {"loss": self.loss, "sets": self.space.sets, **self._about}
        found = facts(bind(self.sought, theta), "energy")
        for name, value in parts.items():
            found |= facts(value, name)
        return Identity(found, self.samples.fingerprint, lower, upper)

    def lipschitz(self, theta: Theta, rows: Tensor | None = None) -> Tensor:
        """L of the lower level, one value a row.

        Raises:
            InputError: the energy declares none.
        """
        bounds = self.level.at(theta, rows).bounds
        if not bounds.smooth:
            advice = "use an algorithm that solves the lower level, e.g. MAID"
            raise InputError("single-loop algorithms need a Lipschitz constant", advice=advice)
        return bounds.lipschitz

    def rows(self, draw: Draw) -> Tensor:
        """Those of the samples drawn."""
        return draw.inner

    def directions(self, theta: Theta, at: Iterates, draw: Draw) -> Directions:
        """D_x, D_v and D_θ for the samples drawn, exact but for the mean."""
        with self.metered():
            rows, upper = draw.inner, self.upper_at(theta, draw.inner)
            x, v = at.x[rows], at.v[rows]
            slope, bent, cross = smooth(self.level.at(theta, rows)).tangent(x, v)
            mean = {name: value / len(rows) for name, value in cross.items()}
            value = float(upper.value(x).double().mean())
            if self._penalty is not None:
                more, steep = self._penalty(theta)
                mean, value = algebra.add(mean, steep), value + more
            return Directions(slope, bent + upper.grad(x), mean, value, rows)

    def slope(self, theta: Theta, x: Tensor, draw: Draw) -> Tensor:
        """∇_xJ alone, as in :meth:`slopes`."""
        with self.metered():
            return smooth(self.level.at(theta, draw.inner)).grad(x)

    def slopes(self, theta: Theta, x: Tensor, draw: Draw) -> Slopes:
        """First derivatives of both levels at ``x``, the rows of the draw, (b, c, h, w)."""
        with self.metered():
            upper = self.upper_at(theta, draw.inner)
            objective = smooth(self.level.at(theta, draw.inner))
            cross = objective.theta_grad(x, torch.full_like(x[:, 0, 0, 0], 1 / len(x)))[1]
            direct = {name: torch.zeros_like(value) for name, value in theta.items()}
            value = float(upper.value(x).double().mean())
            if self._penalty is not None:
                more, direct = self._penalty(theta)
                value = value + more
            return Slopes(objective.grad(x), cross, upper.grad(x), direct, value)

    def upper_at(self, theta: Theta, index: Tensor) -> Upper:
        """The loss of the samples ``index``, as a function of their x."""
        del theta
        return Upper(self._losses.rows(index), self.samples.checked(index).target)


class BilevelProblem(SeparableProblem):
    """min_θ 1/K Σ_k ℓ(x_k(θ), target_k) with x_k(θ) = argmin_x J_θ(x; y_k).

    Reconstructions and adjoints are kept by sample and start the next solve; every gradient,
    HVP, operator application and second is counted in ``cost``.

    Args:
        energy: J; its parameters with ``requires_grad`` are learned.
        loss: ℓ.
        samples: data and targets: ``Pairs``, or samples that are made when they are needed; their
            images may differ in size where the energy takes them all.
        solver: of the lower level; Nesterov, FISTA or PDHG, whichever fits, if None.
        hypergradient: the one that fits if None, implicit with CG unless there are dual terms.
        chunk: samples solved at once; memory grows with it.
        max_steps: limit of each lower-level solve.
        store: where reconstructions and adjoints are kept; in memory if None.

    Raises:
        InputError: samples that do not fit the energy, or nothing to learn.

    Example:
        >>> import bilevel as bl
        >>> pairs = bl.data.Pairs(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), ("one",))
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        >>> round(problem.value_and_grad(problem.theta, tol=1e-6).value, 4)
        0.25
    """

    def __init__(
        self,
        energy: Energy,
        loss: Loss,
        samples: Samples,
        *,
        solver: Solver[Any] | None = None,
        hypergradient: Hypergradient | None = None,
        chunk: int = 64,
        max_steps: int = 20_000,
        store: Store | None = None,
    ) -> None:
        """Check everything before any work starts."""
        check_samples(samples, "samples")
        shown = list(samples.batches(samples.shown(), len(samples)))
        targets = [batch.target for batch in shown]
        grey = contrast(*targets)
        for batch in shown:
            _check(energy, batch, grey)
        level = LowerLevel(
            energy,
            samples,
            solver=solver,
            hypergradient=hypergradient,
            chunk=chunk,
            max_steps=max_steps,
            contrast=grey,
            store=store,
        )
        fitted = loss.fitted(targets[0] if len(targets) == 1 else _side_by_side(targets))
        super().__init__(level, samples, fitted, fitted, energy)
        self.loss: Loss = fitted


def _check(energy: Energy, batch: Batch, grey: float) -> None:
    """Whether samples of one size fit the energy; what is left to the data is settled."""
    energy.check(batch.y)
    energy.settle(batch.y, grey)
    check_matching(batch.target, "target", batch.y, "y")
    expected = energy.image(energy.at(batch.y[:1]).start()).shape[1:]
    if batch.target.shape[1:] != expected:
        given = tuple(batch.target.shape[1:])
        raise InputError(f"targets must have shape (c, h, w) = {tuple(expected)}", given=given)


def _side_by_side(images: list[Tensor]) -> Tensor:
    """Images of several sizes as one line, for what only their values decide."""
    return torch.cat([x.flatten() for x in images]).view(1, 1, 1, -1)

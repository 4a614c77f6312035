"""Bilevel problems whose samples have an x of their own; among them the one with ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bilevel.data.samples import Batch, Samples, check_samples
from bilevel.data.stores import Store
from bilevel.differentiate import Hypergradient, Upper
from bilevel.ground import theta as algebra
from bilevel.ground.checks import check_kind, check_matching
from bilevel.ground.contrast import contrast, spread
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta, bind, learnable
from bilevel.learn.directions import Directions, Draw, Iterates, Slopes
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.identity import Identity, facts, nearby
from bilevel.learn.level import LowerLevel
from bilevel.learn.penalties import Penalty
from bilevel.learn.problem import Facts, OwnProblem, smooth
from bilevel.model import Energy, space_of
from bilevel.model.losses import Loss, Scale
from bilevel.model.losses.loss import check_loss
from bilevel.solve import Solver

__all__ = ["BilevelProblem", "SeparableProblem"]


class SeparableProblem(OwnProblem):
    """min_θ 1/K Σ_k ℓ_k(x_k(θ)) + penalty(θ) with x_k(θ) = argmin_x J_θ(x; y_k).

    Args:
        level: solves the K rows.
        samples: the same rows, with targets that say how large images are.
        losses: the ℓ_k of all rows.
        loss: what their values mean.
        sought: what θ is learned for.
        penalty: of θ alone; none unless given.
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
        self.penalty = None if penalty is None else penalty.fitted(theta)
        self._losses, self._about = losses, dict(about or {})
        with torch.no_grad():
            start = self.energy.start(level.first)
        self._channels = self.energy.image(start).shape[1]

    def __len__(self) -> int:
        """Number of samples K."""
        return len(self.ids)

    def look(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None
    ) -> tuple[Evaluation, Tensor]:
        """As ``value_and_grad`` without a gradient, and the loss of every sample, (K,)."""
        found, losses = self.level.look(theta, self.upper_at, tol, ids)
        more = self.price(theta)
        raised = replace(found, value=found.value + more, corrected=found.corrected + more)
        return raised, losses + more

    def value_and_grad(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None, estimate: bool = False
    ) -> Evaluation:
        """Loss and hypergradient, with errors; see :class:`~bilevel.learn.problem.Problem`."""
        found = self.level.value_and_grad(theta, self.upper_at, tol, ids, estimate)
        more, slope = self._priced(theta)
        return replace(
            found,
            value=found.value + more,
            corrected=found.corrected + more,
            grad=self.space.tangent(algebra.add(found.grad, slope)),
        )

    def gauss_newton(
        self, theta: Theta, *, tol: float, rtol: float = 1e-6, ids: Tensor | None = None
    ) -> Tensor:
        """Mean of Sᵀ ∇²ℓ S over the samples, (p, p) float64, and the Hessian of the penalty."""
        found = self.level.gauss_newton(theta, self.upper_at, tol, rtol, ids)
        return found if self.penalty is None else found + self.penalty.hessian(theta).to(found)

    def price(self, theta: Theta) -> float:
        """The penalty."""
        return 0.0 if self.penalty is None else self.penalty.value(theta)

    def _priced(self, theta: Theta) -> tuple[float, Theta]:
        """The penalty and its derivative: added once to every mean, whatever it is taken over."""
        if self.penalty is None:
            return 0.0, {name: torch.zeros_like(value) for name, value in theta.items()}
        return self.penalty.value_and_grad(theta)

    def first_accuracy(self, theta: Theta, fraction: float = 0.02) -> float:
        """``fraction`` of the certificate at the start [grey value], on the first 64 samples."""
        batches = self.samples.batches(self.samples.few(), self.chunk)
        found = (self._losses.images(batch.target) for batch in batches)
        shown = [images.double() for images in found if images is not None]
        if not shown:
            return self.level.first_accuracy(theta, fraction, 0.0)
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
        priced = {} if self.penalty is None else {"penalty": self.penalty}
        parts = {"loss": self.loss, "sets": self.space.sets, **priced, **self._about}
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
            more, steep = self._priced(theta)
            mean = self.space.tangent(algebra.add(mean, steep))
            value = float(upper.value(x).double().mean()) + more
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
            more, direct = self._priced(theta)
            cross, direct = self.space.tangent(cross), self.space.tangent(direct)
            value = float(upper.value(x).double().mean()) + more
            return Slopes(objective.grad(x), cross, upper.grad(x), direct, value)

    def upper_at(self, theta: Theta, index: Tensor) -> Upper:
        """The loss of the samples ``index``, as a function of their x."""
        del theta
        target = self.samples.checked(index).target
        return Upper(self._losses.rows(index), target, self._channels)


class BilevelProblem(SeparableProblem):
    """min_θ 1/K Σ_k ℓ(x_k(θ), target_k) + penalty(θ) with x_k(θ) = argmin_x J_θ(x; y_k).

    Reconstructions and adjoints are kept by sample and start the next solve; every gradient,
    HVP, operator application and second is counted in ``cost``.

    Args:
        energy: J; its parameters with ``requires_grad`` are learned.
        loss: ℓ.
        samples: data and targets: ``Pairs``, or samples that are made when they are needed; their
            images may differ in size where the energy takes them all. Targets are images, unless
            the loss takes others.
        solver: of the lower level; Nesterov, L-BFGS, FISTA or PDHG, whichever fits, if None.
        hypergradient: the one that fits if None, implicit with CG unless there are dual terms.
        chunk: samples solved at once; memory grows with it.
        max_steps: limit of each lower-level solve.
        store: where reconstructions and adjoints are kept; in memory if None.
        penalty: what θ itself costs, from ``bl.penalties``; nothing if None.

    Raises:
        InputError: samples that do not fit the energy or the loss, a penalty of what is not
            learned, or nothing to learn.

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
        penalty: Penalty | None = None,
    ) -> None:
        """Check everything before any work starts."""
        check_kind(energy, Energy, "the energy", "e.g. bl.Variational(fidelity, regulariser)")
        check_samples(samples, "samples")
        check_loss(loss)
        if penalty is not None:
            check_kind(penalty, Penalty, "the penalty", "take one of bl.penalties")
        shown = list(samples.batches(samples.shown(), len(samples)))
        targets = [batch.target for batch in shown]
        images = [loss.images(target) for target in targets]
        known = [image for image in images if image is not None]
        grey = contrast(*known) if known else None
        for batch in shown:
            _check(energy, batch, grey, loss)
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
        super().__init__(level, samples, fitted, fitted, energy, penalty)
        self.loss: Loss = fitted


def _check(energy: Energy, batch: Batch, grey: float | None, loss: Loss) -> None:
    """Whether samples of one size fit energy and loss; what is left to the data is settled."""
    energy.check(batch.y)
    energy.settle(batch.y, grey)
    check_matching(batch.target, "target", batch.y, "y")
    loss.try_on(energy.image(energy.at(batch.y[:1]).start()), batch.target)


def _side_by_side(images: list[Tensor]) -> Tensor:
    """Images of several sizes as one line of pixels, for what only their values decide."""
    return torch.cat([x.transpose(0, 1).flatten(1) for x in images], 1)[None, :, None]

"""How a reconstruction answers to forces: its derivatives, on the piece of J that it lies on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.differentiate.saddle_adjoint import dual_of
from bilevel.ground import rows
from bilevel.linear import LinearMap, minres, symmetric
from bilevel.model import CompositeObjective, SaddleObjective, SmoothObjective
from bilevel.model.kinds import by_kind
from bilevel.model.linearised import LinearisedSaddle, linearise
from bilevel.model.objective import Curved, Objective
from bilevel.solve import Solution

__all__ = ["Moves", "moves_of"]


class Moves(ABC):
    """Where x goes as J is tilted: argmin J - ⟨f, ·⟩ = x + solve(f) + o(f).

    What sits on a kink stays there: pixels that a box or an absolute value holds, and features of
    exact total variation that are flat. The rest moves as the Hessian there lets it (the implicit
    function theorem; Vaiter, Deledalle, Fadili, Peyré and Dossal 2017, arXiv 1405.1004).
    """

    @abstractmethod
    def solve(self, force: Tensor, *, rtol: float, start: Tensor | None = None) -> Tensor:
        """The move that the force f makes, to a relative residual; rows as in :meth:`rows`."""

    @abstractmethod
    def kinked(self) -> Tensor:
        """The derivative of all terms without a gradient, where they have one; 0 where held."""

    @abstractmethod
    def correction(self) -> Tensor:
        """What a better x is away from this one: x - correction is nearer to the minimiser."""

    @abstractmethod
    def rows(self, index: Tensor) -> Moves:
        """Of the rows ``index``, which may come several times."""


def moves_of(objective: Objective, solution: Solution, rtol: float) -> Moves:
    """At a solution, which carries the dual variables of saddle problems.

    Args:
        objective: what was minimised.
        solution: with the state of PDHG if it has dual terms.
        rtol: relative residual of the system for the correction.
    """
    x = solution.x

    def smooth(j: SmoothObjective) -> Moves:
        return _Curved(j.hessian(x), torch.ones_like(x, dtype=torch.bool), 0 * x, j, x, rtol)

    def composite(j: CompositeObjective) -> Moves:
        return _Curved(j.hessian(x), *j.proximable.pieces(x), j, x, rtol)

    def saddle(j: SaddleObjective) -> Moves:
        distance = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        return _Saddle(linearise(j, x, dual_of(solution, "a derivative"), distance))

    return by_kind(objective, smooth=smooth, composite=composite, saddle=saddle)


@dataclass(frozen=True)
class _Curved(Moves):
    """H⁻¹ f of the pixels that are free."""

    hessian: LinearMap
    free: Tensor
    tilt: Tensor
    objective: Curved
    x: Tensor
    rtol: float

    def solve(self, force: Tensor, *, rtol: float, start: Tensor | None = None) -> Tensor:
        held = torch.where(self.free, force, 0.0)
        return symmetric(self.hessian, held, rtol=rtol, x0=start).x

    def kinked(self) -> Tensor:
        return self.tilt

    def correction(self) -> Tensor:
        """A Newton step in the free pixels, not out of the box."""
        step = self.solve(self.objective.subgradient(self.x), rtol=self.rtol)
        return torch.where(self.free, step, 0.0)

    def rows(self, index: Tensor) -> Moves:
        parts = (self.hessian.rows(index), self.free[index], self.tilt[index])
        return _Curved(*parts, self.objective.rows(index), self.x[index], self.rtol)


@dataclass(frozen=True)
class _Saddle(Moves):
    """The symmetric system of the optimality conditions, its kinks held, by MINRES."""

    at: LinearisedSaddle

    def solve(self, force: Tensor, *, rtol: float, start: Tensor | None = None) -> Tensor:
        del start  # the dual variables that would belong to it are not known
        nothing = tuple(torch.zeros_like(part) for part in self.at.p)
        found = minres(self.at.system, self.at.pack(self.at.free * force, nothing), rtol=rtol)
        return self.at.unpack(found.x)[0]

    def kinked(self) -> Tensor:
        j, faces = self.at.objective, self.at.faces
        pulls = tuple(
            face.spread(term.weight.expand_as(face.slack)) * face.normal
            for term, face in zip(j.terms, faces, strict=True)
        )
        _, slope = j.proximable.pieces(self.at.x)
        return self.at.free * (j.adjoint(pulls) + slope)

    def correction(self) -> Tensor:
        """To the primal point of the dual variables, where f is mu/2 ‖· - a‖²; 0 elsewhere."""
        j, x = self.at.objective, self.at.x
        mu, lipschitz = j.bounds.proved_mu(), j.bounds.lipschitz
        known = (mu > 0) & (lipschitz <= (1 + 1e-9) * mu)
        if not bool(known.any()):
            return torch.zeros_like(x)
        p = tuple(term.feasible(part) for term, part in zip(j.terms, self.at.p, strict=True))
        step = x - j.primal(x, p)
        return torch.where(rows.expand(known, x), step, 0.0)

    def rows(self, index: Tensor) -> Moves:
        return _Saddle(self.at.rows(index))

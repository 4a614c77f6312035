"""A saddle problem at its solution (x, p): what stays flat, what jumps, and the KKT system."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.group_norm import GroupNorm
from bilevel.model.saddle import Dual, SaddleObjective

__all__ = ["Faces", "LinearisedSaddle", "linearise"]

_FLOOR = 16.0


@dataclass(frozen=True)
class Faces:
    """Where the features (A x - c)_i of one term lie: at the kink of |·|, or on one side of it.

    ``normal`` is t/|t| of those that jump and 0 of those that are flat; ``slack`` is |t|/w, or 0.
    """

    group: int
    normal: Tensor
    slack: Tensor

    def tangential(self, a: Tensor) -> Tensor:
        """Without the part along the normals: what the dual variable can move by."""
        outwards = self.normal * self.spread(self.along(a))
        return a - outwards

    def along(self, a: Tensor) -> Tensor:
        """⟨n_i, a_i⟩, one number a feature."""
        return torch.stack((self.normal * a).chunk(self.group, dim=1)).sum(0)

    def spread(self, a: Tensor) -> Tensor:
        """One number a feature, for every channel of it."""
        return a.repeat(1, self.group, 1, 1)


@dataclass(frozen=True)
class LinearisedSaddle:
    """The KKT system of J = f + h + Σ_j F_j(A_j x) at (x, p), its sets of kinks held fixed.

    Pixels at a kink of h are not ``free``. With M the free pixels, T_j the tangential part and
    D_j = |t|/w, the adjoint (X, Y) of a slope g satisfies X = M X, Y_j = T_j Y_j and

        M (H X + Σ_j A_jᵀY_j) = M g,   T_j A_j X - D_j Y_j = 0,

    symmetric, indefinite, and singular where dual variables are not unique. ``scales`` makes the
    unknowns Y_j / scales_j, so that all blocks are of one size. ``doubtful`` (b,) counts the
    features and pixels that rounding or the distance given may have put on the wrong side.
    """

    objective: SaddleObjective
    x: Tensor
    p: Dual
    hessian: LinearMap
    free: Tensor
    faces: tuple[Faces, ...]
    scales: Dual
    doubtful: Tensor

    def rows(self, index: Tensor) -> LinearisedSaddle:
        """The rows ``index`` alone."""
        x, p, free, faces, scales, doubtful = rows.take(
            (self.x, self.p, self.free, self.faces, self.scales, self.doubtful), index
        )
        objective, hessian = self.objective.rows(index), self.hessian.rows(index)
        return LinearisedSaddle(objective, x, p, hessian, free, faces, scales, doubtful)

    def pack(self, image: Tensor, dual: Dual) -> Tensor:
        """(X, Y) -> (b, n), scaled."""
        parts = [y / s for y, s in zip(dual, self.scales, strict=True)]
        return torch.cat([image.flatten(1), *(part.flatten(1) for part in parts)], 1)

    def unpack(self, packed: Tensor) -> tuple[Tensor, Dual]:
        """The inverse of :meth:`pack`, tangential and free."""
        sizes = [self.x[0].numel(), *(p[0].numel() for p in self.p)]
        first, *rest = torch.split(packed, sizes, dim=1)
        dual = tuple(
            face.tangential(scale * part.view_as(p))
            for face, scale, part, p in zip(self.faces, self.scales, rest, self.p, strict=True)
        )
        return self.free * first.view_as(self.x), dual

    @property
    def system(self) -> LinearMap:
        """The symmetric map of packed unknowns; one HVP an application."""
        return LinearMap(self._apply, lambda index: self.rows(index).system)

    def _apply(self, packed: Tensor) -> Tensor:
        image, dual = self.unpack(packed)
        pull = self.free * (self.hessian(image) + self.objective.adjoint(dual))
        misses = tuple(
            scale * (face.tangential(a) - face.spread(face.slack) * y)
            for face, scale, a, y in zip(
                self.faces, self.scales, self.objective.analyse(image), dual, strict=True
            )
        )
        return torch.cat([pull.flatten(1), *(miss.flatten(1) for miss in misses)], 1)

    def pairing(self, moving: SaddleObjective, slope: Tensor, image: Tensor, dual: Dual) -> Tensor:
        """A number whose derivative by θ, and by y, is that of Σ_k ⟨slope_k, x̂_k⟩.

        ``moving`` is the objective with that θ and y on a tape, (``image``, ``dual``) the adjoint.
        """
        x = self.x.detach()
        pull = moving.smooth.grad(x) + moving.adjoint(self.p)
        with torch.no_grad():
            images = self.objective.analyse(image)
            rest = slope - self.hessian(image) - self.objective.adjoint(dual)
        total = -(image * pull).sum()
        for term, face, a, y in zip(moving.terms, self.faces, images, dual, strict=True):
            total = total - (term.weight * face.along(a)).sum()
            total = total - (y * term.residual(term.forward(x))).sum()
        distance = moving.proximable.distance
        if distance is not None:
            far = x - distance.centre.detach()
            total = total - (image * distance.weight * far.sign()).sum()
            held = ~self.free & (far == 0)
            total = total + (torch.where(held, rest, 0.0) * distance.centre).sum()
        return total


def linearise(objective: SaddleObjective, x: Tensor, p: Dual, distance: Tensor) -> LinearisedSaddle:
    """At (x, p), where x is thought to lie within ``distance`` (b,) of the minimiser.

    A feature jumps where p + σ t leaves the ball of its weight, σ the largest weight over the
    largest |t| of x or of the start; its dual variable is then on the boundary, along t.

    Raises:
        InputError: terms that are no norms, but powers of them.
    """
    if not all(term.homogeneous for term in objective.terms):
        advice = "learn regularisers.DirectionalTV, which is smooth"
        raise InputError(
            "hypergradients of exact powers of a gradient are not known", advice=advice
        )
    with torch.no_grad():
        hessian = objective.smooth.hessian(x)
        free, doubtful = _free(objective, x, p, distance)
        curvature = objective.bounds.lipschitz
        curvature = torch.where(curvature > 0, curvature, 1.0)
        faces: list[Faces] = []
        scales: list[Tensor] = []
        first, last = objective.analyse(objective.start()), objective.analyse(x)
        for term, before, image, part, norm in zip(
            objective.terms, first, last, p, objective.norms(x), strict=True
        ):
            t = term.residual(image)
            most = torch.maximum(_largest(term, t), _largest(term, term.residual(before)))
            sigma = torch.where(most > 0, term.largest(x).to(x) / most, 1.0)
            face, unsure = _faces(term, t, part, sigma, norm * distance)
            faces.append(face)
            doubtful = doubtful + unsure
            balance = rows.expand((curvature / norm**2).to(x), x)
            scales.append(norm * balance * (1 + balance * face.spread(face.slack)).rsqrt())
        return LinearisedSaddle(
            objective, x, p, hessian, free, tuple(faces), tuple(scales), doubtful
        )


def _largest(term: GroupNorm, t: Tensor) -> Tensor:
    return term.sizes(t).flatten(1).amax(1)


def _faces(
    term: GroupNorm, t: Tensor, p: Tensor, sigma: Tensor, reach: Tensor
) -> tuple[Faces, Tensor]:
    """The faces, and how many features (b,) an error of t by ``reach`` (b,) leaves undecided."""
    sizes = term.sizes(t)
    wide = rows.expand(sigma, t)
    excess = term.sizes(p + wide * t) - term.weight
    margin = wide * rows.expand(reach.to(t), t) + _FLOOR * torch.finfo(t.dtype).eps * term.weight
    jumps = (excess > 0) & (sizes > 0)
    whole = Faces(term.parts(t), t, sizes)
    unit = t / whole.spread(torch.where(jumps, sizes, 1.0))
    normal = torch.where(whole.spread(jumps), unit, 0.0)
    slack = torch.where(jumps, sizes / term.weight, 0.0)
    unsure = (excess.abs() <= margin).flatten(1).sum(1, dtype=torch.float64)
    return Faces(term.parts(t), normal, slack), unsure


def _free(
    objective: SaddleObjective, x: Tensor, p: Dual, distance: Tensor
) -> tuple[Tensor, Tensor]:
    """Pixels away from the kinks of h, and how many (b,) an error of ``distance`` could move."""
    proximable = objective.proximable
    if not proximable.boxed and proximable.distance is None:
        return torch.ones_like(x, dtype=torch.bool), torch.zeros_like(distance)
    pull = objective.smooth.grad(x) + objective.adjoint(p)
    distances = [x - end for end in proximable.ends(x)]
    hold = torch.full_like(x, -torch.inf)
    if proximable.distance is not None:
        far, weight = x - proximable.distance.centre, proximable.distance.weight
        hold = torch.where(far == 0, weight - pull.abs(), hold)
        pull = pull + weight * far.sign()
        distances.append(far)
    for far, inwards in zip(distances[:2], (pull, -pull), strict=True):
        hold = torch.where(far == 0, torch.maximum(hold, inwards), hold)
    nearest = torch.stack(distances).abs().amin(0)
    free = nearest > 0
    reach = rows.expand(distance.to(x), x)
    stiffness = rows.expand(objective.bounds.lipschitz.to(x), x)
    close = torch.where(free, nearest <= reach, hold <= stiffness * reach)
    return free, close.flatten(1).sum(1, dtype=torch.float64)

"""How accurate a point is: which accuracy is asked for, and what is proved."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from enum import IntEnum

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.model.bounds import Reach
from bilevel.model.kinds import by_kind
from bilevel.model.objective import Curved, Objective
from bilevel.model.saddle import Dual, Gap, SaddleObjective

__all__ = ["Certificate", "Claim", "Tolerance", "certify"]

ROOM = 32.0  # eps that the norm of a computed gradient may be off, relative to itself
NEAR_FLOOR = 8.0  # gaps of so many allowances for rounding are looked at again in float64


@dataclass(frozen=True)
class Tolerance:
    """Which accuracy is asked for; every finite field must hold for every row.

    Raises:
        InputError: a field that is not positive, or none that is finite.

    Example:
        >>> Tolerance(rms=1e-3)
        Tolerance(rms=0.001, gap=inf, residual=inf)
    """

    rms: float = math.inf
    """√mean((x - x̂)²) [grey value]; means the same at any image size."""
    gap: float = math.inf
    """J(x) - min J."""
    residual: float = math.inf
    """√mean(∇J(x)²), the allowance for rounding included; proves stationarity only."""

    def __post_init__(self) -> None:
        """Refuse what cannot be met or asks for nothing."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            if not value > 0:
                raise InputError(f"tolerance {name} must be positive", given=value)
        if not any(map(math.isfinite, values.values())):
            raise InputError("a tolerance needs a finite field", advice="e.g. Tolerance(rms=1e-3)")


class Claim(IntEnum):
    """What the distance of a certificate is proved to be the distance to."""

    STATIONARY = 0
    CRITICAL = 1
    LOCAL = 2
    GLOBAL = 3
    IMAGE = 4

    @property
    def words(self) -> str:
        """For reports."""
        return {
            Claim.STATIONARY: "a small gradient is proved, no distance",
            Claim.CRITICAL: "exactly one critical point lies within the distance given",
            Claim.LOCAL: "exactly one critical point, a strict local minimiser, lies within it",
            Claim.GLOBAL: "the only minimiser lies within the distance given",
            Claim.IMAGE: "the only minimising image lies within it, not so the further channels",
        }[self]


@dataclass(frozen=True)
class Certificate:
    """Proved bounds at the returned point, one a row in float64; inf means not proved.

    ``rms`` is the distance to the point that ``claim`` names (integers, :class:`Claim`), of the
    whole state or of its image alone, over the root of the image's size, and ``gap`` the distance
    of J to its minimum; ``residual`` is the rms of ∇J. All include an allowance for
    rounding, so they do not fall below the floating-point floor: eps · L · |x|, over mu for the
    distance. ``allowance`` is its part of the residual; inf where the energy declares no Lipschitz
    constant, and then the residual is as computed, in float64 where it counts. ``floor`` is the
    same in the type of x, for what a solver can reach. ``gradient`` is ∇J there, ``curvature`` a
    lower bound of all |eigenvalues| of ∇²J at the point named, 0 where not proved.
    """

    rms: Tensor
    gap: Tensor
    residual: Tensor
    allowance: Tensor
    floor: Tensor
    gradient: Tensor
    claim: Tensor
    curvature: Tensor

    def meets(self, tol: Tolerance) -> Tensor:
        """Which rows meet the tolerance, (b,) bool; NaN does not."""
        return (self.rms <= tol.rms) & (self.gap <= tol.gap) & (self.residual <= tol.residual)

    def distance(self, image: Tensor) -> Tensor:
        """‖x - x̂‖ of the whole state, (b,), for images like ``image``; inf where not proved."""
        found = self.distance_of_image(image)
        return torch.where(self.claim == Claim.IMAGE, torch.inf, found)

    def distance_of_image(self, image: Tensor) -> Tensor:
        """The same of the image alone."""
        return self.rms * (image[0].numel() ** 0.5 * (1 + 1e-15))

    @property
    def computed(self) -> Tensor:
        """The residual without its allowance, (b,)."""
        return torch.where(self.allowance.isfinite(), self.residual - self.allowance, self.residual)

    def at_floor(self) -> Tensor:
        """Which rows have a gradient that rounding could have made, (b,) bool."""
        return self.floor.isfinite() & (self.computed <= self.floor)


def certify(
    objective: Objective,
    x: Tensor,
    tol: Tolerance | None = None,
    gradient: Tensor | None = None,
    dual: Dual | None = None,
) -> Certificate:
    """What ∇J(x) proves; it costs one gradient unless ``gradient`` hands it on.

    For mu-strongly convex J: ‖x - x̂‖ <= ‖∇J(x)‖/mu and J(x) - min J <= ‖∇J(x)‖²/(2 mu)
    (Nesterov 2004, Theorem 2.1.10); where no mu > 0 is proved, both are inf. A composite
    J = f + h has the subgradient of least norm in the place of ∇J(x).

    A saddle objective takes its gap for the ``dual`` given: J(x) - min J <= gap and
    ‖x - x̂‖² <= 2 gap/mu. Its residual is ‖s‖ + √ε for an ε-subgradient s: within √ε of x there
    is a point with a subgradient of at most that norm (Brøndsted and Rockafellar 1965).

    A state (u, ω) wider than its image u, with mu = 0, may have an image that is certified: where
    J - mu/2 ‖u‖² is convex, s an ε-subgradient, and ⟨s_ω, ω - ω'⟩ <= M (R + G d) for some best
    ω' at every image within d (:class:`~bilevel.model.bounds.Reach`), d = ‖u - û‖ obeys

        J(x) - min J <= A d - mu/2 d² + M R + ε,   A = ‖s_u‖ + M G,   mu/2 d² <= J(x) - min J,

    so that d <= (A + √(A² + 4 mu (M R + ε)))/(2 mu), J(x) - min J <= A²/(2 mu) + M R + ε. Of ω
    nothing is then proved.

    Where ``tol`` is missed in float32 by the allowance for rounding alone, that row is evaluated
    again in float64.
    """

    def from_gradient(curved: Curved) -> Certificate:
        return _from_slope(curved, x, tol, curved.subgradient(x) if gradient is None else gradient)

    def from_gap(saddle: SaddleObjective) -> Certificate:
        return _second_look(saddle, x, tol, saddle.dual(x) if dual is None else dual)

    with torch.no_grad():  # numbers, also of an operator that is learned
        return by_kind(objective, smooth=from_gradient, composite=from_gradient, saddle=from_gap)


def _from_slope(
    objective: Curved, x: Tensor, tol: Tolerance | None, gradient: Tensor
) -> Certificate:
    norm = rows.length(gradient)
    allowance = objective.rounding(x) + ROOM * torch.finfo(x.dtype).eps * norm
    of_image = _image_proof(objective, x, gradient)
    found = _from_gradient(objective, gradient, norm, allowance, of_image)
    if tol is None or x.dtype == torch.float64:
        return found
    exact = torch.zeros_like(allowance)
    hopeful = _from_gradient(objective, gradient, norm, exact, of_image).meets(tol)
    met = found.meets(tol)
    unsure = torch.nonzero(torch.where(allowance.isfinite(), hopeful & ~met, met)).flatten()
    if len(unsure):
        double, point = objective.double().rows(unsure), x[unsure].double()
        _refine(found, unsure, certify(double, point), x)
    return found


def _refine(found: Certificate, index: Tensor, finer: Certificate, x: Tensor) -> None:
    """Write what float64 says of the rows ``index``; the floor stays that of x."""
    finer = replace(finer, floor=found.floor[index], gradient=finer.gradient.to(x.dtype))
    rows.put(found, index, finer)


@dataclass(frozen=True)
class _ImageProof:
    """What a slope s of J proves of the image alone: mu of it, ‖s_u‖, and where s_ω may lead."""

    mu: Tensor
    slope: Tensor
    reach: Reach

    def bounds(self, slack: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Of the distance of the image and of the gap, for a ``slack``-subgradient within noise."""
        pull = self.reach.steepness + self.reach.sensitivity * noise
        a = self.slope + noise + pull * self.reach.growth
        b = pull * self.reach.offset + slack
        distance = (a + (a.square() + 4 * self.mu * b).sqrt()) / (2 * self.mu)
        known = (self.mu > 0) & (a + b).isfinite()
        gap = a.square() / (2 * self.mu) + b
        room = 1 + 1e-12
        return tuple(torch.where(known, room * bound, torch.inf) for bound in (distance, gap))  # type: ignore[return-value]


def _image_proof(objective: Objective, x: Tensor, slope: Tensor) -> _ImageProof | None:
    """None where the image is all of the state, or where the whole of it is proved anyway."""
    image = objective.image(slope)
    if image.shape == slope.shape or bool((objective.bounds.proved_mu() > 0).all()):
        return None
    if not bool((objective.image_mu > 0).any()):
        return None
    eps = ROOM * torch.finfo(slope.dtype).eps
    size = rows.length(image) * (1 + eps)
    return _ImageProof(objective.image_mu, size, objective.reach(x, slope))


def _with_image(
    rms: Tensor, gap: Tensor, proof: _ImageProof | None, slack: Tensor, noise: Tensor, root: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance, gap and claim, of the image where that of the whole state is not proved."""
    claim = torch.where(torch.isfinite(rms), Claim.GLOBAL, Claim.STATIONARY)
    if proof is None:
        return rms, gap, claim
    distance, lowest = proof.bounds(slack, noise)
    alone = ~torch.isfinite(rms) & torch.isfinite(distance)
    rms = torch.where(alone, distance / root, rms)
    gap = torch.where(alone, lowest, gap)
    return rms, gap, torch.where(alone, Claim.IMAGE, claim)


def _from_gradient(
    objective: Curved,
    gradient: Tensor,
    norm: Tensor,
    allowance: Tensor,
    proof: _ImageProof | None,
) -> Certificate:
    mu, least = objective.bounds.proved_mu(), norm + allowance
    convex = mu > 0
    distance = torch.where(convex, least / mu, torch.inf)
    gap = torch.where(convex, least * distance / 2, torch.inf)
    root = math.sqrt(objective.image(gradient)[0].numel())
    exact = torch.zeros_like(allowance)
    rms, gap, claim = _with_image(distance / root, gap, proof, exact, allowance, root)
    residual = torch.where(allowance.isfinite(), least, norm) / root
    allowed = allowance / root
    floor = allowed.clone()  # another tensor: rows are refined in place, and the floor stays
    return Certificate(rms, gap, residual, allowed, floor, gradient, claim, mu)


def _second_look(
    objective: SaddleObjective, x: Tensor, tol: Tolerance | None, dual: Dual
) -> Certificate:
    gap = objective.gap(x, dual)
    of_image = _image_proof(objective, x, gap.slope)
    found = _from_gap(objective, gap, of_image)
    if tol is None or x.dtype == torch.float64:
        return found
    none = torch.zeros_like(gap.allowance)
    exact = replace(gap, allowance=none, rounding=none, loose=none)
    hopeful = _from_gap(objective, exact, of_image).meets(tol)
    if math.isfinite(tol.rms):
        hopeful |= gap.gap <= NEAR_FLOOR * gap.allowance
    unsure = torch.nonzero(hopeful & ~found.meets(tol)).flatten()
    if len(unsure):
        double, point = objective.double().rows(unsure), x[unsure].double()
        again = _in_double(double, point, tuple(p[unsure].double() for p in dual))
        _refine(found, unsure, again, x)
    return found


def _in_double(objective: SaddleObjective, x: Tensor, dual: Dual) -> Certificate:
    """With the distance by way of the primal point of ``dual``, which x may only round."""
    found = objective.gap(x, dual)
    direct = _from_gap(objective, found, _image_proof(objective, x, found.slope))
    if not bool((objective.bounds.proved_mu() > 0).all()):
        return direct
    there = objective.primal(x, dual)
    further = objective.gap(there, dual)
    root = math.sqrt(objective.image(x)[0].numel())
    detour = rows.length(there - x) / root * (1 + 1e-12) + _from_gap(objective, further, None).rms
    return replace(direct, rms=torch.minimum(direct.rms, detour))


def _from_gap(objective: SaddleObjective, found: Gap, proof: _ImageProof | None) -> Certificate:
    mu, gap = objective.bounds.proved_mu(), found.gap + found.allowance
    root = math.sqrt(objective.image(found.slope)[0].numel())
    rms = torch.where(mu > 0, (2 * gap / mu).sqrt() / root, torch.inf)
    size = rows.length(found.slope)
    noise = found.rounding + ROOM * torch.finfo(found.slope.dtype).eps * size
    rms, gap, claim = _with_image(rms, gap, proof, found.slack + found.loose, noise, root)
    computed = size + found.slack.sqrt()
    residual = size + noise + (found.slack + found.loose).sqrt()
    allowed, floor = (residual - computed) / root, found.rounding / root
    return Certificate(rms, gap, residual / root, allowed, floor, found.slope, claim, mu)

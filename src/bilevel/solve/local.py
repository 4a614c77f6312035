"""Certificates where nothing convex is proved: one critical point near the computed one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.model.kinds import required
from bilevel.model.objective import Objective
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.solve.certificate import Certificate, Claim
from bilevel.solve.curvature import spectrum
from bilevel.solve.solution import Solution

__all__ = ["certify_locally"]

LARGEST = 4096


def certify_locally(objective: Objective, solution: Solution) -> Solution:
    """The solution with a distance to one critical point wherever that can be proved.

    Newton-Kantorovich, in float64: with σ <= every |eigenvalue| of H = ∇²J(x), L a Lipschitz
    constant of ∇²J on the ball of radius 2β around x, β = ‖H⁻¹∇J(x)‖ and h = βL/σ < ½, exactly
    one critical point lies within r = β(1 - √(1 - 2h))/h; it is a strict local minimiser if also
    λ_min(H) > L r. H is written out, at the price of as many HVPs a row as an image has values.
    Rows with a global certificate keep it, rows where this fails are unchanged; claims
    say which is which (docs/decisions/0008). The gap to the global minimum stays unproved.

    Source: Kantorovich 1948; Ortega and Rheinboldt 1970, 12.6.2.

    Raises:
        InputError: an energy that is not smooth, images of more than 4096 values.

    Example:
        >>> import bilevel as bl
        >>> foe = bl.regularisers.FieldsOfExperts(weight=0.2, potential="student-t")
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), foe).double()
        >>> objective = energy.at(torch.eye(8, dtype=torch.float64)[None, None])
        >>> tol = bl.Tolerance(residual=1e-8)
        >>> solution = bl.minimise(objective, bl.solvers.LBFGS(), tol=tol)
        >>> Claim(int(certify_locally(objective, solution).certificate.claim[0])).name
        'LOCAL'
    """
    x = solution.x
    if x[0].numel() > LARGEST:
        what = f"local certificates write out the Hessian, for images of at most {LARGEST} values"
        raise InputError(what, given=x[0].numel())
    found = solution.certificate
    open_rows = (found.claim == Claim.STATIONARY) & torch.isfinite(found.residual)
    index = torch.nonzero(open_rows).flatten()
    if not len(index):
        return solution
    smooth = required(objective, SmoothObjective, "a local certificate")
    certificate = rows.take(found, torch.arange(len(x), device=x.device))
    for part in torch.split(index, max(1, LARGEST**2 // x[0].numel() ** 2)):
        double, old = smooth.rows(part).double(), rows.take(certificate, part)
        rows.put(certificate, part, _kantorovich(double, x[part].double(), old))
    return replace(solution, certificate=certificate)


def _kantorovich(objective: SmoothObjective, x: Tensor, old: Certificate) -> Certificate:
    """The certificate ``old`` with what the spectrum at x proves, in float64."""
    found = spectrum(objective, x)
    sigma = (found.values.abs().amin(1) - found.error).clamp_min(0)
    lowest = found.values[:, 0] - found.error
    newton = found.newton_step(objective.grad(x)) * (1 + found.error / sigma)
    beta = newton + objective.rounding(x) / sigma
    usable = torch.isfinite(beta)
    within = torch.where(usable, 2 * beta, 0.0)
    lipschitz = objective.smoothness(x, within).lipschitz
    h = beta * lipschitz / sigma
    radius = 2 * beta / (1 + (1 - 2 * h).clamp_min(0).sqrt())
    change = lipschitz * radius
    proved = usable & (h < 0.5) & (sigma > change)
    claim = torch.where(lowest > change, Claim.LOCAL, Claim.CRITICAL)
    return replace(
        old,
        rms=torch.where(proved, radius / objective.image(x)[0].numel() ** 0.5, old.rms),
        claim=torch.where(proved, claim, old.claim),
        curvature=torch.where(proved, sigma - change, old.curvature),
    )

"""Images in wider states that float32 cannot prove as accurate as asked: float64 goes on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.model.objective import Objective
from bilevel.solve.certificate import Certificate, Claim, Tolerance, certify
from bilevel.solve.solution import Solution, Status

__all__ = ["finer"]

EPS = torch.finfo(torch.float32).eps


def finer(
    objective: Objective, found: Solution, solve: Callable[[Objective, Tensor, Tolerance], Solution]
) -> Solution:
    """``found``, its rows that stalled at a bound of the image too loose solved on in float64.

    That bound is of first order in ∇J (:func:`~bilevel.solve.certify`), so that it suffers from the
    root of rounding; x, rounded again, is within eps/2 ‖x‖ of where ``solve`` ends. Other
    certificates need no more than one look in float64.
    """
    tol, proved = found.tol, found.certificate
    if found.x.dtype != torch.float32 or not math.isfinite(tol.rms) or tol.residual < math.inf:
        return found
    rounded = EPS * rows.rms(objective.image(found.x)).double()
    open_rows = (found.status == Status.STALLED) & (proved.claim == Claim.IMAGE)
    index = torch.nonzero(open_rows & (4 * rounded < tol.rms)).flatten()
    if not len(index):
        return found
    double = objective.double().rows(index)
    inner = replace(tol, rms=tol.rms - 2 * float(rounded[index].max()))
    there = solve(double, found.x[index].double(), inner)
    x = there.x.float()
    certificate = _rounded(double, x, there)
    floor = proved.floor[index]
    certificate = replace(certificate, floor=floor, gradient=certificate.gradient.float())
    status = there.status.clone()
    status[status == Status.CONVERGED] = Status.STALLED
    status[certificate.meets(tol)] = Status.CONVERGED
    answer = replace(found, x=found.x.clone(), status=found.status.clone())
    answer.x[index], answer.status[index] = x, status
    answer.steps[index] += there.steps
    rows.put(answer.certificate, index, certificate)
    return answer


def _rounded(double: Objective, x: Tensor, there: Solution) -> Certificate:
    """What is proved at x: by itself, or by way of the point that it rounds."""
    direct = certify(double, x.double())
    off = double.image(x.double() - there.x)
    detour = rows.length(off) / math.sqrt(off[0].numel()) * (1 + 1e-12) + there.certificate.rms
    known = detour.isfinite() & (there.certificate.claim == Claim.IMAGE)
    nearer = known & ~(direct.rms <= detour)
    claim = torch.where(nearer, Claim.IMAGE, direct.claim)
    return replace(direct, rms=torch.where(nearer, detour, direct.rms), claim=claim)

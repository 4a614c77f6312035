"""A binary mask made better by exchanges that the gradient of the loss proposes."""

from __future__ import annotations

import torch

from bilevel.ground.checks import check_count, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta
from bilevel.learn.problem import Problem

__all__ = ["exchanged"]


def exchanged(
    problem: Problem,
    theta: Theta,
    name: str = "fidelity.sampling",
    *,
    tol: float,
    evaluations: int = 30,
) -> Theta:
    """θ with a better mask of 0 and 1 of the same sum, all else as it is.

    The largest weights of a mask that was learned between 0 and 1 are not the best to take alone:
    small weights everywhere see all of the data, as noise does not grow when a weight falls. Here
    the entries taken whose derivatives are largest are exchanged for those left out whose
    derivatives are least, a quarter of them at first; where the loss does not fall, half as many.

    Args:
        problem: whose energy holds the mask as a parameter.
        theta: where to begin; the mask is 0 or 1.
        name: of the mask in θ.
        tol: accuracy of the lower level (rms, [grey value]).
        evaluations: of loss and gradient, at most.

    Returns:
        θ whose loss at that accuracy is not above the one given.

    Raises:
        InputError: no such parameter, or one that is not 0 or 1 everywhere.

    Example:
        >>> import bilevel as bl
        >>> x = bl.data.shepp_logan(16)
        >>> full = bl.operators.FourierMask(torch.ones(16, 16))
        >>> pairs = bl.data.simulate(x, full, bl.data.GaussianNoise(0.01))
        >>> lines = torch.zeros(1, 16)
        >>> lines[0, 4:8] = 1  # not a clever choice
        >>> fidelity = bl.fidelities.SampledL2(full, lines)
        >>> energy = bl.Variational(fidelity, bl.regularisers.Tikhonov(0.01, learn=()))
        >>> problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        >>> better = exchanged(problem, problem.theta, tol=1e-3)
        >>> better["fidelity.sampling"].sum(), bool(better["fidelity.sampling"][0] == 1)
        (tensor(4.), True)
    """
    check_positive(tol, "tol")
    check_count(evaluations, "evaluations")
    if name not in theta:
        given = ", ".join(theta)
        raise InputError(f"there is no mask '{name}' among what is learned", given=given)
    mask = theta[name]
    if not bool(((mask == 0) | (mask == 1)).all()):
        advice = "take that of SampledL2.binarised()"
        raise InputError("the mask must be 0 or 1", given=float(mask.median()), advice=advice)
    at = problem.value_and_grad(theta, tol=tol)
    taken = int(mask.sum())
    count = min(max(1, taken // 4), taken, mask.numel() - taken)
    for _ in range(evaluations - 1):
        if count < 1:
            break
        mask, slope = at.theta[name], at.grad[name]
        worst = torch.where(mask == 1, slope, -torch.inf).flatten().topk(count).indices
        best = torch.where(mask == 0, -slope, -torch.inf).flatten().topk(count).indices
        moved = mask.flatten().clone()
        moved[worst], moved[best] = 0.0, 1.0
        new = problem.value_and_grad({**at.theta, name: moved.view_as(mask)}, tol=tol)
        at, count = (new, count) if new.corrected < at.corrected else (at, count // 2)
    return at.theta

"""A binary mask made better by exchanges that the gradient of the loss proposes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

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
    derivatives are least, a quarter of them at first; where the loss does not fall, half as many,
    and single ones in the end, one pair after the other.

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
    moves = _moves(mask, at.grad[name], min(max(1, taken // 4), taken, mask.numel() - taken))
    for _ in range(evaluations - 1):
        move = next(moves, None)
        if move is None:
            break
        count, moved = move
        new = problem.value_and_grad({**at.theta, name: moved}, tol=tol)
        if new.corrected < at.corrected:
            at, moves = new, _moves(moved, new.grad[name], count)
    return at.theta


def _moves(mask: Tensor, slope: Tensor, count: int) -> Iterator[tuple[int, Tensor]]:
    """So many entries exchanged, then half as many; in the end one, in the order of promise."""
    out = torch.where(mask == 1, slope, -torch.inf).flatten()
    into = torch.where(mask == 0, -slope, -torch.inf).flatten()
    while count > 1:
        yield count, _exchanged(mask, out.topk(count).indices, into.topk(count).indices)
        count //= 2
    if count < 1:
        return
    most = min(SINGLES, int(mask.sum()), int((mask == 0).sum()))
    worst, best = out.topk(most), into.topk(most)
    promise = (worst.values[:, None] + best.values).flatten()
    for place in promise.argsort(descending=True):
        yield 1, _exchanged(mask, worst.indices[place // most], best.indices[place % most])


def _exchanged(mask: Tensor, out: Tensor, into: Tensor) -> Tensor:
    moved = mask.flatten().clone()
    moved[out], moved[into] = 0.0, 1.0
    return moved.view_as(mask)


SINGLES = 32
"""Entries on either side of which single exchanges are tried."""

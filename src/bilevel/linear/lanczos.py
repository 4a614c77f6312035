"""Lanczos: Ritz values of a symmetric map, with the residuals that say what they prove."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from bilevel.ground.checks import check_count, check_finite
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.ground.rows import expand, norm
from bilevel.linear.map import LinearMap

__all__ = ["RitzValues", "lanczos"]


@dataclass(frozen=True)
class RitzValues:
    """Rayleigh quotients of a symmetric map A on a Krylov space, one row a map.

    What is proved, up to rounding: an eigenvalue lies within ``residuals`` of each value, the
    smallest eigenvalue is at most ``values[:, 0]``, the largest at least ``values[:, -1]``. No
    lower bound of the smallest eigenvalue follows: the space may have missed it.

    Attributes:
        values: (b, k), ascending.
        residuals: (b, k) ‖A y - θ y‖ for the Ritz vectors y of length 1.
        vector: (b, ...) the Ritz vector of the smallest value, length 1.
    """

    values: Tensor
    residuals: Tensor
    vector: Tensor


def lanczos(operator: LinearMap, start: Tensor, *, steps: int = 30) -> RitzValues:
    """Ritz values of each row's A on the span of v, A v, ..., A^(steps - 1) v.

    The basis is kept and orthogonalised twice a step (memory 2 ``steps`` images a row), and
    values and residuals come from it and its image, not from the recursion. Where the space is
    exhausted early, it goes on from a random direction. One application of A a step.

    Source: Lanczos 1950; Parlett 1998, The symmetric eigenvalue problem, (4.5.1) and section 11.

    Args:
        operator: A, symmetric.
        start: v, (b, ...), not zero.
        steps: dimension of the space, at most that of a row.

    Raises:
        InputError: ``start`` is zero or not finite in a row, or ``steps`` is below one.

    Example:
        >>> scales = torch.tensor([[-1.0, 2.0, 4.0]])
        >>> lanczos(LinearMap.shared(lambda v: scales * v), torch.ones(1, 3), steps=3).values
        tensor([[-1.0000,  2.0000,  4.0000]])
    """
    check_count(steps, "steps")
    if bool((norm(check_finite(start, "start")) == 0).any()):
        raise InputError("start must not be zero in any row")
    with torch.no_grad():
        basis, images = _basis(operator, start, min(steps, start[0].numel()))
        return _ritz(basis, images, start)


def _basis(operator: LinearMap, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """An orthonormal basis (b, k, n) of the Krylov space, and its image."""
    random = generator(0, "lanczos")
    basis = start.new_zeros(len(start), steps, start[0].numel())
    images = torch.zeros_like(basis)
    v = start / expand(norm(start), start)
    for k in range(steps):
        basis[:, k] = v.flatten(1)
        image = operator(v).flatten(1)
        images[:, k] = image
        if k + 1 < steps:
            known = basis[:, : k + 1]
            fresh = torch.randn(image[0].shape, generator=random, dtype=torch.float64)
            ahead, other = _apart(known, image), _apart(known, fresh.to(image).expand_as(image))
            exhausted = norm(ahead) <= 100 * torch.finfo(image.dtype).eps * norm(image)
            direction = torch.where(exhausted[:, None], other, ahead)
            direction = _apart(known, direction / norm(direction)[:, None])
            v = (direction / norm(direction)[:, None]).reshape(start.shape)
    return basis, images


def _apart(basis: Tensor, v: Tensor) -> Tensor:
    """The part of v (b, n) that is orthogonal to the basis (b, k, n)."""
    for _ in range(2):
        v = v - torch.bmm(torch.bmm(v[:, None], basis.mT), basis)[:, 0]
    return v


def _ritz(basis: Tensor, images: Tensor, like: Tensor) -> RitzValues:
    projected = torch.bmm(basis, check_finite(images, "the image of the operator").mT)
    values, turn = cast(tuple[Tensor, Tensor], torch.linalg.eigh((projected + projected.mT) / 2))
    vectors, moved = torch.bmm(turn.mT, basis), torch.bmm(turn.mT, images)
    size = vectors.square().sum(2, keepdim=True).sqrt()
    vectors, moved = vectors / size, moved / size
    residuals = (moved - values[..., None] * vectors).square().sum(2).sqrt()
    return RitzValues(values, residuals, vectors[:, 0].reshape(like.shape))

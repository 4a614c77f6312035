"""Whether a network takes images of a shape, row by row, told before any long work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator

__all__ = ["probe"]

Network = Callable[[Tensor], Tensor]

_SIDE = 32
"""Side of the images that tell whether rows are mixed [pixel], if the network takes such."""
_ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-7}
"""What sums of another order change in derivatives, relative to the largest; more is a mixture."""


def probe(network: Network, like: Tensor) -> None:
    """Evaluate N at images like ``like`` (1, c, h, w), and its derivative at two small ones.

    Raises:
        InputError: it fails, does not give one number a row, changes from call to call, or mixes
            rows.

    Example:
        >>> probe(lambda x: x.square().flatten(1).sum(1), torch.zeros(1, 1, 5, 5))
        >>> probe(lambda x: (x - x.mean()).square().flatten(1).sum(1), torch.zeros(1, 1, 5, 5))
        Traceback (most recent call last):
        ...
        bilevel.ground.errors.InputError: the network mixes rows: ...
    """
    with torch.no_grad():
        value = _evaluated(network, _images(1, like))
    if not bool(value.isfinite().all()):
        raise InputError("the values of the network must be finite", given=float(value))
    small = like[..., :_SIDE, :_SIDE]
    try:
        _evaluated(network, _images(2, small))
    except InputError:  # it takes images of that shape alone
        small = like
    x = _images(2, small)
    first, again, both = (_slope(network, part) for part in (x[:1], x[:1], x))
    room = _ROUNDING.get(x.dtype, 0.1) * float(both.abs().max())
    if not float((first - again).abs().max()) <= room:
        advice = "call its eval(), and draw nothing at random"
        raise InputError("the network is another function in every call", advice=advice)
    alone = torch.cat([first, _slope(network, x[1:])])
    if not float((both - alone).abs().max()) <= room:
        advice = "call its eval() (batch normalisation), and reduce over no images but one's own"
        what = "the network mixes rows: an image changes the derivative at another one"
        raise InputError(what, advice=advice)


def _images(count: int, like: Tensor) -> Tensor:
    """Random ones of unlike brightness."""
    shape = count, *like.shape[1:]
    size = torch.arange(1.0, count + 1).view(-1, 1, 1, 1)
    return (size * torch.rand(shape, generator=generator(0, "probe"))).to(like)


def _evaluated(network: Network, x: Tensor) -> Tensor:
    """N(x), (b,), of the type of x."""
    given = f"images (b, c, h, w) = {tuple(x.shape)} in {x.dtype}"
    try:
        value = cast(object, network(x))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"the network fails ({reason})", given=given) from error
    if not isinstance(value, Tensor) or value.shape != x.shape[:1] or value.dtype != x.dtype:
        kind = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        what = f"the network must give one number a row, {x.dtype} ({len(x)},), for {given}"
        raise InputError(what, given=kind)
    return value


def _slope(network: Network, x: Tensor) -> Tensor:
    with torch.enable_grad():
        point = x.clone().requires_grad_()
        value = _evaluated(network, point).sum()
        found: Sequence[Tensor | None] = [None]
        if value.requires_grad:
            found = torch.autograd.grad(value, point, allow_unused=True)
    if found[0] is None:
        advice = "compute it with torch operations, without detach() and no_grad"
        raise InputError("the network has no derivative by the image", advice=advice)
    return found[0]

"""Any differentiable function of images and targets as a loss: a network, a loss of others."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bilevel.ground.checks import check_kind
from bilevel.ground.errors import InputError
from bilevel.model.losses.loss import Loss, answered, by_autograd, unknown
from bilevel.model.operators.operator import Shape

__all__ = ["ModuleLoss", "check_module"]

_MODE = "call .eval() on it before, and give one value a row, (b,)"


@dataclass(frozen=True, eq=False)
class ModuleLoss(Loss):
    """Any ``nn.Module`` (x, target) -> (b,) as a loss: derivatives by autograd, nothing proved.

    A copy of the module is taken, in the mode (``train`` or ``eval``) that it is in; its parameters
    are not learned. Targets may be of any shape that the module takes, (b, c', h', w').

    The Lipschitz constant of its gradient is unknown: hypergradients and losses carry no proved
    errors. Algorithms rely on estimates, but for ``MAID(certified=True)``, which refuses.

    Args:
        module: one value a row, each of its own row alone.
        unit: of the values.
        are_images: whether targets are images, which say how large grey values are; otherwise
            data do.

    Raises:
        InputError: at the first images of a problem: a module that fails on them, that gives
            anything but one finite value a row, whose rows depend on each other, that gives
            another value each time, or that has no derivative.

    Example:
        >>> class Cubes(nn.Module):
        ...     def forward(self, x, target):
        ...         return (x - target).abs().pow(3).flatten(1).mean(1)
        >>> x, target = torch.full((2, 1, 2, 2), 2.0), torch.ones(2, 1, 2, 2)
        >>> ModuleLoss(Cubes()).grad(x, target)[0, 0, 0]
        tensor([0.7500, 0.7500])
    """

    module: nn.Module
    unit: str = ""
    are_images: bool = True
    _wide: nn.Module = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Copies in float32 and in float64."""
        check_module(self.module, "module", "(self, x, target)")
        own = copy.deepcopy(self.module).requires_grad_(False)
        object.__setattr__(self, "_wide", copy.deepcopy(own).double())
        object.__setattr__(self, "module", own.float())

    def check(self, image_shape: Shape, target_shape: Shape) -> None:
        """Whatever the module takes; :meth:`trial` calls it."""
        if self.are_images:
            super().check(image_shape, target_shape)

    def images(self, target: Tensor) -> Tensor | None:
        """The targets, if they are images."""
        return target if self.are_images else None

    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """What the module says."""
        module = self._wide if x.dtype == torch.float64 else self.module
        return module(x, target)

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """By autograd."""
        return by_autograd(self, x, target)

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """Not known."""
        del x, target
        return unknown(radius)

    def trial(self, x: Tensor, target: Tensor) -> None:
        """Call it on two rows, x and 1.1 x + a little of the first, and differentiate."""
        name = type(self.module).__name__
        size = x[:1].abs().max().clamp_min(torch.finfo(x.dtype).tiny)
        wave = torch.arange(x[0].numel(), device=x.device).cos().view_as(x[:1]).to(x)
        first = x[:1] + 0.05 * size * wave
        pair = torch.cat([first, 1.1 * first + 0.1 * size]).detach().requires_grad_()
        targets = torch.cat([target[:1], target[:1]])
        with torch.enable_grad():
            found = self._called(pair, targets, name)
            if not found.requires_grad:
                advice = "compute it with operations of torch, without thresholds or .detach()"
                what = f"the loss {name} has no derivative by the images"
                raise InputError(what, advice=advice)
            (slope,) = torch.autograd.grad(found[0], pair)
        found, first = found.detach(), pair[:1].detach()
        alone, again = (self._called(first, targets[:1], name) for _ in range(2))
        if not torch.equal(alone, again):
            what = f"the loss {name} gives another value each time"
            raise InputError(what, given=f"{float(alone)} and {float(again)}", advice=_MODE)
        near = torch.allclose(alone, found[:1], rtol=1e-3, atol=1e-3 * float(found.abs().max()))
        if bool(slope[1].any()) or not near:
            what = f"the loss {name} of one image depends on the other images of the batch"
            raise InputError(what, advice=_MODE)
        if not bool(slope[0].any()) and not torch.equal(found[0], found[1]):
            what = f"the derivative of the loss {name} is 0, though its values change"
            raise InputError(what, advice="leave out thresholds and rounding")
        if not bool(slope.isfinite().all()):
            raise InputError(f"the derivative of the loss {name} must be finite")

    def _called(self, x: Tensor, target: Tensor, name: str) -> Tensor:
        found = answered(name, self.value, (x, target), "one value a row", (len(x),))
        if not bool(found.isfinite().all()):
            raise InputError(
                f"the values of the loss {name} must be finite", given=float(found.detach().sum())
            )
        return found


def check_module(module: object, name: str, arguments: str) -> None:
    """Raise InputError unless it is an ``nn.Module``."""
    check_kind(module, nn.Module, name, f"write it as an nn.Module with forward{arguments}")

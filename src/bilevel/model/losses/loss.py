"""What an upper-level loss is: the distance of a reconstruction to the truth."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.checks import check_kind, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.given import Typed
from bilevel.model.operators.operator import Shape

__all__ = [
    "Loss",
    "Scale",
    "WeightedSum",
    "answered",
    "by_autograd",
    "check_loss",
    "unknown",
]


class Scale:
    """What the values of a loss or a criterion mean."""

    unit = ""
    """Of its values, for axes and tables."""

    def scale(self, value: float) -> float:
        """The change that counts as large at a mean of ``value``: its size, unless it has one.

        A gradient is small if it is a small part of this.
        """
        return abs(value)

    def psnr(self, value: float) -> float:
        """PSNR [dB] that a mean of ``value`` stands for; nan if it stands for none.

        Of the loss's peak, where it has one, otherwise for a peak of 1.
        """
        del value
        return math.nan


class Loss(Scale, Typed, ABC):
    """ℓ(x, target), one value a row; losses add up, and numbers > 0 weigh them.

    Targets are images like x, unless a loss says in :meth:`check` that it takes others, such as
    labels, and in :meth:`images` what of them shows how large grey values are.

    Example:
        >>> from bilevel.model.losses import SSIM, SquaredError
        >>> both = SSIM() + 10 * SquaredError()
        >>> [weight for weight, _ in both.terms]
        [1.0, 10.0]
    """

    @abstractmethod
    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """ℓ(x, target): (b, c, h, w), (b, c, h, w) -> (b,)."""

    @abstractmethod
    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """∇_x ℓ(x, target), differentiable in x by autograd."""

    @abstractmethod
    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """Proved Lipschitz constants of ∇_x ℓ within ``radius`` (b,) of ``x``, ℓ2: (b,) float64.

        inf (:func:`unknown`) where none is proved: hypergradients and losses then carry no proved
        error, and estimates take its place.
        """

    def check(self, image_shape: Shape, target_shape: Shape) -> None:
        """Raise InputError unless such targets judge images (c, h, w)."""
        if target_shape != image_shape:
            shape = f"(c, h, w) = {image_shape}, the shape of the reconstructions"
            raise InputError(f"targets must have shape {shape}", given=target_shape)

    def trial(self, x: Tensor, target: Tensor) -> None:
        """Raise InputError for what only shows on images; asked once, before any long work.

        ``x`` (1, c, h, w) is where the first reconstruction starts, targets are (k, c', h', w').
        Unless overridden, that values and gradients have their shapes.
        """
        one, first = self.rows(torch.zeros(1, dtype=torch.long, device=x.device)), target[:1]
        name = type(self).__name__
        answered(name, one.value, (x, first), "one value a row", (1,))
        answered(name, one.grad, (x, first), "a gradient like the images", tuple(x.shape))

    def try_on(self, x: Tensor, target: Tensor) -> None:
        """:meth:`check`, then :meth:`trial`: x (1, c, h, w), targets (k, c', h', w')."""
        (c, h, w), (channels, height, width) = x.shape[1:], target.shape[1:]
        self.check((c, h, w), (channels, height, width))
        self.trial(x, target)

    def images(self, target: Tensor) -> Tensor | None:
        """What of the targets are images; None where they are something else, such as labels."""
        return target

    def rows(self, index: Tensor) -> Loss:
        """For the rows ``index`` of a batch; the same unless each row has a loss of its own."""
        del index
        return self

    def double(self) -> Loss:
        """In float64; the same unless it holds tensors."""
        return self

    def fitted(self, target: Tensor) -> Loss:
        """The same with what was left to the data taken from the targets (k, c, h, w); itself."""
        del target
        return self

    def __add__(self, other: Loss) -> WeightedSum:
        """ℓ + other."""
        return WeightedSum((*_terms(self), *_terms(other)))

    def __mul__(self, weight: float) -> WeightedSum:
        """Weight · ℓ."""
        return WeightedSum(tuple((weight * own, loss) for own, loss in _terms(self)))

    __rmul__ = __mul__


def answered(
    name: str,
    asked: Callable[[Tensor, Tensor], object],
    at: tuple[Tensor, Tensor],
    what: str,
    shape: tuple[int, ...],
) -> Tensor:
    """What a method of the loss ``name`` makes of images and targets: a tensor of that shape.

    Raises:
        InputError: it fails, or makes something else.
    """
    try:
        found = asked(*at)
    except InputError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        shapes = f"images {tuple(at[0].shape)} and targets {tuple(at[1].shape)}"
        raise InputError(f"the loss {name} fails on {shapes}", given=str(error)) from error
    if not isinstance(found, Tensor) or tuple(found.shape) != shape:
        given = tuple(found.shape) if isinstance(found, Tensor) else "no tensor"
        advice = "take .flatten(1).mean(1)" if len(shape) == 1 else None
        raise InputError(f"the loss {name} must give {what}, {shape}", given=given, advice=advice)
    return found


def check_loss(loss: object) -> None:
    """Raise InputError unless it is a Loss."""
    advice = "take one of bl.losses, or wrap an nn.Module in bl.losses.ModuleLoss"
    check_kind(loss, Loss, "the loss", advice)


Terms = tuple[tuple[float, Loss], ...]


def _terms(loss: Loss) -> Terms:
    return loss.terms if isinstance(loss, WeightedSum) else ((1.0, loss),)


@dataclass(frozen=True, repr=False)
class WeightedSum(Loss):
    """Σ_j a_j ℓ_j(x, target), as ``a * loss + other`` makes it.

    Its Lipschitz constants are the sums of those of the terms, unknown where one is.

    Args:
        terms: pairs of a weight and a loss.

    Raises:
        InputError: no term, or a weight that is not positive.
    """

    terms: Terms

    def __post_init__(self) -> None:
        """Check the weights; the unit is that of the terms, if they share one."""
        if not self.terms:
            raise InputError("a sum of losses needs at least one")
        for weight, loss in self.terms:
            check_positive(weight, "the weight of a loss")
            check_loss(loss)
        units = {loss.unit for _, loss in self.terms}
        object.__setattr__(self, "unit", units.pop() if len(units) == 1 else "")

    def __repr__(self) -> str:
        """As it is written."""
        return " + ".join(f"{weight:g} * {loss!r}" for weight, loss in self.terms)

    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """Sum of the values, (b,)."""
        return torch.stack([a * loss.value(x, target) for a, loss in self.terms]).sum(0)

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """Sum of the gradients."""
        return torch.stack([a * loss.grad(x, target) for a, loss in self.terms]).sum(0)

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """Sum of the constants."""
        return torch.stack([a * t.lipschitz(x, target, radius) for a, t in self.terms]).sum(0)

    def check(self, image_shape: Shape, target_shape: Shape) -> None:
        """As every term."""
        for _, loss in self.terms:
            loss.check(image_shape, target_shape)

    def trial(self, x: Tensor, target: Tensor) -> None:
        """As every term."""
        for _, loss in self.terms:
            loss.trial(x, target)

    def images(self, target: Tensor) -> Tensor | None:
        """Those of the first term that knows any."""
        found = (loss.images(target) for _, loss in self.terms)
        return next((images for images in found if images is not None), None)

    def rows(self, index: Tensor) -> WeightedSum:
        """Of the rows ``index``."""
        return WeightedSum(tuple((a, loss.rows(index)) for a, loss in self.terms))

    def double(self) -> WeightedSum:
        """In float64."""
        return WeightedSum(tuple((a, loss.double()) for a, loss in self.terms))

    def fitted(self, target: Tensor) -> WeightedSum:
        """With what every term leaves to the data."""
        return WeightedSum(tuple((a, loss.fitted(target)) for a, loss in self.terms))

    def scale(self, value: float) -> float:
        """That of the terms which have one of their own, otherwise the size of the value."""
        if _is_one(self.terms):
            return self.terms[0][0] * self.terms[0][1].scale(value / self.terms[0][0])
        return sum(a * loss.scale(0.0) for a, loss in self.terms) or abs(value)

    def psnr(self, value: float) -> float:
        """That of a single term, whatever its weight."""
        if not _is_one(self.terms):
            return math.nan
        return self.terms[0][1].psnr(value / self.terms[0][0])


def _is_one(terms: Terms) -> bool:
    return len(terms) == 1


def by_autograd(loss: Loss, x: Tensor, target: Tensor) -> Tensor:
    """∇_x ℓ of a loss that knows its values alone; differentiable where x is on a tape."""
    taped = x.requires_grad
    with torch.enable_grad():
        point = x if taped else x.detach().requires_grad_()
        total = loss.value(point, target).sum()
        return torch.autograd.grad(total, point, create_graph=taped)[0]


def unknown(radius: Tensor) -> Tensor:
    """No Lipschitz constant is proved: inf for every row, (b,) float64.

    Example:
        >>> unknown(torch.zeros(2))
        tensor([inf, inf], dtype=torch.float64)
    """
    return torch.full_like(radius, torch.inf, dtype=torch.float64)

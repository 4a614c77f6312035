"""What a regulariser that is a network is: derivatives by autograd, weight and scale outside."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import torch
from torch import Tensor, nn

from bilevel.ground.checks import check_kind
from bilevel.ground.fused import mapping
from bilevel.ground.theta import fixed, frozen
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Variation
from bilevel.model.networks.probe import probe
from bilevel.model.operators.operator import Shape
from bilevel.model.part import zeros_for
from bilevel.model.regularisers.scaled import Scaled

__all__ = ["LEARNED", "Network", "NetworkRegulariser", "checked"]

LEARNED = ("network", "weight", "scale")
"""Names of what can be learned."""
M = TypeVar("M", bound=nn.Module)


class NetworkRegulariser(Scaled):
    """w σ⁻² N(σ x) for any N that torch differentiates twice.

    Derive from it, make layers in ``__init__``, and write :meth:`energy`; gradient and Hessian
    follow by automatic differentiation. About N nothing is proved unless :meth:`constants` says
    so: solutions then carry no distance, and hypergradients no bound. Rows must not see each
    other: an evaluation at two small images tells, before anything else is done.

    Args:
        weight: factor w [1]; for a contrast of 1 of the data 1 if None.
        scale: factor σ of the image [1/grey value]; 1 over the contrast of the data if None.
        learn: names of what is learned; the rest stays as given.

    Source: Hertrich et al. 2025, "Learning regularization functionals for inverse problems"
    (α = log w, s = log σ).

    Raises:
        InputError: a weight or scale that is not positive, an unknown name in ``learn``.

    Example:
        >>> class Quartic(NetworkRegulariser):
        ...     def energy(self, x):
        ...         return 0.25 * x.pow(4).flatten(1).sum(1)
        >>> Quartic(weight=2.0, scale=1.0).grad(torch.full((1, 1, 1, 2), 2.0)).flatten()
        tensor([16., 16.], grad_fn=<ViewBackward0>)
    """

    def __init__(
        self,
        weight: float | None = None,
        scale: float | None = None,
        *,
        learn: Collection[str] = LEARNED,
    ) -> None:
        super().__init__(weight, scale, learn, LEARNED)
        self._learned = "network" in learn
        self._tried: set[object] = set()

    def own(self, module: M) -> M:
        """``module`` as a part of the network: without "network" in ``learn`` it stays as it is."""
        return module if self._learned else module.requires_grad_(False)

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N(x) and ∇N(x), differentiable in x and the parameters; by one reverse pass."""
        if mapping():
            found = torch.func.vjp(self.energy, x)
            return found[0], found[1](torch.ones_like(found[0]))[0]
        track = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            point = x if x.requires_grad else _leaf(x)
            value = self.energy(point)
            slope = torch.autograd.grad(value.sum(), point, create_graph=track)[0]
        return (value if track else value.detach()), slope

    def curvature(self, x: Tensor) -> LinearMap:
        """∇²N(x): the reverse pass is recorded once, and an application is a pass through it."""
        if mapping():
            return LinearMap.shared(lambda v: torch.func.vjp(self._slope, x)[1](v)[0])
        network = fixed(self)
        with torch.inference_mode(False), torch.enable_grad():
            point = _leaf(x.detach())
            slope = network.value_and_slope(point)[1]

        def apply(v: Tensor) -> Tensor:
            if not slope.requires_grad:  # N is piecewise linear
                return torch.zeros_like(v)
            with torch.inference_mode(False):
                own = v.clone() if v.is_inference() else v
                found = torch.autograd.grad(
                    slope, point, own, retain_graph=True, allow_unused=True, materialize_grads=True
                )
            return found[0]

        return LinearMap(apply, lambda index: self.curvature(x[index]))

    def constants(self, image_shape: Shape) -> Bounds:
        """Bounds of ∇²N over all images of that shape; unknown unless overridden."""
        del image_shape
        return Bounds.unknown()

    def options(self) -> dict[str, object]:
        """``learn``; what derives from it adds its own arguments."""
        own = self.learned()
        return {"learn": ["network", *own] if self._learned else own}

    def check(self, image_shape: Shape) -> None:
        """The network must take such images, and each row by itself: tried once for each shape."""
        with torch.inference_mode(False):
            like = zeros_for(self, image_shape)
            modes = tuple(part.training for part in self.modules())
            case = image_shape, like.dtype, like.device, modes
            if case not in self._tried:
                probe(frozen(self).energy, like)
                self._tried.add(case)

    def broadcasts(self) -> frozenset[str]:
        """Weight and scale."""
        return frozenset({"log_weight", "log_scale"})

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """Unknown."""
        del q, radius
        return Variation.unknown(x)

    def _slope(self, x: Tensor) -> Tensor:
        return self.value_and_slope(x)[1]


class Network(NetworkRegulariser):
    """Any ``nn.Module`` as a regulariser.

    R(x) = w σ⁻² N(σ x), N the module.

    The module is kept as it is given; its parameters with ``requires_grad`` are learned. What is
    learned can be saved if the module is a ``Part`` with ``options()``, as ``bilevel.extend`` has
    them; deriving a class from :class:`NetworkRegulariser` does the same, and makes a table of
    configurations of it.

    Args:
        module: N, images (b, c, h, w) to one value a row, (b,).
        weight: factor w [1]; for a contrast of 1 of the data 1 if None.
        scale: factor σ of the image [1/grey value]; 1 over the contrast of the data if None.
        learn: names of what is learned; without "network" the module is frozen.

    Raises:
        InputError: anything but a module; by ``energy.at`` and whatever uses it, one that does
            not give (b,), cannot take the images, or mixes rows.

    Example:
        >>> layers = nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(144, 1), nn.Flatten(0)
        >>> Network(nn.Sequential(*layers))(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2])
    """

    def __init__(
        self,
        module: nn.Module,
        weight: float | None = None,
        scale: float | None = None,
        *,
        learn: Collection[str] = LEARNED,
    ) -> None:
        super().__init__(weight, scale, learn=learn)
        self.module = self.own(checked(module, "the network"))

    def energy(self, x: Tensor) -> Tensor:
        """What the module gives."""
        return self.module(x)

    def options(self) -> dict[str, object]:
        """The module and ``learn``."""
        return {"module": self.module, **super().options()}


def checked(module: object, name: str) -> nn.Module:
    """The module, if it is one; raise InputError otherwise."""
    advice = "write it as an nn.Module, or derive a class from NetworkRegulariser"
    return check_kind(module, nn.Module, name, advice)


def _leaf(x: Tensor) -> Tensor:
    """The same values, to be differentiated by; forward-mode tangents stay."""
    return (x.clone() if x.is_inference() else x.view_as(x)).requires_grad_()

"""Take a variational energy apart: smooth, simple and dual terms, each for what it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.composite import CompositeObjective, Separable
from bilevel.model.energy import EnergyObjective
from bilevel.model.fidelities.fidelity import Fidelity
from bilevel.model.fidelities.l1 import L1
from bilevel.model.fidelities.squared_l2 import SquaredL2
from bilevel.model.lengths import Lengths
from bilevel.model.objective import Summand
from bilevel.model.operators import Identity, Mask, Operator, Shape
from bilevel.model.regularisers.box import Box
from bilevel.model.regularisers.exact_tv import ExactTotalVariation
from bilevel.model.regularisers.nonsmooth import NonSmoothRegulariser
from bilevel.model.regularisers.regulariser import Regulariser, Sum
from bilevel.model.regularisers.sparsity import Sparsity
from bilevel.model.saddle import SaddleObjective
from bilevel.model.simple import Simple

__all__ = ["Absent", "is_smooth", "non_smooth_objective", "smooth_terms"]


def is_smooth(fidelity: Fidelity, parts: Sequence[Regulariser]) -> bool:
    """Whether every term has a gradient."""
    smooth = not any(isinstance(part, NonSmoothRegulariser) for part in parts)
    return smooth and not isinstance(fidelity, L1)


def smooth_terms(fidelity: Fidelity, parts: Sequence[Regulariser]) -> tuple[Fidelity, Regulariser]:
    """Those terms that have a gradient."""
    smooth = [part for part in parts if not isinstance(part, NonSmoothRegulariser)]
    data = Absent(fidelity) if isinstance(fidelity, L1) else fidelity
    return data, smooth[0] if len(smooth) == 1 else Sum(smooth)


def non_smooth_objective(
    source: Separable, f: EnergyObjective, fidelity: Fidelity, parts: Sequence[Regulariser]
) -> CompositeObjective | SaddleObjective:
    """The energy ``source`` as f and the terms of fidelity + parts that have no gradient.

    At most one absolute value can be a simple term; further ones become dual terms.
    """
    y, simple = f.y, Simple()
    dual: list[Lengths] = []
    terms = [fidelity.term(y)] if isinstance(fidelity, L1) else []
    terms += [part.term() for part in parts if isinstance(part, NonSmoothRegulariser)]
    for term in terms:
        if isinstance(term, Lengths):
            dual.append(term)
        elif simple.distance is None or term.distance is None:
            simple = simple.meet(term, y.dtype)
        else:
            dual.append(term.distance.as_lengths())
    if not dual:
        return CompositeObjective(source, f, simple)
    lower, upper = _reach(fidelity, parts, y)
    return SaddleObjective(source, f, simple, tuple(dual), lower, upper)


def _reach(fidelity: Fidelity, parts: Sequence[Regulariser], y: Tensor) -> tuple[Tensor, Tensor]:
    """An interval for each row, (b, 1, 1, 1), that the pixels of some minimiser lie in.

    Cutting an image off at the least and the greatest datum, and at 0 where ‖x‖₁ is penalised,
    raises neither its total variation nor its distance to data of seen pixels.
    """
    flat = y.flatten(1)
    lower, upper = flat.amin(1), flat.amax(1)
    if any(isinstance(part, Sparsity) for part in parts):
        lower, upper = lower.clamp_max(0.0), upper.clamp_min(0.0)
    seen = isinstance(fidelity, L1 | SquaredL2) and _sees_pixels(fidelity.operator)
    seen &= all(isinstance(part, Sparsity | Box | ExactTotalVariation) for part in parts)
    known = torch.full_like(lower, seen, dtype=torch.bool)
    for part in parts:
        if isinstance(part, Box):
            box = part.term().rounded(y.dtype)
            known &= (lower <= box.upper) & (upper >= box.lower)
    lower, upper = torch.where(known, lower, -torch.inf), torch.where(known, upper, torch.inf)
    return lower[:, None, None, None], upper[:, None, None, None]


def _sees_pixels(operator: Operator) -> bool:
    if isinstance(operator, Mask):
        return bool(((operator.mask == 0) | (operator.mask == 1)).all())
    return isinstance(operator, Identity)


class Absent(Fidelity):
    """Zero, in the place of a fidelity that is not smooth."""

    def __init__(self, fidelity: Fidelity) -> None:
        super().__init__()
        self.fidelity, self.operator = fidelity, fidelity.operator

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """0."""
        return x.new_zeros(len(x))

    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(x)

    def summands(self, y: Tensor) -> tuple[Summand, ...]:
        """None."""
        return ()

    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        """0."""
        return LinearMap.shared(torch.zeros_like)

    def bounds(self, image_shape: Shape, y: Tensor) -> Bounds:
        """0."""
        return Bounds.of(0.0, 0.0)

    def accounted(self) -> frozenset[str]:
        """All: nothing depends on them here."""
        return frozenset(name for name, _ in self.named_parameters(remove_duplicate=False))

    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """0."""
        return Variation.zero(x)

    def smoothness(self, x: Tensor, y: Tensor, radius: Tensor) -> Smoothness:
        """Quadratic."""
        return Smoothness.quadratic(x)

    def magnitude(self, image_shape: Shape, y: Tensor) -> Magnitude:
        """0."""
        zero = torch.zeros(len(y), dtype=torch.float64, device=y.device)
        return Magnitude(zero, zero)

    def start(self, y: Tensor) -> Tensor:
        """That of the fidelity."""
        return self.fidelity.start(y)

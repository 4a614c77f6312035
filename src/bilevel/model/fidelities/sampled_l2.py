"""The squared distance to some of the data: which of them to measure, within a budget."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.fidelities.weighted import WeightedFidelity
from bilevel.model.operators.inputs import real_tensor
from bilevel.model.operators.operator import Operator, Shape
from bilevel.model.part import check_learn
from bilevel.model.sets import CappedSimplex, Set

__all__ = ["SampledL2"]


class SampledL2(WeightedFidelity):
    """weight/2 Σ_k m_k |(A x - y)_k|²: learned sampling, within a budget.

    The data y are fully sampled, and m says how much each of them counts; what has m = 0 need not
    be measured. m itself is learned, with 0 <= m <= 1 and Σ m = budget; :meth:`binarised` then
    takes the largest. (A mask s on the data with m = s² could never leave 0: the derivative of the
    loss by s vanishes there.)

    One weight stands for all channels of a datum: for real and imaginary parts and for all coils.
    A mask of one row (1, w') has a weight for each column of data (c', h', w'), one of one column
    (h', 1) a weight for each row: lines of k-space, or angles.

    Args:
        operator: A, with all data: a ``MultiCoil`` or ``FourierMask`` whose mask is 1 everywhere.
        mask: first weights m [1], (h', w'), (1, w') or (h', 1); the nearest ones within the budget
            are taken.
        kept: booleans like ``mask``, where m stays 1, such as the middle of k-space; none if None.
        budget: Σ m, with those kept; that of ``mask`` if None.
        weight: factor w [1].
        learn: "mask", "weight" or both; the rest stays as given.

    Source: Sherry et al. 2020, "Learning the sampling pattern for MRI" (arXiv 1906.08754), whose
    penalty for m the budget takes the place of.

    Raises:
        InputError: masks that are not of two dimensions or not alike, a budget that the weights
            cannot have, a mask to be learned of which nothing is free, an unknown name in
            ``learn``.

    Example:
        >>> from bilevel.model.operators import FourierMask
        >>> middle = torch.tensor([[True, False, False, False]])
        >>> fidelity = SampledL2(FourierMask(torch.ones(4, 4)), torch.ones(1, 4), middle, budget=2)
        >>> fidelity.mask
        tensor([[1.0000, 0.3333, 0.3333, 0.3333]], grad_fn=<ViewBackward0>)
    """

    kept: Tensor
    free: Tensor

    def __init__(
        self,
        operator: Operator,
        mask: Tensor,
        kept: Tensor | None = None,
        budget: float | None = None,
        weight: float = 1.0,
        *,
        learn: Collection[str] = ("mask",),
    ) -> None:
        """Take the mask nearest to the one given."""
        check_learn(learn, ("mask", "weight"))
        super().__init__(operator, weight, learn=[name for name in learn if name == "weight"])
        first = real_tensor(mask, "mask", (2,))
        held = torch.zeros_like(first, dtype=torch.bool) if kept is None else _booleans(kept)
        if held.shape != first.shape:
            given = f"{tuple(held.shape)} and {tuple(first.shape)}"
            raise InputError("kept and mask must have one shape", given=given)
        total = float(first.double().sum()) if budget is None else float(budget)
        count, free = int(held.sum()), held.numel() - int(held.sum())
        if not count <= total <= held.numel() * (1 + 1e-6) or total <= 0:
            what = f"the budget must lie between the {count} kept and all {held.numel()} weights"
            raise InputError(what, given=total)
        if "mask" in learn and not (free and total > count):
            what = "there is no weight to learn beside those kept"
            raise InputError(what, given=f"{count} kept, budget {total:g}")
        self.budget, self.kept = total, held
        self.free = (~held).flatten().nonzero().flatten()
        own = first.flatten()[self.free]
        own = self._set().project(own) if total > count and free else torch.zeros_like(own)
        self.sampling = nn.Parameter(own, requires_grad="mask" in learn)

    def _set(self) -> CappedSimplex:
        return CappedSimplex(self.budget - int(self.kept.sum()))

    @property
    def mask(self) -> Tensor:
        """The weights m, in the shape given."""
        ones = torch.ones_like(self.kept, dtype=self.sampling.dtype).flatten()
        return ones.index_copy(0, self.free, self.sampling).view(self.kept.shape)

    def binarised(self) -> SampledL2:
        """The same with a mask of 0 and 1: the largest weights, as many as the budget holds.

        It is learned no more; whatever else is learned should be learned anew with it.

        Example:
            >>> from bilevel.model.operators import FourierMask
            >>> weights = torch.tensor([[0.9, 0.2, 0.7, 0.2]])
            >>> SampledL2(FourierMask(torch.ones(4, 4)), weights).binarised().mask
            tensor([[1., 0., 1., 0.]])
        """
        count = int(self.budget + 1e-6) - int(self.kept.sum())
        best = self.sampling.detach().argsort(descending=True, stable=True)[:count]
        mask = self.kept.to(self.sampling.dtype).flatten()
        mask[self.free[best]] = 1.0
        learn = ("weight",) if self.log_weight.requires_grad else ()
        mask = mask.view(self.kept.shape)
        own = SampledL2(self.operator, mask, self.kept, weight=1.0, learn=learn).to(mask)
        own.log_weight.data.copy_(self.log_weight.detach())
        return own

    def sets(self) -> Mapping[str, Set]:
        """A positive weight, and a mask within the budget."""
        own = {"sampling": self._set()} if self.sampling.requires_grad else {}
        return {**super().sets(), **own}

    def options(self) -> dict[str, object]:
        """What builds it again; weight and mask themselves travel as parameters."""
        named = {"mask": self.sampling, "weight": self.log_weight}
        return {
            "operator": self.operator,
            "mask": self.mask.detach(),
            "kept": self.kept,
            "budget": self.budget,
            "learn": [name for name, own in named.items() if own.requires_grad],
        }

    def check(self, y: Tensor) -> None:
        """Data must fit the operator and the mask."""
        super().check(y)
        if any(m not in (1, n) for m, n in zip(self.kept.shape, y.shape[2:], strict=True)):
            shape = tuple(self.kept.shape)
            raise InputError(f"a mask {shape} does not fit the data", given=tuple(y.shape))

    def start(self, y: Tensor) -> Tensor:
        """That of the operator, from the data that count."""
        return self.operator.start(self.mask * y)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """w/2 Σ m |A x - y|², (b,)."""
        return self._value(self.operator(x) - y)

    def _value(self, residual: Tensor) -> Tensor:
        return 0.5 * self.weight * (self.mask * residual.square()).flatten(1).sum(1)

    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        """w Aᵀ m (A x - y)."""
        return self.weight * self.operator.adjoint(self.mask * (self.operator(x) - y))

    def value_and_grad(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with A x computed once."""
        residual = self.operator(x) - y
        slope = self.weight * self.operator.adjoint(self.mask * residual)
        return self._value(residual), slope

    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        """w Aᵀ m A."""
        operator, mask = self.operator, self.mask
        return LinearMap.shared(lambda v: self.weight * operator.adjoint(mask * operator(v)))

    def majoriser(self, x: Tensor, y: Tensor) -> LinearMap:
        """The Hessian itself."""
        return self.hessian(x, y)

    def bounds(self, image_shape: Shape, y: Tensor) -> Bounds:
        """w times the extremes of m times the bounds of AᵀA."""
        gram, weight = self.operator.gram_bounds(image_shape), self.exact_weight
        least, most = self._extremes()
        lower = min(least * gram.lower, least * gram.upper)
        return Bounds.of(weight * lower, weight * max(most, 0.0) * gram.upper)

    def _extremes(self) -> tuple[float, float]:
        """Of m, which may lie outside of its set where derivatives are checked."""
        mask = self.mask.detach().double()
        return float(mask.min()), float(mask.max())

    def accounted(self) -> frozenset[str]:
        """Weight and mask; nothing is known of what the operator may have."""
        return frozenset({"log_weight", "sampling"})

    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """The Hessian is constant, and log w is as for ``SquaredL2``.

        By m, with r = A x - y,

            B δ = w Aᵀ(δ r),  (Bᵀq)_j = w Σ_k (A q)_k r_k over the data k of weight j,

        hence over the ball ‖(B(x') - B(x))ᵀq‖ <= w ‖A‖ radius max_j ‖(A q)_j‖ and
        ‖B(x')‖ <= w ‖A‖ (max_j ‖r_j‖ + ‖A‖ radius).
        """
        shape = x.shape[1], x.shape[2], x.shape[3]
        with torch.no_grad():
            upper, weight = self.operator.gram_bounds(shape).upper, self.exact_weight
            reach = radius.double()
            cross = norm = torch.zeros_like(reach)
            if self.log_weight.requires_grad:
                turn, pull = rows.norm(self.hessian(x, y)(q)), rows.norm(self.grad(x, y))
                most = self.bounds(shape, y).lipschitz
                cross, norm = turn.double() * reach, pull.double() + most * reach
            if self.sampling.requires_grad:
                own = weight * upper**0.5
                cross = cross + own * reach * self._largest(self.operator(q))
                residual = self._largest(self.operator(x) - y)
                norm = norm + own * (residual + upper**0.5 * reach)
            return Variation(torch.zeros_like(cross), cross, norm)

    def _largest(self, data: Tensor) -> Tensor:
        """The largest norm of the data of one free weight, (b,)."""
        squares = data.double().square().sum(1)
        for dim in (0, 1):
            if self.kept.shape[dim] == 1:
                squares = squares.sum(dim + 1, keepdim=True)
        return squares.flatten(1)[:, self.free].amax(1).sqrt()

    def smoothness(self, x: Tensor, y: Tensor, radius: Tensor) -> Smoothness:
        """Quadratic."""
        return Smoothness.quadratic(x)

    def magnitude(self, image_shape: Shape, y: Tensor) -> Magnitude:
        """As for ``SquaredL2``, with the largest weight."""
        square = self.operator.gram_bounds(image_shape).upper
        most = max(map(abs, self._extremes()))
        weight = self.exact_weight * most * (self.operator.roundings + 1) / 2
        return Magnitude((weight * square).expand(len(y)), weight * square**0.5 * rows.length(y))


def _booleans(kept: Tensor) -> Tensor:
    values = real_tensor(kept, "kept", (2,))
    if not bool(((values == 0) | (values == 1)).all()):
        raise InputError("kept must be booleans", given=f"values up to {float(values.max()):.4g}")
    return values.bool()

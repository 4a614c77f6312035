"""What fidelities with an operator and one weight have in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from bilevel.model.fidelities.fidelity import DataTerm, Fidelity
from bilevel.model.operators import Identity
from bilevel.model.operators.operator import Operator, check_operator
from bilevel.model.part import around, check_learn, positive_parameter
from bilevel.model.sets import Set

__all__ = ["Weighted", "WeightedFidelity", "around_data"]


class Weighted(DataTerm):
    """w Ψ(A x; y) with a positive weight w, fixed at 1 unless ``learn=("weight",)``.

    Raises:
        InputError: no operator, a weight that is not positive, an unknown name in ``learn``.
    """

    log_weight: Tensor

    def __init__(
        self,
        operator: Operator | None = None,
        weight: float = 1.0,
        *,
        learn: Collection[str] = (),
    ) -> None:
        """Forward operator A (identity if none) and weight [1]."""
        super().__init__()
        check_learn(learn, ("weight",))
        self.operator = Identity() if operator is None else check_operator(operator)
        self.log_weight = positive_parameter(weight, "weight", learn)

    @property
    def weight(self) -> Tensor:
        """w."""
        return self.log_weight.exp()

    @property
    def exact_weight(self) -> Tensor:
        """w in float64, for proofs: exp in float32 may be off by more than they allow for."""
        return self.log_weight.detach().double().exp()

    def sets(self) -> Mapping[str, Set]:
        """A positive weight."""
        return {"log_weight": around(self.log_weight)}

    def options(self) -> dict[str, object]:
        """What builds it again; the weight itself travels as a parameter."""
        learn = ("weight",) if self.log_weight.requires_grad else ()
        return {"operator": self.operator, "learn": learn}

    def start(self, y: Tensor) -> Tensor:
        """That of the operator: y itself for denoising."""
        return self.operator.start(y)


class WeightedFidelity(Weighted, Fidelity):
    """The same, smooth."""


def around_data(
    operator: Operator, y: Tensor, lower: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor]:
    """Around [lower, upper] and all data of the row; the whole line unless data are pixels.

    A distance to seen pixels does not grow where x is cut off at the least and greatest datum.
    """
    flat = y.flatten(1)
    if not operator.sees_pixels():
        return torch.full_like(lower, -torch.inf), torch.full_like(upper, torch.inf)
    return torch.minimum(lower, flat.amin(1)), torch.maximum(upper, flat.amax(1))

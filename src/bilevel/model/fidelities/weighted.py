"""What fidelities with an operator and one weight have in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from bilevel.model.fidelities.fidelity import Fidelity
from bilevel.model.operators import Identity
from bilevel.model.operators.operator import Operator
from bilevel.model.part import around, check_learn, positive_parameter
from bilevel.model.sets import Set

__all__ = ["WeightedFidelity"]


class WeightedFidelity(Fidelity):
    """w Ψ(A x; y) with a positive weight w, fixed at 1 unless ``learn=("weight",)``.

    Raises:
        InputError: a weight that is not positive, an unknown name in ``learn``.
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
        self.operator = Identity() if operator is None else operator
        self.log_weight = positive_parameter(weight, "weight", learn)

    @property
    def weight(self) -> Tensor:
        """w."""
        return self.log_weight.exp()

    def sets(self) -> Mapping[str, Set]:
        """A positive weight."""
        return {"log_weight": around(self.log_weight)}

    def options(self) -> dict[str, object]:
        """What builds it again; the weight itself travels as a parameter."""
        learn = ("weight",) if self.log_weight.requires_grad else ()
        return {"operator": self.operator, "learn": learn}

    def start(self, y: Tensor) -> Tensor:
        """Aᵀy over the upper bound of ‖A‖²: y itself for denoising."""
        x = self.operator.adjoint(y)
        upper = self.operator.gram_bounds((x.shape[1], x.shape[2], x.shape[3])).upper
        return x / upper if upper > 0 else x

"""The squared distance in units of a noise that differs from datum to datum, and is learned."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.model.fidelities.pointwise import Pointwise, Turned
from bilevel.model.fidelities.weighted import around_data
from bilevel.model.operators.operator import Operator
from bilevel.model.part import around, check_learn, positive_parameter
from bilevel.model.sets import Set

__all__ = ["HeteroscedasticL2"]


class HeteroscedasticL2(Pointwise):
    """weight/2 Σ (A x - y)²/v: Gaussian noise whose variance differs, and is learned.

    Ψ(A x; y) = w/2 Σ_i (A x - y)_i²/v_i with a map v of variances, the same for all rows, stored
    and learned as its logarithm. ``SquaredL2.of_variance`` is for variances that are known.

    The lower level sees 1/v alone: the normaliser ½ Σ log v of the likelihood does not depend on
    x, and is left out of Ψ. It is the upper-level loss that decides on v, so that v means how far
    a datum is to be trusted, which is its noise only if the model is right. One factor of (w, v,
    weight of the regulariser) is redundant: with a map to be learned, keep the others fixed.

    Args:
        operator: A, the identity if None.
        variance: v, a number or a map (h', w') for all channels or (c', h', w')
            [grey value squared].
        weight: factor w [1].
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a variance or weight that is not positive and finite, a map of other
            dimensions, an unknown name in ``learn``; later data that the map does not fit.

    Example:
        >>> fidelity = HeteroscedasticL2(variance=torch.tensor([[1.0, 4.0]]))
        >>> x, y = torch.full((1, 1, 1, 2), 2.0), torch.zeros(1, 1, 1, 2)
        >>> fidelity.grad(x, y).flatten()
        tensor([2.0000, 0.5000], grad_fn=<ViewBackward0>)
    """

    log_variance: Tensor

    def __init__(
        self,
        operator: Operator | None = None,
        variance: float | Tensor = 1.0,
        weight: float = 1.0,
        *,
        learn: Collection[str] = ("variance",),
    ) -> None:
        """Forward operator, variances and weight."""
        check_learn(learn, ("weight", "variance"))
        super().__init__(operator, weight, learn=[n for n in learn if n == "weight"])
        self.log_variance = positive_parameter(variance, "variance", learn)
        if self.log_variance.ndim not in (0, 2, 3):
            what = "variance must be a number or a map (h', w') or (c', h', w')"
            raise InputError(what, given=tuple(self.log_variance.shape))
        self._shape = tuple(self.log_variance.shape)

    @property
    def variance(self) -> Tensor:
        """v."""
        return self.log_variance.exp()

    def sets(self) -> Mapping[str, Set]:
        """Positive and bounded."""
        return {**super().sets(), "log_variance": around(self.log_variance)}

    def options(self) -> dict[str, object]:
        """What builds it again; the weight itself travels as a parameter."""
        named = {"weight": self.log_weight, "variance": self.log_variance}
        learn = tuple(name for name, own in named.items() if own.requires_grad)
        return {**super().options(), "variance": self.variance.detach(), "learn": learn}

    def accounted(self) -> frozenset[str]:
        """Weight and variances, and what the operator has."""
        return super().accounted() | {"log_variance"}

    def broadcasts(self) -> frozenset[str]:
        """The weight, and variances for all channels."""
        own = {"log_variance"} if len(self._shape) < 3 else set[str]()
        return super().broadcasts() | own

    def check(self, y: Tensor) -> None:
        """Data of the operator, of the size of the map."""
        super().check(y)
        if self._shape and tuple(y.shape[-len(self._shape) :]) != self._shape:
            given = f"variances {self._shape} for data {tuple(y.shape[1:])}"
            raise InputError("every datum needs a variance", given=given)

    def widened(self, y: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Around the data, where pixels are seen."""
        return around_data(self.operator, y, lower, upper)

    def _trust(self, like: Tensor) -> Tensor:
        """1/v, in the precision and the shape of ``like``."""
        return (-self.log_variance.to(like)).exp().expand_as(like)

    def _point(self, t: Tensor, z: Tensor) -> Tensor:
        return 0.5 * self._trust(t) * (t - z).square()

    def _slope(self, t: Tensor, z: Tensor) -> Tensor:
        return self._trust(t) * (t - z)

    def _curvature(self, t: Tensor, z: Tensor) -> Tensor:
        return self._trust(t)

    def _majorised(self, t: Tensor, z: Tensor) -> Tensor:
        """The curvature itself."""
        return self._trust(t)

    def _extremes(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the greatest 1/v."""
        trust = self._trust(z.double()).detach().flatten(1)
        return trust.amin(1), trust.amax(1)

    def _jump(self, t: Tensor, z: Tensor, reach: Tensor) -> Tensor:
        """The curvature is constant."""
        return torch.zeros_like(t)

    def _steepness(self, t: Tensor, z: Tensor, reach: Tensor) -> Tensor:
        """The curvature is constant."""
        return torch.zeros_like(t)

    def _offset(self, z: Tensor) -> Tensor:
        """‖y/v‖."""
        return rows.length(self._trust(z.double()).detach() * z)

    def _by_parameters(self, t: Tensor, z: Tensor, reach: Tensor) -> Sequence[Turned]:
        """Of log v: -(t - z)/v."""
        if not self.log_variance.requires_grad:
            return ()
        return (Turned(-self._slope(t, z), self._trust(t), shape=self._shape),)

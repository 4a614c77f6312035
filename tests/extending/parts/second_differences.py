"""A regulariser of one's own."""

from collections.abc import Collection

import torch
from torch import Tensor

from bilevel.extend import (
    POTENTIALS,
    FilteredRegulariser,
    SeparablePenalty,
    check_learn,
    positive_parameter,
)


class SecondDifferences(FilteredRegulariser):
    """Few changes of slope along rows.

    R(x) = Σ_i w φ_ν((x_{i-1} - 2 x_i + x_{i+1})).

    Args:
        weight: factor w [1].
        smoothing: where the potential turns linear, ν [grey value].
        learn: names of what is learned.
    """

    def __init__(
        self,
        weight: float = 0.05,
        smoothing: float = 0.01,
        *,
        learn: Collection[str] = ("weight",),
    ) -> None:
        super().__init__()
        check_learn(learn, ("weight", "smoothing"))
        self.penalty = SeparablePenalty(POTENTIALS["charbonnier"])
        self.log_weight = positive_parameter(weight, "weight", learn)
        self.log_smoothing = positive_parameter(smoothing, "smoothing", learn)

    def features(self, x: Tensor) -> Tensor:  # W x
        return x[..., :-2] - 2 * x[..., 1:-1] + x[..., 2:]

    def features_adjoint(self, p: Tensor, image_shape: tuple[int, ...]) -> Tensor:  # Wᵀ p, exactly
        pad = torch.nn.functional.pad
        return pad(p, (0, 2)) - 2 * pad(p, (1, 1)) + pad(p, (2, 0))

    def gram_bound(self, scale: Tensor, image_shape: tuple[int, ...]) -> Tensor:
        """A proved bound of ‖Wᵀ diag(scale) W‖."""
        return 16 * scale.max().double()

    def feature_norm(self) -> Tensor:  # a proved bound of the norm of W's rows
        return torch.tensor(6.0, dtype=torch.float64).sqrt()

    def options(self) -> dict[str, object]:  # builds it again from a saved fit
        learn = [n for n in ("weight", "smoothing") if getattr(self, f"log_{n}").requires_grad]
        return {"learn": learn}

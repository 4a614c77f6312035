"""What the parameters of an operator do to the derivatives of a quadratic behind it."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.model.bounds import Variation
from bilevel.model.operators.operator import Operator

__all__ = ["turned"]


def turned(
    operator: Operator, weight: Tensor, x: Tensor, residual: Tensor, q: Tensor, radius: Tensor
) -> Variation:
    """Of w/2 ‖A_θ x - y‖², r = A x - y, by the parameters of A alone; ``radius`` (b,).

    With ‖∂A δ‖ <= s ‖δ‖ and B δ = w ((∂A δ)ᵀ r + Aᵀ (∂A δ) x), over the ball ‖x' - x‖ <= radius

        ‖(B(x') - B(x))ᵀ q‖ <= w s (‖q‖ ‖A‖ + ‖A q‖) radius,
        ‖B(x')‖ <= w s (‖r‖ + ‖A‖ ‖x‖ + 2 ‖A‖ radius).
    """
    shape = x.shape[1], x.shape[2], x.shape[3]
    sensitivity = operator.sensitivity(shape)
    if sensitivity == 0:
        return Variation.zero(x)
    scale = weight.detach().double() * sensitivity
    norm = operator.gram_bounds(shape).upper ** 0.5
    reach = radius.double()
    bent = rows.length(q) * norm + rows.length(operator(q))
    pull = rows.length(residual) + norm * (rows.length(x) + 2 * reach)
    cross = torch.where(reach > 0, scale * bent * reach, 0.0)
    return Variation(torch.zeros_like(cross), cross, scale * pull)

"""Error bounds for the filters of a cascade: how ∂∇R/∂(filters) changes over a ball."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.model.bounds import Variation
from bilevel.model.regularisers.cascade import analyse, layer_norm, synthesise

__all__ = ["Forces", "filter_variation"]


@dataclass(frozen=True)
class Forces:
    """Of ∇R = Wᵀ f(W x) at x and what they can change by within the ball; u = W q.

    Args:
        force: f(W x), (b, m, h, w).
        bent: f'(W x) u.
        stiff: a bound of |f'|, ().
        move: a bound of ‖W(x' - x)‖, (b,).
        bend: a bound of ‖(f'(W x') - f'(W x)) u‖, (b,).
    """

    force: Tensor
    bent: Tensor
    stiff: Tensor
    move: Tensor
    bend: Tensor


def filter_variation(
    banks: Sequence[Tensor], norm: Tensor, x: Tensor, q: Tensor, radius: Tensor, f: Forces
) -> Variation:
    """That of the banks of W = W_L ⋯ W_1/norm, all of them learned; ``hessian`` is 0.

    By the product rule a change δ of bank l changes ∇R by δWᵀ f + Wᵀ f' δW x, with δW in the place
    of W_l. Since ‖δ v‖ <= √taps ‖δ‖ ‖v‖ (Cauchy-Schwarz, a row at a time), with the layers below
    and above l applied to what is known and their norms for the rest,

        |qᵀ(B' - B)δ| <= √taps ‖δ‖ [|above| stiff move |W_< q| + |above| bend |W_< x'|
                                    + ‖W_>ᵀ f' u‖ |below| radius].

    Derived for this project; tests try to violate it.
    """
    norms = torch.stack([layer_norm(bank) for bank in banks])
    scale, radius = 1 / norm.double(), radius.double()
    crosses: list[Tensor] = []
    reaches: list[Tensor] = []
    whole = norms.prod() * scale
    for place, bank in enumerate(banks):
        taps = math.sqrt(bank.shape[2] * bank.shape[3])
        below, above = norms[:place].prod(), norms[place + 1 :].prod() * scale
        before, after = banks[:place], banks[place + 1 :]
        image = rows.length(analyse(before, x)) + below * radius
        adjoint = rows.length(analyse(before, q))
        bent = rows.length(synthesise(after, f.bent)) * scale
        pulled = rows.length(synthesise(after, f.force)) * scale
        cross = above * (f.stiff * f.move * adjoint + f.bend * image) + bent * below * radius
        reach = below * (pulled + above * f.stiff * f.move) + whole * f.stiff * above * image
        crosses.append(taps * cross)
        reaches.append(taps * reach)
    cross, reach = (torch.stack(part).square().sum(0).sqrt() for part in (crosses, reaches))
    return Variation(torch.zeros_like(cross), cross, reach)

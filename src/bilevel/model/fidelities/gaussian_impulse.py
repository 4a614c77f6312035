"""Outliers beside noise of a detector: Gaussian and impulse noise, each with its share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

from torch import Tensor

from bilevel.model.fidelities.robust import Robust
from bilevel.model.operators.operator import Operator
from bilevel.model.potentials import POTENTIALS, Potential

__all__ = ["GaussianImpulse"]

OFF_TIES = 0.13
"""Of the contrast: twice a weight of total variation is a tie, where pixels turn into impulses."""


class GaussianImpulse(Robust):
    """Gaussian and impulse noise at once, by infimal convolution: the Huber function.

    Ψ(A x; y) = w Σ min over v of λ₁ |v| + λ₂/2 (y - A x - v)² (Calatroni, De los Reyes, Schönlieb
    2017, arXiv 1611.00690), v the impulses and the rest Gaussian noise. With r = y - A x and
    ν = λ₁/λ₂ the minimum is

        λ₂/2 r² where |r| <= ν,   λ₁ |r| - λ₁²/(2 λ₂) beyond,

    at v = sign(r) max(|r| - ν, 0) (:meth:`impulses`). For λ₁ → ∞ it is ``SquaredL2`` of weight λ₂,
    for λ₂ → ∞ ``L1`` of weight λ₁. Convex, L = w λ₂ ‖A‖²; its curvature jumps where |r| = ν.

    Data of :class:`~bilevel.data.ImpulseNoise` with Gaussian noise of deviation σ beside a few
    impulses ask for about λ₁ = 1.5 σ λ₂. One factor of (w, λ₁, λ₂, weight of the regulariser) is
    redundant: learn at most three of them, or the loss is flat along a ray.

    Args:
        operator: A, the identity if None.
        gaussian: λ₂, the weight of Gaussian noise [1].
        impulse: λ₁, the weight of impulses [grey value]; 0.13 of the contrast if None.
        weight: w [1].
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a number that is not positive, an unknown name in ``learn``.

    Example:
        >>> import torch
        >>> fidelity = GaussianImpulse(gaussian=1.0, impulse=1.0)
        >>> x, y = torch.tensor([0.5, 3.0]).view(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
        >>> fidelity(x, y)  # 1/8, and 3 - 1/2
        tensor([2.6250])
        >>> fidelity.impulses(x, y).flatten()
        tensor([-0., -2.])
    """

    potential: ClassVar[Potential] = POTENTIALS["huber"]
    powers: ClassVar[Mapping[str, tuple[int, int]]] = {"gaussian": (1, -1), "impulse": (0, 1)}

    def __init__(
        self,
        operator: Operator | None = None,
        gaussian: float = 1.0,
        impulse: float | None = None,
        weight: float = 1.0,
        *,
        learn: Collection[str] = (),
    ) -> None:
        """Forward operator, both weights of noise, and that of their sum."""
        own = {"gaussian": (gaussian, 1.0), "impulse": (impulse, OFF_TIES)}
        super().__init__(operator, weight, learn, **own)

    def impulses(self, x: Tensor, y: Tensor) -> Tensor:
        """v, what of y - A x is taken for impulses, (b, c', h', w') [grey value]."""
        residual, turn = y - self.operator(x), self._scales(y)[1]
        return residual.sign() * (residual.abs() - turn).clamp_min(0.0)

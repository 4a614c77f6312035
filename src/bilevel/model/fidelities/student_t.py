"""Noise with heavy tails: Student's t."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

from bilevel.model.fidelities.robust import LARGE, Robust
from bilevel.model.operators.operator import Operator
from bilevel.model.potentials import POTENTIALS, Potential

__all__ = ["StudentT"]


class StudentT(Robust):
    """weight/2 Σ s² log(1 + (A x - y)²/s²): heavy tails, Student's t.

    Ψ(A x; y) = w s²/2 Σ log(1 + r²/s²), r = A x - y: up to a constant σ² times minus the
    log-likelihood of residuals that follow Student's t of d degrees of freedom and scale σ, with
    s = σ √d and w = (d + 1)/d (Lange, Little, Taylor 1989). Outliers pull the less the farther off
    they are. For s → ∞ it is ``SquaredL2``.

    Not convex where |r| > s: -w/8 ‖A‖² <= ∇²Ψ <= w ‖A‖². Distances to the exact minimiser are
    proved only beside a regulariser that makes up for that, a ridge of more than w/8 for one.

    Data of :class:`~bilevel.data.StudentTNoise` are of this law.

    Args:
        operator: A, the identity if None.
        scale: s [grey value]; a tenth of the contrast if None.
        weight: factor w [1].
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a number that is not positive, an unknown name in ``learn``.

    Example:
        >>> import torch
        >>> x, y = torch.full((1, 1, 1, 1), 2.0), torch.zeros(1, 1, 1, 1)
        >>> round(StudentT(scale=1.0).grad(x, y).item(), 6)  # 2/(1 + 4)
        0.4
    """

    convex = False
    potential: ClassVar[Potential] = POTENTIALS["student-t"]
    powers: ClassVar[Mapping[str, tuple[int, int]]] = {"scale": (0, 1)}

    def __init__(
        self,
        operator: Operator | None = None,
        scale: float | None = None,
        weight: float = 1.0,
        *,
        learn: Collection[str] = (),
    ) -> None:
        """Forward operator, scale and weight."""
        super().__init__(operator, weight, learn, scale=(scale, LARGE))

"""How near the proved bounds of ‖A‖ are to ‖A‖, of operators alone, added, composed and stacked.

    python benchmarks/operator_norms.py

The norm is that of the dense matrix in float64, on images of 24x25 pixels (and pairs of 16x17).
Of tomography the bound is the one of large matrices, by Schur's test; small ones are exact.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import prod
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import arguments, save, table

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.model.operators import (
    Convolution,
    Differences,
    Downsampling,
    FourierMask,
    GaussianBlur,
    Identity,
    Mask,
    Matrix,
    MultiCoil,
    Operator,
    Radon,
    Shape,
    Stacked,
    matrix,
)

SHAPE: Shape = (1, 24, 25)
EVEN: Shape = (1, 24, 24)
PAIR: Shape = (2, 16, 17)
DENSE = torch.randn(300, prod(SHAPE), generator=generator(0, "matrix"), dtype=torch.float64)
MOTION = torch.eye(7) / 7
SKEWED = torch.tensor([[0.0, 0.1, 0.3], [0.0, 0.3, 0.1], [0.2, 0.0, 0.0]])
SEEN = torch.rand(24, 25, generator=generator(0, "mask")) < 0.5

OPERATORS: dict[str, tuple[Callable[[], Operator], Shape]] = {
    "Identity": (Identity, SHAPE),
    "Mask": (lambda: Mask(SEEN), SHAPE),
    "Differences": (Differences, SHAPE),
    "Matrix, random": (lambda: Matrix(DENSE, SHAPE), SHAPE),
    "the same by Schur's test, as above rank 4096": (lambda: Matrix(DENSE, SHAPE), SHAPE),
    "FourierMask": (lambda: FourierMask.lines(SHAPE[1:], 4.0, 0.1, 0), SHAPE),
    "MultiCoil, birdcage": (lambda: MultiCoil(torch.ones(16, 17), birdcage()), PAIR),
    "MultiCoil, lines": (
        lambda: MultiCoil(FourierMask.lines(PAIR[1:], 3.0, 0.2, 0).mask, birdcage()),
        PAIR,
    ),
    "MultiCoil, three coils of six": (
        lambda: MultiCoil(FourierMask.lines(PAIR[1:], 3.0, 0.2, 0).mask, birdcage(6)[:3]),
        PAIR,
    ),
    **{
        f"GaussianBlur, {b}": (lambda b=b: GaussianBlur(1.2, 9, b), SHAPE)  # type: ignore[misc]
        for b in ("circular", "zero", "reflecting", "valid")
    },
    **{
        f"motion blur, {b}": (lambda b=b: Convolution(MOTION, b), SHAPE)  # type: ignore[misc]
        for b in ("circular", "zero", "reflecting", "valid")
    },
    "skewed kernel, reflecting": (lambda: Convolution(SKEWED, "reflecting"), SHAPE),
    "Downsampling by 2": (lambda: Downsampling(2), EVEN),
    "Downsampling by 3 and 4": (lambda: Downsampling((3, 4)), EVEN),
    "Radon": (lambda: Radon(SHAPE[1:], 20), SHAPE),
    "Radon, few angles": (lambda: Radon(SHAPE[1:], 5), SHAPE),
    "Radon, fan": (lambda: Radon(SHAPE[1:], 20, source=60.0, behind=20.0), SHAPE),
    "blur, then down-sampled": (lambda: Downsampling(2) @ GaussianBlur(1.2, 9), EVEN),
    "blur, then masked": (lambda: Mask(SEEN) @ GaussianBlur(1.2, 9), SHAPE),
    "blur of a blur": (lambda: GaussianBlur(1.2, 9) @ GaussianBlur(0.8, 9), SHAPE),
    "blur, then tomography": (lambda: Radon(SHAPE[1:], 20) @ GaussianBlur(1.2, 9), SHAPE),
    "blur + identity": (lambda: GaussianBlur(1.2, 9) + Identity(), SHAPE),
    "identity - blur": (lambda: Identity() + -1.0 * GaussianBlur(1.2, 9), SHAPE),
    "blur beside a mask": (
        lambda: Stacked([GaussianBlur(1.2, 9), Mask(SEEN)], SHAPE),
        SHAPE,
    ),
    "blurs of two widths": (
        lambda: Stacked([GaussianBlur(1.2, 9), GaussianBlur(2.0, 9)], SHAPE),
        SHAPE,
    ),
    "mask beside its complement": (lambda: Stacked([Mask(SEEN), Mask(~SEEN)], SHAPE), SHAPE),
}


def birdcage(coils: int = 4) -> torch.Tensor:
    """Sensitivities on a circle."""
    return bl.data.birdcage(PAIR[1:], coils)


def norm(operator: Operator, shape: Shape) -> float:
    """Of the dense matrix."""
    eye = torch.eye(prod(shape), dtype=torch.float64).reshape(-1, *shape)
    with torch.no_grad():
        return float(torch.linalg.matrix_norm(operator(eye).flatten(1), 2))


def schur(operator: Operator, shape: Shape) -> float:
    """The bound that a matrix of any size has; small ones have their eigenvalues."""
    exact, matrix._EXACT_RANK = matrix._EXACT_RANK, 0
    try:
        return operator.gram_bounds(shape).upper ** 0.5
    finally:
        matrix._EXACT_RANK = exact


def main() -> None:
    """One line an operator."""
    arguments(__doc__ or "")
    lines, numbers = [], {}
    for name, (make, shape) in OPERATORS.items():
        operator = make().double()
        large = "Schur" in name or "Radon" in name or "tomography" in name
        bound = schur(operator, shape) if large else operator.gram_bounds(shape).upper ** 0.5
        true = norm(operator, shape)
        numbers[name] = {"norm": true, "bound": bound}
        lines.append([name, f"{true:.4f}", f"{bound:.4f}", f"{bound / true:.3f}"])
    save("operator_norms", table(["operator", "norm", "proved bound", "ratio"], lines), numbers)


if __name__ == "__main__":
    main()

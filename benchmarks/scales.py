"""The same pictures in other units of grey values: PSNR and work with nothing but defaults.

    python benchmarks/scales.py

TV denoising, TV deblurring and fields of experts, learned from and used on embedded pictures times
1e-6, 1, 255 and 65535 and in Hounsfield units (times 4000, minus 1000), and a weight chosen by
SURE. Everything is left to the data. In float32 the path of a search hangs on rounding, in float64
it does not.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import arguments, save, table

import bilevel as bl
from bilevel.report import psnr

UNITS = {
    "1": (1.0, 0.0),
    "1e-6": (1e-6, 0.0),
    "255": (255.0, 0.0),
    "65535": (65535.0, 0.0),
    "hounsfield": (4000.0, -1000.0),
}
BLUR = bl.operators.Convolution(torch.full((5, 5), 1 / 25))
STEPS = 15


def pairs(
    operator: bl.operators.Operator, factor: float, offset: float, dtype: torch.dtype
) -> bl.data.Pairs:
    """Four pictures of 48x48 from black to white, the same draw of noise in every unit."""
    x = bl.data.embedded_images(size=48)[:4].double()
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    wide = operator.double()
    plain = bl.data.simulate((x - low) / (high - low), wide, bl.data.GaussianNoise(0.08), seed=0)
    y, target = (factor * part + offset for part in (plain.y, plain.target))
    return bl.data.Pairs(y.to(dtype), target.to(dtype), plain.ids)


def learned(task: str, factor: float, offset: float, dtype: torch.dtype) -> tuple[float, int]:
    """PSNR [dB] of the reconstructions and gradients that learning took."""
    operator = BLUR if task == "deblurring" else bl.operators.Identity()
    tv = bl.regularisers.TotalVariation()
    foe = bl.regularisers.FieldsOfExperts(bl.regularisers.dct_filters(3), boundary="valid")
    data = pairs(operator, factor, offset, dtype)
    regulariser = foe if task == "experts" else tv
    energy = bl.Variational(bl.fidelities.SquaredL2(operator), regulariser).to(dtype)
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), data)
    fit = bl.learn(problem, budget=bl.Budget(steps=STEPS))
    x = fit.reconstruct(data.y).x
    return float(psnr(x, data.target, peak=factor).mean()), fit.cost.gradient_evaluations


def chosen(factor: float, offset: float, dtype: torch.dtype) -> tuple[float, int]:
    """PSNR [dB] and gradients of weights chosen by SURE."""
    data = pairs(bl.operators.Identity(), factor, offset, dtype)
    tv = bl.regularisers.TotalVariation(1.0)
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).to(dtype)
    choice = bl.select(energy, data.y, bl.rules.SURE(0.08 * factor))
    level = float(psnr(choice.x, data.target, peak=factor).mean())
    return level, choice.cost.gradient_evaluations


def main() -> None:
    """Write benchmarks/results/scales.{json,md}."""
    arguments(__doc__ or "")
    rows: list[dict[str, object]] = []
    for dtype in (torch.float64, torch.float32):
        for task in ("denoising", "deblurring", "experts", "sure"):
            first: tuple[float, int] | None = None
            for unit, (factor, offset) in UNITS.items():
                found = (
                    chosen(factor, offset, dtype)
                    if task == "sure"
                    else learned(task, factor, offset, dtype)
                )
                first = first or found
                row = {
                    "task": task,
                    "precision": str(dtype).removeprefix("torch."),
                    "unit": unit,
                    "PSNR [dB]": round(found[0], 3),
                    "difference [dB]": round(found[0] - first[0], 4),
                    "gradients": found[1],
                    "ratio": round(found[1] / first[1], 3),
                }
                rows.append(row)
                print(row, flush=True)
    header = list(rows[0])
    lines = [[str(row[key]) for key in header] for row in rows]
    save("scales", table(header, lines), {"rows": rows})


if __name__ == "__main__":
    main()

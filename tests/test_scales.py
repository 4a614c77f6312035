"""The same pictures in other units of grey values: the same results at the same cost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import bilevel as bl
from bilevel.cli.app import app
from bilevel.report import psnr

UNITS = {"1e-6": (1e-6, 0.0), "255": (255.0, 0.0), "65535": (65535.0, 0.0)}
HOUNSFIELD = {"hounsfield": (4000.0, -1000.0)}
"""Factor and offset of grey values."""


@dataclass(frozen=True)
class Found:
    """What must not depend on the unit."""

    level: float
    work: int


def pictures(count: int = 2, side: int = 32) -> Tensor:
    """Crops with grey values from 0 to 1."""
    name = bl.data.embedded_names()[0]
    image = bl.data.embedded_image(name, grey=True)
    crops = [image[..., 60 * k + 40 :, 60 * k + 40 :][..., :side, :side] for k in range(count)]
    x = torch.cat(crops)
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low)


def pairs(operator: bl.operators.Operator, factor: float, offset: float) -> bl.data.Pairs:
    """The same draw of noise in every unit."""
    plain = bl.data.simulate(pictures(), operator, bl.data.GaussianNoise(0.08))
    return bl.data.Pairs(factor * plain.y + offset, factor * plain.target + offset, plain.ids)


def learned(
    regulariser: bl.regularisers.Regulariser,
    operator: bl.operators.Operator,
    factor: float,
    offset: float,
    steps: int,
) -> Found:
    """By all defaults."""
    data = pairs(operator, factor, offset)
    energy = bl.Variational(bl.fidelities.SquaredL2(operator), regulariser)
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), data)
    fit = bl.learn(problem, budget=bl.Budget(steps=steps))
    solution = fit.reconstruct(data.y)
    level = float(psnr(solution.x, data.target, peak=factor).mean())
    return Found(level, fit.cost.gradient_evaluations)


def denoising(factor: float, offset: float) -> Found:
    """A weight and a smoothing of total variation."""
    tv = bl.regularisers.TotalVariation()
    return learned(tv, bl.operators.Identity(), factor, offset, 8)


def exact(factor: float, offset: float) -> Found:
    """Total variation itself."""
    tv = bl.regularisers.ExactTotalVariation()
    return learned(tv, bl.operators.Identity(), factor, offset, 4)


def deblurring(factor: float, offset: float) -> Found:
    """The same behind a blur."""
    blur = bl.operators.Convolution(bl.operators.gaussian_kernel(5, 1.0))
    return learned(bl.regularisers.TotalVariation(), blur, factor, offset, 6)


def experts(factor: float, offset: float) -> Found:
    """Filters and weights."""
    foe = bl.regularisers.FieldsOfExperts(bl.regularisers.dct_filters(3))
    return learned(foe, bl.operators.Identity(), factor, offset, 6)


def ridge(factor: float, offset: float) -> Found:
    """A cascade of filters with a profile."""
    banks = [torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))]
    regulariser = bl.regularisers.RidgeRegulariser(banks)
    return learned(regulariser, bl.operators.Identity(), factor, offset, 4)


def chosen(rule: Callable[[float], bl.rules.Rule]) -> Callable[[float, float], Found]:
    """A weight by a rule."""

    def run(factor: float, offset: float) -> Found:
        data = pairs(bl.operators.Identity(), factor, offset)
        tv = bl.regularisers.TotalVariation(1.0)
        choice = bl.select(
            bl.Variational(bl.fidelities.SquaredL2(), tv), data.y, rule(0.08 * factor)
        )
        assert all(one.name == "FOUND" for one in choice.outcome)
        level = float(psnr(choice.x, data.target, peak=factor).mean())
        return Found(level, choice.cost.gradient_evaluations)

    return run


def searched(factor: float, offset: float) -> Found:
    """A grid, whose accuracy is a default of its own."""
    data = pairs(bl.operators.Identity(), factor, offset)
    tv = bl.regularisers.TotalVariation(learn=("weight",))
    problem = bl.BilevelProblem(
        bl.Variational(bl.fidelities.SquaredL2(), tv), bl.losses.PSNR(), data
    )
    centre = float(problem.theta["regulariser.log_weight"])
    box = {"regulariser.log_weight": (centre - 1, centre + 1)}
    fit = bl.learn(problem, bl.algorithms.Grid(box, points=3), budget=bl.Budget(steps=5))
    assert problem.loss == bl.losses.PSNR(peak=factor if factor != 4000 else 4000.0)
    return Found(fit.history[-1].psnr, fit.cost.gradient_evaluations)


TASKS: dict[str, Callable[[float, float], Found]] = {
    "denoising": denoising,
    "exact": exact,
    "experts": experts,
    "ridge": ridge,
    "deblurring": deblurring,
    "grid": searched,
    "sure": chosen(bl.rules.SURE),
    "discrepancy": chosen(bl.rules.Discrepancy),
    "whiteness": chosen(lambda sigma: bl.rules.Whiteness()),
}
_UNIT: dict[str, Found] = {}


def in_unit(task: str) -> Found:
    """With grey values from 0 to 1, computed once."""
    if task not in _UNIT:
        _UNIT[task] = TASKS[task](1.0, 0.0)
    return _UNIT[task]


@pytest.mark.parametrize("unit", [*UNITS, *HOUNSFIELD])
@pytest.mark.parametrize("task", TASKS)
def test_results_do_not_depend_on_the_unit(task: str, unit: str) -> None:
    if unit in HOUNSFIELD and task == "deblurring":
        pytest.skip("zeros beyond the border do not move with an offset")
    expected, found = in_unit(task), TASKS[task](*{**UNITS, **HOUNSFIELD}[unit])
    assert found.level == pytest.approx(expected.level, abs=0.01)
    assert found.work == pytest.approx(expected.work, rel=0.2)

"""The same pictures in other units of grey values: the same results at the same cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.contrast import contrast
from bilevel.report import psnr
from bilevel.solve.policy import LEARNING

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


def blur() -> bl.operators.Operator:
    """Three by three pixels."""
    return bl.operators.Convolution(torch.full((3, 3), 1 / 9).double())


def pairs(operator: bl.operators.Operator, factor: float, offset: float) -> bl.data.Pairs:
    """The same draw of noise in every unit."""
    plain = bl.data.simulate(pictures().double(), operator, bl.data.GaussianNoise(0.08))
    return bl.data.Pairs(factor * plain.y + offset, factor * plain.target + offset, plain.ids)


def learned(
    regulariser: bl.regularisers.Regulariser,
    operator: bl.operators.Operator,
    factor: float,
    offset: float,
    *,
    loss: bl.losses.Loss | None = None,
    steps: int = 5,
) -> Found:
    """By all defaults, in float64: how a search in float32 goes on hangs on rounding."""
    data = pairs(operator, factor, offset)
    energy = bl.Variational(bl.fidelities.SquaredL2(operator), regulariser).double()
    problem = bl.BilevelProblem(energy, loss or bl.losses.SquaredError(), data)
    fit = bl.learn(problem, budget=bl.Budget(steps=steps))
    solution = fit.reconstruct(data.y)
    assert bool(solution.converged.all())
    assert fit.history[-1].psnr == pytest.approx(in_decibels(fit.history[-1].value, loss, factor))
    level = float(psnr(solution.x, data.target).mean())
    return Found(level, fit.cost.gradient_evaluations)


def in_decibels(value: float, loss: bl.losses.Loss | None, peak: float) -> float:
    """What a loss stands for, where targets reach from black to white."""
    return 10 * math.log10(peak**2 / value) if loss is None else -value


def denoising(factor: float, offset: float) -> Found:
    """A weight and a smoothing of total variation."""
    return learned(bl.regularisers.TotalVariation(), bl.operators.Identity(), factor, offset)


def with_psnr(factor: float, offset: float) -> Found:
    """The same with the mean PSNR as the loss."""
    tv, identity = bl.regularisers.TotalVariation(learn=("weight",)), bl.operators.Identity()
    return learned(tv, identity, factor, offset, loss=bl.losses.PSNR())


def exact(factor: float, offset: float) -> Found:
    """Total variation itself."""
    tv = bl.regularisers.ExactTotalVariation()
    return learned(tv, bl.operators.Identity(), factor, offset, steps=1)


def deblurring(factor: float, offset: float) -> Found:
    """Behind a blur."""
    return learned(bl.regularisers.TotalVariation(), blur(), factor, offset, steps=2)


def experts(factor: float, offset: float) -> Found:
    """Filters and weights."""
    foe = bl.regularisers.FieldsOfExperts(bl.regularisers.dct_filters(3))
    return learned(foe, bl.operators.Identity(), factor, offset)


def ridge(factor: float, offset: float) -> Found:
    """A cascade of filters with a profile."""
    banks = [torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))]
    return learned(
        bl.regularisers.RidgeRegulariser(banks), bl.operators.Identity(), factor, offset, steps=3
    )


def chosen(rule: Callable[[float], bl.Rule]) -> Callable[[float, float], Found]:
    """A weight by a rule, in float32."""

    def run(factor: float, offset: float) -> Found:
        data = pairs(bl.operators.Identity(), factor, offset)
        energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(1.0))
        choice = bl.select(energy, data.y[:1].float(), rule(0.08 * factor))
        assert [one.name for one in choice.outcome] == ["FOUND"]
        level = float(psnr(choice.x, data.target[:1].float()).mean())
        return Found(level, choice.cost.gradient_evaluations)

    return run


def searched(factor: float, offset: float) -> Found:
    """A grid, whose accuracy is a default of its own."""
    data = pairs(bl.operators.Identity(), factor, offset)
    tv = bl.regularisers.TotalVariation(learn=("weight",))
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
    problem = bl.BilevelProblem(energy, bl.losses.PSNR(), data)
    centre = float(problem.theta["regulariser.log_weight"])
    box = {"regulariser.log_weight": (centre - 1, centre + 1)}
    fit = bl.learn(problem, bl.algorithms.Grid(box, points=3), budget=bl.Budget(steps=5))
    return Found(fit.history[-1].psnr, fit.cost.gradient_evaluations)


TASKS: dict[str, Callable[[float, float], Found]] = {
    "denoising": denoising,
    "psnr": with_psnr,
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


QUICK = {("denoising", "1e-6"), ("denoising", "hounsfield"), ("experts", "65535"), ("grid", "255")}
NOT_INVARIANT = {("ridge", "hounsfield")}
"""Its filters see zeros beyond the border, which do not move with an offset."""
CASES = [
    pytest.param(task, unit, marks=[] if (task, unit) in QUICK else pytest.mark.long)
    for task in TASKS
    for unit in (*UNITS, *HOUNSFIELD)
    if (task, unit) not in NOT_INVARIANT
]


@pytest.mark.parametrize(("task", "unit"), CASES)
def test_results_do_not_depend_on_the_unit(task: str, unit: str) -> None:
    expected, found = in_unit(task), TASKS[task](*{**UNITS, **HOUNSFIELD}[unit])
    assert found.level == pytest.approx(expected.level, abs=0.01)
    assert found.work == pytest.approx(expected.work, rel=0.2)


def test_what_is_given_is_taken_as_it_is() -> None:
    data = pairs(bl.operators.Identity(), 255.0, 0.0)
    tv = bl.regularisers.TotalVariation(0.3, 0.02)
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
    bl.BilevelProblem(energy, bl.losses.PSNR(peak=7.0), data)
    assert [tv.weight.item(), tv.smoothing.item()] == pytest.approx([0.3, 0.02])
    mixed = bl.regularisers.TotalVariation(0.3)
    first = bl.Variational(bl.fidelities.SquaredL2(), mixed).double()
    first.at(data.y)
    smoothing = mixed.smoothing.item()
    assert mixed.weight.item() == pytest.approx(0.3) and 1 < smoothing < 5
    first.at(1e-3 * data.y)  # only the first data count
    assert mixed.smoothing.item() == smoothing


def test_settled_values_survive_saving(tmp_path: Path) -> None:
    data = pairs(bl.operators.Identity(), 255.0, 0.0)
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov()).double()
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), data)
    fit = bl.learn(problem, budget=bl.Budget(steps=1))
    loaded = bl.load(fit.save(tmp_path))
    loaded.energy.at(data.y)
    for name, value in loaded.energy.named_parameters():
        assert torch.equal(value, dict(fit.energy.named_parameters())[name])


def test_a_useless_strong_convexity_counts_as_none() -> None:
    ridge = bl.regularisers.Tikhonov(1e-12)
    mask = bl.operators.Mask(torch.eye(8))
    objective = bl.Variational(
        bl.fidelities.SquaredL2(mask), ridge + bl.regularisers.TotalVariation()
    )
    for dtype, proved in ((torch.float32, False), (torch.float64, True)):
        y = torch.ones(1, 1, 8, 8, dtype=dtype)
        found = LEARNING.tolerance(objective.to(dtype).at(y), 1e-3, dtype=dtype)
        assert math.isfinite(found.rms) is proved


def test_contrast_is_robust_and_moves_with_the_unit() -> None:
    x = torch.linspace(0, 1, 10_000).view(1, 1, 100, 100).double()
    broken = x.clone()
    broken[..., 0, :10] = 1e6
    for image in (x, broken):
        assert contrast(image) == pytest.approx(0.99, abs=1e-2)
        assert contrast(-3000 * image + 7) == pytest.approx(3000 * contrast(image))

"""The weight as a power of the noise level, calibrated once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError


def energy() -> bl.Variational:
    return bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(1.0, 0.01))


def noisy(levels: tuple[float, ...], count: int = 3) -> tuple[torch.Tensor, ...]:
    x = bl.data.embedded_images(size=48)[:count]
    rng = torch.Generator().manual_seed(0)
    y = torch.cat([x + s * torch.randn(x.shape, generator=rng) for s in levels])
    return y, x.repeat(len(levels), 1, 1, 1), torch.tensor(levels).repeat_interleave(count)


def test_the_weight_is_the_power_that_was_given() -> None:
    y, _, levels = noisy((0.05, 0.1), 1)
    rule = bl.rules.APriori(sigma=levels.double(), factor=0.8, exponent=1.2)
    choice = bl.select(energy(), y, rule)
    torch.testing.assert_close(choice.weight, 0.8 * levels.double() ** 1.2, rtol=0.02, atol=0.0)
    assert choice.cost.gradient_evaluations > 0


def test_calibrated_it_comes_near_to_the_best() -> None:
    rule = bl.calibrate(energy(), *noisy((0.05, 0.1, 0.2)))
    assert 0.7 < rule.exponent < 1.6
    y, x, levels = noisy((0.07, 0.14))  # the same pictures: others may want other weights
    chosen = bl.select(energy(), y, replace(rule, sigma=levels.double()))
    best = bl.select(energy(), y, bl.rules.Oracle(x))
    errors = [(c.x - x).square().flatten(1).mean(1).log10().mean() * 10 for c in (chosen, best)]
    assert float(errors[0] - errors[1]) < 0.3


def test_from_one_level_only_the_factor_is_told() -> None:
    y, x, levels = noisy((0.1,))
    rule = bl.calibrate(energy(), y, x, levels, exponent=1.0)
    assert rule.exponent == 1.0
    assert 0.1 < rule.factor < 5
    with pytest.raises(InputError, match="one noise level"):
        bl.calibrate(energy(), y, x, levels)


@pytest.mark.parametrize("levels", [torch.tensor([0.1]), torch.tensor([0.1, -0.1, 0.1])])
def test_levels_that_do_not_fit_are_refused(levels: torch.Tensor) -> None:
    y, x, _ = noisy((0.1,))
    with pytest.raises(InputError, match="level a pair"):
        bl.calibrate(energy(), y, x, levels)
    with pytest.raises(InputError, match="factor"):
        bl.rules.APriori(0.1, factor=0.0)

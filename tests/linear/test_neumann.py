"""The Neumann series: its terms, its rate, what it tells."""

from __future__ import annotations

import pytest
import torch

from bilevel.ground.errors import InputError
from bilevel.ground.rows import norm
from bilevel.linear import LinearMap, LinearStatus, neumann
from contracts.linear_solvers import DTYPES, Recorded, dense, diagonal, laplacian, spectral, spread

ONE = torch.ones(1).double()


@pytest.mark.parametrize("terms", [1, 2, 7])
def test_the_terms_are_those_of_the_series(terms: int) -> None:
    matrices, b = spectral(spread(4, 12, 10.0)), torch.randn(4, 12).double()
    step = torch.tensor([1.0, 0.5, 1.5, 1.9]).double()
    found = neumann(dense(matrices), b, step=step, terms=terms)
    power, total = b[..., None], torch.zeros(4, 12, 1).double()
    for _ in range(terms):
        total = total + step[:, None, None] * power
        power = power - step[:, None, None] * matrices @ power
    torch.testing.assert_close(found.x, total[..., 0])
    torch.testing.assert_close(found.residual, norm(power[..., 0]))
    assert found.steps.tolist() == [terms] * 4
    assert found.applications == 4 * terms
    assert found.status.tolist() == [LinearStatus.MAX_STEPS] * 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_leave_at_their_tolerance(dtype: torch.dtype) -> None:
    recorded = Recorded(laplacian(torch.tensor([0.5, 2.0, 8.0], dtype=dtype)))
    b = torch.randn(3, 1, 6, 7, dtype=dtype)
    step = 1 / torch.tensor([8.5, 10.0, 16.0])
    found = neumann(recorded.map, b, step=step, terms=500, rtol=1e-4).require()
    assert bool((found.residual <= 1e-4 * norm(b)).all())
    assert found.steps[0] > found.steps[1] > found.steps[2]
    assert found.applications == sum(recorded.sizes) == int(found.steps.sum())
    for k in range(3):
        row = torch.tensor([k])
        alone = neumann(recorded.map.rows(row), b[row], step=step[row], terms=500, rtol=1e-4)
        assert torch.equal(alone.x, found.x[row])


def test_a_start_is_continued_and_left_alone() -> None:
    matrices, b = spectral(spread(2, 12, 10.0)), torch.randn(2, 12).double()
    step = torch.ones(2)
    first = neumann(dense(matrices), b, step=step, terms=3)
    kept = first.x.clone()
    second = neumann(dense(matrices), b, step=step, terms=4, x0=first.x)
    torch.testing.assert_close(second.x, neumann(dense(matrices), b, step=step, terms=7).x)
    assert torch.equal(kept, first.x)
    assert second.applications == 10


def test_growth_is_negative_curvature() -> None:
    operator, b = diagonal([1.0, -0.5], [1.0, 0.5]), torch.ones(2, 2).double()
    found = neumann(operator, b, step=torch.ones(2), terms=50)
    expected = [LinearStatus.NEGATIVE_CURVATURE, LinearStatus.MAX_STEPS]
    assert found.status.tolist() == expected
    assert bool(torch.isfinite(found.x).all())


def test_what_is_not_finite_is_told() -> None:
    b = torch.tensor([[1.0, 1.0], [torch.nan, 1.0]]).double()
    step = torch.ones(2)
    found = neumann(diagonal([1.0, torch.inf], [1.0, 0.5]), b, step=step, terms=5)
    assert found.status.tolist() == [LinearStatus.DIVERGED] * 2


def test_bad_input() -> None:
    operator, b = LinearMap.shared(lambda v: v), torch.ones(1, 3)
    with pytest.raises(InputError, match="at least 1"):
        neumann(operator, b, step=ONE, terms=0)
    with pytest.raises(InputError, match="step must be a positive"):
        neumann(operator, b, step=-ONE, terms=1)
    with pytest.raises(InputError, match="one step for each"):
        neumann(operator, b, step=torch.ones(3), terms=1)

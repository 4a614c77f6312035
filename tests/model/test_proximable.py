"""Every formula of a proximable term against brute force over a fine grid of grey values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model.proximable import Distance, Proximable
from bilevel.model.split import as_norm

GRID = torch.linspace(-4, 4, 80_001, dtype=torch.float64)
FINE = 2e-4
X = torch.randn(1, 1, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
CENTRE = X.flip(-1) / 2
WEIGHT = torch.tensor(0.7, dtype=torch.float64)
ZERO = torch.zeros((), dtype=torch.float64)

TERMS = {
    "nothing": Proximable(),
    "box": Proximable(-0.4, 0.9),
    "positive": Proximable(lower=0.0),
    "point": Proximable(0.3, 0.3),
    "distance": Proximable(distance=Distance(WEIGHT, CENTRE)),
    "absolute": Proximable(distance=Distance(WEIGHT, ZERO)),
    "both": Proximable(-0.2, 0.5, Distance(WEIGHT, CENTRE)),
    "both, weight of a row": Proximable(-0.2, 0.5, Distance(WEIGHT.view(1, 1, 1, 1), CENTRE)),
    "positive and sparse": Proximable(0.0, math.inf, Distance(WEIGHT, ZERO)),
}


def on_grid(term: Proximable, grid: Tensor = GRID) -> Tensor:
    """h at every grid value (last dimension) for every pixel."""
    outside = (grid < term.lower - FINE / 3) | (grid > term.upper + FINE / 3)
    total = torch.where(outside, torch.inf, 0.0)
    total = total.expand(*X.shape, -1)
    if term.distance is not None:
        centre = term.distance.centre.expand_as(X)[..., None]
        total = total + term.distance.weight * (grid - centre).abs()
    return total


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("step", [0.1, 2.0])
def test_prox_is_the_minimiser_of_its_definition(name: str, step: float) -> None:
    term = TERMS[name]
    energy = on_grid(term) + (GRID - X[..., None]).square() / (2 * step)
    found = term.prox(X, torch.tensor([step], dtype=torch.float64))
    assert bool(term.holds(found))
    assert float((found - GRID[energy.argmin(-1)]).abs().max()) <= FINE


@pytest.mark.parametrize("name", TERMS)
def test_value(name: str) -> None:
    term = TERMS[name]
    inside = term.project(X)
    expected = 0.0
    if term.distance is not None:
        expected = float((term.distance.weight * (inside - term.distance.centre).abs()).sum())
    assert term.value(inside).item() == pytest.approx(expected)
    if term.boxed:
        outside = inside + 10 * (1 if term.upper < math.inf else -1)
        assert term.value(outside).item() == math.inf
        assert not term.holds(inside + math.nan).item()


@pytest.mark.parametrize("name", TERMS)
def test_least_is_the_smallest_of_all_slopes(name: str) -> None:
    """One-sided slopes of h + ⟨g, ·⟩ bound its subdifferential; the least is nearest to zero."""
    term = TERMS[name]
    x = term.project(X)
    if term.distance is not None:
        x[..., 0] = term.project(term.distance.centre.expand_as(x))[..., 0]
    g = 1.5 * X.flip(-2)
    tiny = 1e-7

    def slope(sign: float) -> Tensor:
        y = x + sign * tiny
        outside = (y < term.lower) | (y > term.upper)
        change = torch.zeros_like(x)
        if term.distance is not None:
            c, w = term.distance.centre, term.distance.weight
            change = w * ((y - c).abs() - (x - c).abs())
        return torch.where(outside, sign * torch.inf, sign * change / tiny) + g

    nearest = torch.zeros_like(x).clamp(slope(-1.0), slope(1.0))
    torch.testing.assert_close(term.least(x, g), nearest, rtol=0, atol=1e-6)


def test_outside_of_the_box_there_is_no_slope() -> None:
    assert TERMS["box"].least(X + 10, X).isinf().all()


@pytest.mark.parametrize("name", TERMS)
def test_lowest_is_the_minimiser_over_a_box(name: str) -> None:
    term, r = TERMS[name], X.flip(-2)
    lower = torch.full((1, 1, 1, 1), max(term.lower, -0.5), dtype=torch.float64)
    upper = torch.full((1, 1, 1, 1), min(term.upper, 0.8), dtype=torch.float64)
    grid = torch.linspace(float(lower), float(upper), 2001, dtype=torch.float64)
    best = (on_grid(term, grid) + r[..., None] * grid).amin(-1)
    u = term.lowest(X, r, lower, upper)
    assert bool(((u >= lower) & (u <= upper)).all())
    value = r * u
    if term.distance is not None:
        value = value + term.distance.weight * (u - term.distance.centre).abs()
    assert float((value - best).max()) <= 1e-12
    assert float((value - best).min()) >= -1e-3


def test_drop_rows_and_meeting() -> None:
    both = TERMS["box"].meet(TERMS["distance"], torch.float64)
    assert (both.lower, both.upper) == (-0.4, 0.9)
    u = both.project(X)
    change = float((WEIGHT * ((X - CENTRE).abs() - (u - CENTRE).abs())).sum())
    assert float((both.sizes(X) - both.sizes(u)).sum()) == pytest.approx(change)
    assert float(TERMS["box"].sizes(X).abs().max()) == 0
    two = Proximable(distance=Distance(WEIGHT.float(), torch.rand(2, 1, 2, 2)))
    part = two.rows(torch.tensor([1]))
    assert part.distance is not None
    assert part.distance.centre.shape == (1, 1, 2, 2)
    single = Proximable(0.1, 0.7).rounded(torch.float32)
    assert single.lower == float(torch.tensor(0.1)) != 0.1


@pytest.mark.parametrize("centre", [CENTRE, ZERO, ZERO + 0.3], ids=["map", "zero", "number"])
def test_a_distance_as_a_dual_term_keeps_its_centre(centre: Tensor) -> None:
    distance = Distance(WEIGHT, centre)
    for norm in (as_norm(distance), as_norm(distance).rows(torch.tensor([0]))):
        expected = distance.sizes(X).flatten(1).sum(1)
        torch.testing.assert_close(norm.value(norm.forward(X)), expected)


def test_an_empty_box_is_refused() -> None:
    with pytest.raises(InputError, match="lower <= upper"):
        Proximable(1.0, 0.0)


@pytest.mark.parametrize("name", TERMS)
def test_rows_of_different_weights_are_the_term_times_them(name: str) -> None:
    """The box stays as it is."""
    term, factor = TERMS[name], torch.tensor([0.5, 3.0], dtype=torch.float64)
    x, step = torch.cat([X, X]), torch.tensor([0.3, 0.3], dtype=torch.float64)
    scaled = term.scaled(factor)
    for k in range(2):
        whole = Proximable(term.lower, term.upper)
        if term.distance is not None:
            weight = factor[k] * term.distance.weight.reshape(())
            whole = Proximable(term.lower, term.upper, Distance(weight, term.distance.centre))
        one, own = x[k : k + 1], step[k : k + 1]
        torch.testing.assert_close(scaled.prox(x, step)[k : k + 1], whole.prox(one, own))
        if term.distance is None or term.distance.centre.ndim == 0:
            part = scaled.rows(torch.tensor([k]))
            torch.testing.assert_close(part.prox(one, own), whole.prox(one, own))
            torch.testing.assert_close(part.least(one, one), whole.least(one, one))

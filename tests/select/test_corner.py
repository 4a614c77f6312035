"""The triangle method against all triangles of a dense problem."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import bilevel as bl
from bilevel.select import Outcome, rules, select
from bilevel.select.corner import corner
from bilevel.solve.solvers import NewtonCG
from contracts.dense import Dense, N, problem

LOW, HIGH, COUNT = 1e-6, 1e1, 31
GRID = np.geomspace(HIGH, LOW, COUNT)


def angle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """At b, by the law of cosines."""
    ab, bc, ca = (float(np.linalg.norm(p - q)) for p, q in ((a, b), (b, c), (c, a)))
    return math.acos(max(-1.0, min(1.0, (ab**2 + bc**2 - ca**2) / (2 * ab * bc))))


def brute_force(d: Dense, y: np.ndarray) -> int:
    """The paper's search over all triangles that turn clockwise; the last point if none fits."""
    points = [
        np.log([np.linalg.norm(d.residual(w, y)), 0.5 * np.sum((d.b @ d.x(w, y)) ** 2)])
        for w in GRID
    ]
    best, found, last = 7 * math.pi / 8, COUNT - 1, points[-1]
    for k in range(1, COUNT - 1):
        for j in range(k):
            a, b = points[j], points[k]
            area = np.linalg.det(np.array([b - a, last - b]))
            if area < 0 and angle(a, b, last) < best:
                best, found = angle(a, b, last), k
    return found


def smoothing(rows: int) -> np.ndarray:
    """A Gaussian integral operator: singular values that fall to 1e-9."""
    t, s = np.linspace(0, 1, rows)[:, None], np.linspace(0, 1, N)
    return np.exp(-0.5 * ((t - s) / 0.15) ** 2) / 6


def ill_posed() -> tuple[Dense, bl.Variational, np.ndarray]:
    d = Dense(smoothing(45), np.eye(N))
    rng, x = np.random.default_rng(5), np.sin(np.linspace(0, 3, N)) + (np.arange(N) > 12)
    noise = np.array([[1e-2], [3e-3], [1e-3]]) * rng.normal(size=(3, 45))
    fidelity = bl.fidelities.SquaredL2(bl.operators.Matrix(torch.tensor(d.a), (1, 5, 6)))
    return d, bl.Variational(fidelity, bl.regularisers.Tikhonov(1.0)).double(), d.a @ x + noise


def test_the_corner_is_the_sharpest_of_all_triangles() -> None:
    d, energy, data = ill_posed()
    y = torch.tensor(data).reshape(3, *energy.fidelity.operator.data_shape((1, 5, 6)))
    rule = rules.LCurve(corner="triangle")
    found = select(energy, y, rule, span=(LOW, HIGH), accuracy=1e-10, solver=NewtonCG())
    places = [brute_force(d, row) for row in data]
    assert found.weight.tolist() == pytest.approx([GRID[k] for k in places], rel=1e-9)
    assert len(set(places)) > 1
    doubtful = [outcome is Outcome.DOUBTFUL for outcome in found.outcome]
    assert all(doubtful), "45 data are too few to trust any weight"
    assert found.rule == "LCurve"
    assert bool(((found.value > 0) & (found.value < 7 * math.pi / 8)).all())


def test_a_curve_that_bends_the_other_way_has_no_corner() -> None:
    t = torch.linspace(0, math.pi / 2, 20).double()
    arc = torch.stack([t.cos(), t.sin()], 1)[:, None]
    place, angles = corner(arc)
    assert int(place) == 19
    assert bool((angles == math.pi).all())
    hollow = torch.stack([1 - t.sin(), 1 - t.cos()], 1)[:, None]
    assert 0 < int(corner(hollow)[0]) < 19


def test_without_a_corner_the_answer_lies_at_the_edge() -> None:
    p = problem("matrix", "identity")
    found = select(p.energy, p.y, rules.LCurve("triangle"), span=(1e-7, 1e-6), solver=NewtonCG())
    assert set(found.outcome) <= {Outcome.EDGE, Outcome.UNSOLVED}
    assert "no corner" in found.advice[0]


def test_other_corners_are_refused() -> None:
    with pytest.raises(bl.InputError, match="corner"):
        rules.LCurve(corner="square")


def test_a_constant_image_has_no_curve_to_look_at() -> None:
    y = torch.full((1, 1, 8, 8), 0.5).double()
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(1.0, 0.1))
    for corner_of in ("curvature", "triangle"):
        assert select(energy.double(), y, rules.LCurve(corner_of)).outcome == (Outcome.UNDEFINED,)

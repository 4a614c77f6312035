"""Models of the loss in a trust region: quadratic where it is smooth, by pieces at kinks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.momentum import growing
from bilevel.ground.theta import flatten, unflatten
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import Problem
from bilevel.linear.quasi_newton import Pair, bfgs
from bilevel.model.sets import Simplex

__all__ = ["Pieces", "Step", "length_of", "piecewise_step", "quadratic_step"]


@dataclass(frozen=True)
class Step:
    """``move`` (p,) from θ, the decrease predicted, and how critical θ is in the model."""

    move: Tensor
    predicted: float
    criticality: float


@dataclass(frozen=True)
class Pieces:
    """Linear models ⟨slope_j, d⟩ - offset_j of the change of the loss: slopes (n, p), offsets (n,).

    The first one is that at θ; offsets are not negative.
    """

    slopes: Tensor
    offsets: Tensor


def length_of(v: Tensor) -> float:
    """Euclidean.

    Example:
        >>> length_of(torch.tensor([3.0, 4.0]))
        5.0
    """
    return float(v @ v) ** 0.5


def quadratic_step(
    problem: Problem,
    at: Evaluation,
    radius: float,
    pairs: tuple[Pair, ...],
    steps: int = 50,
) -> Step:
    """Minimise ⟨g, d⟩ + ½⟨d, Bd⟩ over ‖d‖ <= ``radius`` with θ + d in its set.

    By projected gradients with Barzilai-Borwein lengths (Birgin, Martínez and Raydan 2000); the
    first of them ends at or below the Cauchy point.
    """
    gradient, bend = flatten(at.grad), bfgs(pairs)
    move, slope = torch.zeros_like(gradient), gradient
    norm = length_of(gradient)
    length = radius / norm if norm > 0 else 0.0
    for _ in range(steps):
        change = _feasible(problem, at, move - length * slope, radius) - move
        down = float(change @ slope)
        if down >= -1e-12 * radius * norm:
            break
        bent = bend(change)
        curvature = float(change @ bent)
        share = min(1.0, -down / curvature) if curvature > 0 else 1.0
        move, slope = move + share * change, slope + share * bent
        length = float(change @ change) / curvature if curvature > 0 else 10 * length
    return Step(move, -0.5 * float(move @ (gradient + slope)), norm)


def piecewise_step(
    problem: Problem, at: Evaluation, radius: float, pieces: Pieces, steps: int = 400
) -> Step:
    """Minimise the largest of the ``pieces`` over ‖d‖ <= ``radius`` with θ + d in its set.

    With a small quadratic term, by accelerated projected gradients on the dual, until the gap is
    1 % of the decrease. Its weights make a convex combination w of the gradients, and
    ‖θ - P(θ - s w)‖/s is the criticality.
    """
    slopes, offsets = pieces.slopes, pieces.offsets
    length = 10 * radius / float(slopes.square().sum(1).max()) ** 0.5
    simplex = Simplex()
    weights = torch.full_like(offsets, 1 / len(offsets))
    largest = float((slopes @ slopes.T).abs().sum(1).max())
    ahead, rate = weights, 1 / (length * largest)
    for k in range(steps):
        move = _feasible(problem, at, -length * (ahead @ slopes), radius)
        values = slopes @ move - offsets
        if float(values.max() - ahead @ values) <= 0.01 * -float(values.max()):
            weights = simplex.project(ahead)
            break
        new = simplex.project(ahead + rate * values)
        ahead, weights = new + growing(k) * (new - weights), new
    combined = weights @ slopes
    move = _feasible(problem, at, -length * combined, radius)
    short = length / 10
    criticality = length_of(_feasible(problem, at, -short * combined, radius)) / short
    return Step(move, -float((slopes @ move - offsets).max()), criticality)


def _feasible(problem: Problem, at: Evaluation, move: Tensor, radius: float) -> Tensor:
    """``move`` projected onto the set, then shortened: θ belongs to the set, so that it stays."""
    theta = flatten(at.theta)
    there = flatten(problem.space.project(unflatten(theta + move, at.theta))) - theta
    length = length_of(there)
    return there * (radius / length) if length > radius else there

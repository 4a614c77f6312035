"""Hypergradients, their error bounds, the differentiable layer."""

from bilevel.differentiate.argmin import argmin
from bilevel.differentiate.finite_differences import finite_differences
from bilevel.differentiate.hypergradient import HyperGradient, Hypergradient
from bilevel.differentiate.implicit import Implicit
from bilevel.differentiate.kinks import count_kinks
from bilevel.differentiate.upper import Upper

__all__ = [
    "HyperGradient",
    "Hypergradient",
    "Implicit",
    "Upper",
    "argmin",
    "count_kinks",
    "finite_differences",
]

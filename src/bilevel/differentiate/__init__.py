"""Hypergradients, their error bounds, the differentiable layer."""

from bilevel.differentiate import hypergradients
from bilevel.differentiate.argmin import argmin
from bilevel.differentiate.automatic import automatic
from bilevel.differentiate.equilibrium_propagation import EquilibriumPropagation
from bilevel.differentiate.finite_differences import finite_differences
from bilevel.differentiate.fixed_point import FixedPoint
from bilevel.differentiate.forward_mode import ForwardMode
from bilevel.differentiate.hypergradient import Hypergradient, UpperGradient
from bilevel.differentiate.implicit import Implicit
from bilevel.differentiate.jacobian_free import JacobianFree
from bilevel.differentiate.kinks import count_kinks
from bilevel.differentiate.neumann import Neumann
from bilevel.differentiate.piggyback import Piggyback
from bilevel.differentiate.saddle_adjoint import SaddleAdjoint, solve_saddle_adjoint
from bilevel.differentiate.shine import Shine
from bilevel.differentiate.unrolled import Unrolled
from bilevel.differentiate.upper import Upper
from bilevel.differentiate.value_function import ValueFunction

__all__ = [
    "EquilibriumPropagation",
    "FixedPoint",
    "ForwardMode",
    "Hypergradient",
    "Implicit",
    "JacobianFree",
    "Neumann",
    "Piggyback",
    "SaddleAdjoint",
    "Shine",
    "Unrolled",
    "Upper",
    "UpperGradient",
    "ValueFunction",
    "argmin",
    "automatic",
    "count_kinks",
    "finite_differences",
    "hypergradients",
    "solve_saddle_adjoint",
]

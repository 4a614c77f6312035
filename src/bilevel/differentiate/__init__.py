"""Hypergradients, their error bounds, the differentiable layer."""

from bilevel.differentiate import hypergradients as hypergradients
from bilevel.differentiate.argmin import argmin as argmin
from bilevel.differentiate.automatic import automatic as automatic
from bilevel.differentiate.equilibrium_propagation import (
    EquilibriumPropagation as EquilibriumPropagation,
)
from bilevel.differentiate.error_bounds import count_kinks as count_kinks
from bilevel.differentiate.finite_differences import finite_differences as finite_differences
from bilevel.differentiate.fixed_point import FixedPoint as FixedPoint
from bilevel.differentiate.forward_mode import ForwardMode as ForwardMode
from bilevel.differentiate.hypergradient import Hypergradient as Hypergradient
from bilevel.differentiate.hypergradient import UpperGradient as UpperGradient
from bilevel.differentiate.implicit import Implicit as Implicit
from bilevel.differentiate.neumann import JacobianFree as JacobianFree
from bilevel.differentiate.neumann import Neumann as Neumann
from bilevel.differentiate.piggyback import Piggyback as Piggyback
from bilevel.differentiate.saddle_adjoint import SaddleAdjoint as SaddleAdjoint
from bilevel.differentiate.saddle_adjoint import solve_saddle_adjoint as solve_saddle_adjoint
from bilevel.differentiate.shine import Shine as Shine
from bilevel.differentiate.unrolled import Unrolled as Unrolled
from bilevel.differentiate.upper import Upper as Upper
from bilevel.differentiate.value_function import ValueFunction as ValueFunction

"""Lower-level solvers."""

from bilevel.solve.solvers.fista import FISTA
from bilevel.solve.solvers.gradient_descent import GradientDescent
from bilevel.solve.solvers.lbfgs import LBFGS
from bilevel.solve.solvers.nesterov import Nesterov
from bilevel.solve.solvers.pdhg import PDHG

__all__ = ["FISTA", "LBFGS", "PDHG", "GradientDescent", "Nesterov"]

"""Lower-level solvers."""

from bilevel.solve.solvers.gradient_descent import GradientDescent
from bilevel.solve.solvers.lbfgs import LBFGS
from bilevel.solve.solvers.nesterov import Nesterov
from bilevel.solve.solvers.newton import NewtonCG

__all__ = ["LBFGS", "GradientDescent", "Nesterov", "NewtonCG"]

"""Lower-level solvers."""

from bilevel.solve.solvers.automatic import Choice, accelerated, automatic
from bilevel.solve.solvers.fista import FISTA
from bilevel.solve.solvers.free_fista import FreeFISTA
from bilevel.solve.solvers.gradient_descent import GradientDescent
from bilevel.solve.solvers.half_quadratic import HalfQuadratic
from bilevel.solve.solvers.ipiano import IPiano
from bilevel.solve.solvers.lbfgs import LBFGS
from bilevel.solve.solvers.nesterov import Nesterov
from bilevel.solve.solvers.newton import NewtonCG
from bilevel.solve.solvers.nmapg import NMAPG
from bilevel.solve.solvers.pdhg import PDHG

__all__ = [
    "FISTA",
    "LBFGS",
    "NMAPG",
    "PDHG",
    "Choice",
    "FreeFISTA",
    "GradientDescent",
    "HalfQuadratic",
    "IPiano",
    "Nesterov",
    "NewtonCG",
    "accelerated",
    "automatic",
]

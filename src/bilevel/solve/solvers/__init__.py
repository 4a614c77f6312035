"""Lower-level solvers."""

from bilevel.ground.contents import contents as _contents
from bilevel.solve.solvers.admm import ADMM as ADMM
from bilevel.solve.solvers.automatic import Choice as Choice
from bilevel.solve.solvers.automatic import accelerated as accelerated
from bilevel.solve.solvers.automatic import automatic as automatic
from bilevel.solve.solvers.automatic import frugal as frugal
from bilevel.solve.solvers.fista import FISTA as FISTA
from bilevel.solve.solvers.free_fista import FreeFISTA as FreeFISTA
from bilevel.solve.solvers.gradient_descent import GradientDescent as GradientDescent
from bilevel.solve.solvers.half_quadratic import HalfQuadratic as HalfQuadratic
from bilevel.solve.solvers.ipiano import IPiano as IPiano
from bilevel.solve.solvers.lbfgs import LBFGS as LBFGS
from bilevel.solve.solvers.nesterov import Nesterov as Nesterov
from bilevel.solve.solvers.newton import NewtonCG as NewtonCG
from bilevel.solve.solvers.nmapg import NMAPG as NMAPG
from bilevel.solve.solvers.pdhg import PDHG as PDHG
from bilevel.solve.solvers.proximal_newton import ProximalNewton as ProximalNewton

__doc__ = _contents(__name__)

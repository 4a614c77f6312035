"""Batched Krylov methods on linear maps, and bounds of their norms."""

from bilevel.linear.bicgstab import bicgstab as bicgstab
from bilevel.linear.bounds import power_estimate as power_estimate
from bilevel.linear.bounds import schur_bound as schur_bound
from bilevel.linear.cg import cg as cg
from bilevel.linear.gmres import GMRES as GMRES
from bilevel.linear.gmres import gmres as gmres
from bilevel.linear.lanczos import RitzValues as RitzValues
from bilevel.linear.lanczos import lanczos as lanczos
from bilevel.linear.map import LinearMap as LinearMap
from bilevel.linear.minres import minres as minres
from bilevel.linear.named import linear_solver as linear_solver
from bilevel.linear.neumann import neumann as neumann
from bilevel.linear.solution import LinearSolution as LinearSolution
from bilevel.linear.solution import LinearStatus as LinearStatus
from bilevel.linear.solver import LinearSolver as LinearSolver
from bilevel.linear.symmetric import symmetric as symmetric
from bilevel.linear.system import System as System

"""The lower level: certificates, solutions, the loop."""

from bilevel.solve.certificate import Certificate, Tolerance, certify
from bilevel.solve.minimise import minimise
from bilevel.solve.solution import Solution, Status
from bilevel.solve.solver import Solver

__all__ = ["Certificate", "Solution", "Solver", "Status", "Tolerance", "certify", "minimise"]

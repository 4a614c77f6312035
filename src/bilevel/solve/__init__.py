"""The lower level: certificates, solutions, the loop."""

from bilevel.solve.certificate import Certificate, Claim, Tolerance, certify
from bilevel.solve.curvature import Curvature, curvature
from bilevel.solve.local import certify_locally
from bilevel.solve.minimise import minimise
from bilevel.solve.solution import Solution, Status
from bilevel.solve.solver import Solver

__all__ = [
    "Certificate",
    "Claim",
    "Curvature",
    "Solution",
    "Solver",
    "Status",
    "Tolerance",
    "certify",
    "certify_locally",
    "curvature",
    "minimise",
]

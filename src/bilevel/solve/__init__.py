"""The lower level: certificates, solutions, the loop."""

from bilevel.solve.certificate import Certificate as Certificate
from bilevel.solve.certificate import Claim as Claim
from bilevel.solve.certificate import Tolerance as Tolerance
from bilevel.solve.certificate import certify as certify
from bilevel.solve.curvature import Curvature as Curvature
from bilevel.solve.curvature import curvature as curvature
from bilevel.solve.local import certify_locally as certify_locally
from bilevel.solve.minimise import minimise as minimise
from bilevel.solve.solution import Solution as Solution
from bilevel.solve.solution import Status as Status
from bilevel.solve.solver import Solver as Solver

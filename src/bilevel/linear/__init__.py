"""Batched Krylov methods on linear maps, and bounds of their norms."""

from bilevel.linear.bicgstab import bicgstab
from bilevel.linear.bounds import power_estimate, schur_bound
from bilevel.linear.cg import cg
from bilevel.linear.gmres import gmres
from bilevel.linear.lanczos import RitzValues, lanczos
from bilevel.linear.map import LinearMap
from bilevel.linear.minres import minres
from bilevel.linear.neumann import neumann
from bilevel.linear.solution import LinearSolution, LinearStatus

__all__ = [
    "LinearMap",
    "LinearSolution",
    "LinearStatus",
    "RitzValues",
    "bicgstab",
    "cg",
    "gmres",
    "lanczos",
    "minres",
    "neumann",
    "power_estimate",
    "schur_bound",
]

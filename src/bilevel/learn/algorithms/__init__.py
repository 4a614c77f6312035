"""Upper-level algorithms."""

from bilevel.learn.algorithms.amigo import AmIGO, StocBiO
from bilevel.learn.algorithms.lbfgs import LBFGS
from bilevel.learn.algorithms.ma_soba import MASOBA
from bilevel.learn.algorithms.maid import MAID
from bilevel.learn.algorithms.projected_gradient import ProjectedGradient
from bilevel.learn.algorithms.saba import SABA
from bilevel.learn.algorithms.soba import SOBA
from bilevel.learn.algorithms.srba import SRBA

__all__ = [
    "LBFGS",
    "MAID",
    "MASOBA",
    "SABA",
    "SOBA",
    "SRBA",
    "AmIGO",
    "ProjectedGradient",
    "StocBiO",
]

"""Upper-level algorithms."""

from bilevel.learn.algorithms.amigo import AmIGO, StocBiO
from bilevel.learn.algorithms.automatic import Automatic, automatic
from bilevel.learn.algorithms.bome import BOME
from bilevel.learn.algorithms.dfo_ls import DFOLS
from bilevel.learn.algorithms.dynamic_sampling import DynamicSampling
from bilevel.learn.algorithms.f2sa import F2SA
from bilevel.learn.algorithms.gauss_newton import GaussNewton
from bilevel.learn.algorithms.grid import Grid
from bilevel.learn.algorithms.hoag import HOAG
from bilevel.learn.algorithms.isgd import ISGD
from bilevel.learn.algorithms.lbfgs import LBFGS
from bilevel.learn.algorithms.ma_soba import MASOBA
from bilevel.learn.algorithms.maid import MAID
from bilevel.learn.algorithms.optuna_search import OptunaSearch
from bilevel.learn.algorithms.projected_gradient import ProjectedGradient
from bilevel.learn.algorithms.random_search import RandomSearch
from bilevel.learn.algorithms.saba import SABA
from bilevel.learn.algorithms.scaled import Scaled
from bilevel.learn.algorithms.soba import SOBA
from bilevel.learn.algorithms.srba import SRBA
from bilevel.learn.algorithms.torch_optimiser import TorchOptimiser
from bilevel.learn.algorithms.trust_region import TrustRegion

__all__ = [
    "BOME",
    "DFOLS",
    "F2SA",
    "HOAG",
    "ISGD",
    "LBFGS",
    "MAID",
    "MASOBA",
    "SABA",
    "SOBA",
    "SRBA",
    "AmIGO",
    "Automatic",
    "DynamicSampling",
    "GaussNewton",
    "Grid",
    "OptunaSearch",
    "ProjectedGradient",
    "RandomSearch",
    "Scaled",
    "StocBiO",
    "TorchOptimiser",
    "TrustRegion",
    "automatic",
]

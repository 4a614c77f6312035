"""Upper-level algorithms."""

from bilevel.ground.contents import contents as _contents
from bilevel.learn.algorithms.amigo import AmIGO as AmIGO
from bilevel.learn.algorithms.amigo import StocBiO as StocBiO
from bilevel.learn.algorithms.automatic import Automatic as Automatic
from bilevel.learn.algorithms.automatic import automatic as automatic
from bilevel.learn.algorithms.bome import BOME as BOME
from bilevel.learn.algorithms.dfo_ls import DFOLS as DFOLS
from bilevel.learn.algorithms.dynamic_sampling import DynamicSampling as DynamicSampling
from bilevel.learn.algorithms.f2sa import F2SA as F2SA
from bilevel.learn.algorithms.gauss_newton import GaussNewton as GaussNewton
from bilevel.learn.algorithms.grid import Grid as Grid
from bilevel.learn.algorithms.hoag import HOAG as HOAG
from bilevel.learn.algorithms.isgd import ISGD as ISGD
from bilevel.learn.algorithms.lbfgs import LBFGS as LBFGS
from bilevel.learn.algorithms.maid import MAID as MAID
from bilevel.learn.algorithms.optuna_search import OptunaSearch as OptunaSearch
from bilevel.learn.algorithms.projected_gradient import ProjectedGradient as ProjectedGradient
from bilevel.learn.algorithms.random_search import RandomSearch as RandomSearch
from bilevel.learn.algorithms.saba import SABA as SABA
from bilevel.learn.algorithms.scaled import Scaled as Scaled
from bilevel.learn.algorithms.soba import MASOBA as MASOBA
from bilevel.learn.algorithms.soba import SOBA as SOBA
from bilevel.learn.algorithms.srba import SRBA as SRBA
from bilevel.learn.algorithms.stochastic import Stochastic as Stochastic
from bilevel.learn.algorithms.torch_optimiser import TorchOptimiser as TorchOptimiser
from bilevel.learn.algorithms.trust_region import TrustRegion as TrustRegion

__doc__ = _contents(__name__)

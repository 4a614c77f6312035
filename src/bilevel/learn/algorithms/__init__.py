"""Upper-level algorithms."""

from bilevel.learn.algorithms.automatic import Automatic, automatic
from bilevel.learn.algorithms.lbfgs import LBFGS
from bilevel.learn.algorithms.maid import MAID
from bilevel.learn.algorithms.projected_gradient import ProjectedGradient

__all__ = ["LBFGS", "MAID", "Automatic", "ProjectedGradient", "automatic"]

"""Upper-level algorithms."""

from bilevel.learn.algorithms.lbfgs import LBFGS
from bilevel.learn.algorithms.maid import MAID
from bilevel.learn.algorithms.projected_gradient import ProjectedGradient

__all__ = ["LBFGS", "MAID", "ProjectedGradient"]

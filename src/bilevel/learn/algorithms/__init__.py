"""Upper-level algorithms."""

from bilevel.learn.algorithms.maid import MAID
from bilevel.learn.algorithms.projected_gradient import ProjectedGradient

__all__ = ["MAID", "ProjectedGradient"]

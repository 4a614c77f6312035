"""What θ itself costs: terms of the upper level in θ alone."""

from bilevel.ground.contents import contents as _contents
from bilevel.learn.penalties.distance import Distance as Distance
from bilevel.learn.penalties.penalty import Penalty as Penalty
from bilevel.learn.penalties.penalty import SumOfPenalties as SumOfPenalties
from bilevel.learn.penalties.roughness import Roughness as Roughness
from bilevel.learn.penalties.size import Size as Size

__doc__ = _contents(__name__)

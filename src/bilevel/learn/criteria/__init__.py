"""What learning without ground truth minimises."""

from bilevel.learn.criteria.criterion import Criterion
from bilevel.learn.criteria.gsure import GSURE
from bilevel.learn.criteria.hold_out import HoldOut
from bilevel.learn.criteria.stein import PURE, SURE
from bilevel.learn.criteria.whiteness import Whiteness

__all__ = ["GSURE", "PURE", "SURE", "Criterion", "HoldOut", "Whiteness"]

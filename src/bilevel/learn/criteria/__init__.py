"""What learning without ground truth minimises."""

from bilevel.ground.contents import contents as _contents
from bilevel.learn.criteria.criterion import Criterion as Criterion
from bilevel.learn.criteria.gsure import GSURE as GSURE
from bilevel.learn.criteria.hold_out import HoldOut as HoldOut
from bilevel.learn.criteria.stein import PURE as PURE
from bilevel.learn.criteria.stein import SURE as SURE
from bilevel.learn.criteria.whiteness import Whiteness as Whiteness

__doc__ = _contents(__name__)

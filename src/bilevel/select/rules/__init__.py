"""Rules that choose a weight."""

from bilevel.ground.contents import contents as _contents
from bilevel.select.rules.a_priori import APriori as APriori
from bilevel.select.rules.discrepancy import Discrepancy as Discrepancy
from bilevel.select.rules.gaussianity import Gaussianity as Gaussianity
from bilevel.select.rules.gcv import GCV as GCV
from bilevel.select.rules.gsure import GSURE as GSURE
from bilevel.select.rules.hold_out import HoldOut as HoldOut
from bilevel.select.rules.l_curve import LCurve as LCurve
from bilevel.select.rules.oracle import Oracle as Oracle
from bilevel.select.rules.poisson_discrepancy import PoissonDiscrepancy as PoissonDiscrepancy
from bilevel.select.rules.pure import PURE as PURE
from bilevel.select.rules.quasi_optimality import QuasiOptimality as QuasiOptimality
from bilevel.select.rules.sure import SURE as SURE
from bilevel.select.rules.sure import PredictedRisk as PredictedRisk
from bilevel.select.rules.whiteness import Whiteness as Whiteness

__doc__ = _contents(__name__)

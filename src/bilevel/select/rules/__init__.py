"""Rules that choose a weight."""

from bilevel.select.rules.discrepancy import Discrepancy
from bilevel.select.rules.gaussianity import Gaussianity
from bilevel.select.rules.gcv import GCV
from bilevel.select.rules.gsure import GSURE
from bilevel.select.rules.hold_out import HoldOut
from bilevel.select.rules.l_curve import LCurve
from bilevel.select.rules.oracle import Oracle
from bilevel.select.rules.poisson_discrepancy import PoissonDiscrepancy
from bilevel.select.rules.pure import PURE
from bilevel.select.rules.quasi_optimality import QuasiOptimality
from bilevel.select.rules.sure import SURE, PredictedRisk
from bilevel.select.rules.whiteness import Whiteness

__all__ = [
    "GCV",
    "GSURE",
    "PURE",
    "SURE",
    "Discrepancy",
    "Gaussianity",
    "HoldOut",
    "LCurve",
    "Oracle",
    "PoissonDiscrepancy",
    "PredictedRisk",
    "QuasiOptimality",
    "Whiteness",
]

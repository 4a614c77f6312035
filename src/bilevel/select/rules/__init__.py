"""Rules that choose a weight."""

from bilevel.select.rules.discrepancy import Discrepancy
from bilevel.select.rules.oracle import Oracle
from bilevel.select.rules.poisson_discrepancy import PoissonDiscrepancy
from bilevel.select.rules.pure import PURE
from bilevel.select.rules.sure import SURE, PredictedRisk

__all__ = ["PURE", "SURE", "Discrepancy", "Oracle", "PoissonDiscrepancy", "PredictedRisk"]

"""Rules that choose a weight."""

from bilevel.select.rules.discrepancy import Discrepancy
from bilevel.select.rules.oracle import Oracle
from bilevel.select.rules.sure import SURE, PredictedRisk

__all__ = ["SURE", "Discrepancy", "Oracle", "PredictedRisk"]

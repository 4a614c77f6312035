"""Regularisers R_θ(x)."""

from bilevel.model.regularisers.foe import FieldsOfExperts, dct_filters
from bilevel.model.regularisers.regulariser import Regulariser, Sum
from bilevel.model.regularisers.ridge import RidgeRegulariser
from bilevel.model.regularisers.tikhonov import Tikhonov
from bilevel.model.regularisers.tv import TotalVariation

__all__ = [
    "FieldsOfExperts",
    "Regulariser",
    "RidgeRegulariser",
    "Sum",
    "Tikhonov",
    "TotalVariation",
    "dct_filters",
]

"""Regularisers R_θ(x)."""

from bilevel.model.regularisers.box import Box
from bilevel.model.regularisers.exact_tv import ExactTotalVariation
from bilevel.model.regularisers.foe import FieldsOfExperts, dct_filters
from bilevel.model.regularisers.nonsmooth import NonSmoothRegulariser
from bilevel.model.regularisers.regulariser import ImageTerm, Regulariser, Sum
from bilevel.model.regularisers.ridge import RidgeRegulariser
from bilevel.model.regularisers.sparsity import Sparsity
from bilevel.model.regularisers.tikhonov import Tikhonov
from bilevel.model.regularisers.tv import TotalVariation

__all__ = [
    "Box",
    "ExactTotalVariation",
    "FieldsOfExperts",
    "ImageTerm",
    "NonSmoothRegulariser",
    "Regulariser",
    "RidgeRegulariser",
    "Sparsity",
    "Sum",
    "Tikhonov",
    "TotalVariation",
    "dct_filters",
]

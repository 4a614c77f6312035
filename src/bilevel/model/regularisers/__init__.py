"""Regularisers R_θ(x)."""

from bilevel.ground.contents import contents as _contents
from bilevel.model.learned_potentials import LearnedPotential as LearnedPotential
from bilevel.model.learned_potentials import LinearSpline as LinearSpline
from bilevel.model.radial_basis import RadialBasis as RadialBasis
from bilevel.model.regularisers.box import Box as Box
from bilevel.model.regularisers.cascade import estimated_norm as estimated_norm
from bilevel.model.regularisers.cascade import random_cascade as random_cascade
from bilevel.model.regularisers.cascaded import CascadeRegulariser as CascadeRegulariser
from bilevel.model.regularisers.composed import Composed as Composed
from bilevel.model.regularisers.directional import DirectionalTV as DirectionalTV
from bilevel.model.regularisers.exact_directional import ExactDirectionalTV as ExactDirectionalTV
from bilevel.model.regularisers.exact_second_order import (
    ExactInfimalConvolutionTV as ExactInfimalConvolutionTV,
)
from bilevel.model.regularisers.exact_second_order import (
    ExactTotalGeneralisedVariation as ExactTotalGeneralisedVariation,
)
from bilevel.model.regularisers.exact_tv import ExactTotalVariation as ExactTotalVariation
from bilevel.model.regularisers.foe import FieldsOfExperts as FieldsOfExperts
from bilevel.model.regularisers.foe import dct_filters as dct_filters
from bilevel.model.regularisers.grouped import GroupedExperts as GroupedExperts
from bilevel.model.regularisers.ictv import InfimalConvolutionTV as InfimalConvolutionTV
from bilevel.model.regularisers.multi_scale import MultiScale as MultiScale
from bilevel.model.regularisers.nonsmooth import NonSmoothRegulariser as NonSmoothRegulariser
from bilevel.model.regularisers.regulariser import ImageTerm as ImageTerm
from bilevel.model.regularisers.regulariser import Regulariser as Regulariser
from bilevel.model.regularisers.regulariser import Sum as Sum
from bilevel.model.regularisers.rescaled import Rescaled as Rescaled
from bilevel.model.regularisers.ridge import RidgeRegulariser as RidgeRegulariser
from bilevel.model.regularisers.sparsity import Sparsity as Sparsity
from bilevel.model.regularisers.spline_ridge import SplineRidge as SplineRidge
from bilevel.model.regularisers.tgv import (
    TotalGeneralisedVariation as TotalGeneralisedVariation,
)
from bilevel.model.regularisers.tikhonov import Tikhonov as Tikhonov
from bilevel.model.regularisers.tv import TotalVariation as TotalVariation
from bilevel.model.regularisers.wavelet_sparsity import (
    ExactWaveletSparsity as ExactWaveletSparsity,
)
from bilevel.model.regularisers.wavelet_sparsity import WaveletSparsity as WaveletSparsity

__doc__ = _contents(__name__)

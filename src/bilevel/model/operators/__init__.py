"""Forward operators."""

from bilevel.model.operators.composition import Composition
from bilevel.model.operators.convolution import Convolution
from bilevel.model.operators.differences import Differences
from bilevel.model.operators.downsampling import Downsampling
from bilevel.model.operators.fourier import FourierMask
from bilevel.model.operators.identity import Identity
from bilevel.model.operators.mask import Mask
from bilevel.model.operators.matrix import Matrix
from bilevel.model.operators.operator import Interval, Operator, Shape

__all__ = [
    "Composition",
    "Convolution",
    "Differences",
    "Downsampling",
    "FourierMask",
    "Identity",
    "Interval",
    "Mask",
    "Matrix",
    "Operator",
    "Shape",
]

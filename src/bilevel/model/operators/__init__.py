"""Forward operators."""

from bilevel.ground.contents import contents as _contents
from bilevel.model.operators.combined import Added as Added
from bilevel.model.operators.combined import Scaled as Scaled
from bilevel.model.operators.combined import Stacked as Stacked
from bilevel.model.operators.composition import Composition as Composition
from bilevel.model.operators.convolution import Convolution as Convolution
from bilevel.model.operators.differences import Differences as Differences
from bilevel.model.operators.downsampling import Downsampling as Downsampling
from bilevel.model.operators.fourier import FourierMask as FourierMask
from bilevel.model.operators.gaussian_blur import GaussianBlur as GaussianBlur
from bilevel.model.operators.identity import Identity as Identity
from bilevel.model.operators.linear import Linear as Linear
from bilevel.model.operators.mask import Mask as Mask
from bilevel.model.operators.matrix import Matrix as Matrix
from bilevel.model.operators.multi_coil import MultiCoil as MultiCoil
from bilevel.model.operators.operator import Interval as Interval
from bilevel.model.operators.operator import Operator as Operator
from bilevel.model.operators.operator import Shape as Shape
from bilevel.model.operators.radon import Radon as Radon
from bilevel.model.operators.wavelets import Wavelets as Wavelets

__doc__ = _contents(__name__)

"""Regularisers that are networks R_θ(x)."""

from bilevel.ground.contents import contents as _contents
from bilevel.model.networks.convex import DifferenceOfConvex as DifferenceOfConvex
from bilevel.model.networks.convex import InputConvexNetwork as InputConvexNetwork
from bilevel.model.networks.deep_variation import TotalDeepVariation as TotalDeepVariation
from bilevel.model.networks.local import LocalNetwork as LocalNetwork
from bilevel.model.networks.network import Network as Network
from bilevel.model.networks.network import NetworkRegulariser as NetworkRegulariser
from bilevel.model.networks.residual import LeastSquaresResidual as LeastSquaresResidual

__doc__ = _contents(__name__)

"""Ways to differentiate the solution of the lower level in θ."""

from bilevel.differentiate.automatic import automatic as automatic
from bilevel.differentiate.equilibrium_propagation import (
    EquilibriumPropagation as EquilibriumPropagation,
)
from bilevel.differentiate.fixed_point import FixedPoint as FixedPoint
from bilevel.differentiate.forward_mode import ForwardMode as ForwardMode
from bilevel.differentiate.hypergradient import Hypergradient as Hypergradient
from bilevel.differentiate.implicit import Implicit as Implicit
from bilevel.differentiate.neumann import JacobianFree as JacobianFree
from bilevel.differentiate.neumann import Neumann as Neumann
from bilevel.differentiate.piggyback import Piggyback as Piggyback
from bilevel.differentiate.shine import Shine as Shine
from bilevel.differentiate.unrolled import Unrolled as Unrolled
from bilevel.differentiate.value_function import ValueFunction as ValueFunction
from bilevel.ground.contents import contents as _contents

__doc__ = _contents(__name__)

"""Operators of other libraries, which are imported only where one of theirs is given.

Each becomes a :class:`~bilevel.operators.Linear`: its adjoint is compared with its forward map at
once, in float32 and float64.
"""

from bilevel.interop.arrays import from_arrays as from_arrays
from bilevel.interop.deepinv import from_deepinv as from_deepinv
from bilevel.interop.scipy import from_scipy as from_scipy

"""What is made with other libraries, which are imported only where something of theirs is given.

Operators become :class:`~bilevel.operators.Linear`: the adjoint is compared with the forward map
at once, in float32 and float64. Noise models become fidelities, regularisers and energies become
priors and reconstructors.
"""

from bilevel.interop.arrays import from_arrays as from_arrays
from bilevel.interop.deepinv import data_from_deepinv as data_from_deepinv
from bilevel.interop.deepinv import from_deepinv as from_deepinv
from bilevel.interop.deepinv_terms import fidelity_from_deepinv as fidelity_from_deepinv
from bilevel.interop.non_cartesian import NonCartesian as NonCartesian
from bilevel.interop.pylops import from_pylops as from_pylops
from bilevel.interop.scipy import from_scipy as from_scipy
from bilevel.interop.to_deepinv import to_deepinv_prior as to_deepinv_prior
from bilevel.interop.to_deepinv import to_deepinv_reconstructor as to_deepinv_reconstructor

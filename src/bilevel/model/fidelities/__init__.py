"""Fidelities Ψ_θ(A x; y)."""

from bilevel.ground.contents import contents as _contents
from bilevel.model.fidelities.accompanied import Accompanied as Accompanied
from bilevel.model.fidelities.anscombe import Anscombe as Anscombe
from bilevel.model.fidelities.fidelity import DataTerm as DataTerm
from bilevel.model.fidelities.fidelity import Fidelities as Fidelities
from bilevel.model.fidelities.fidelity import Fidelity as Fidelity
from bilevel.model.fidelities.gaussian_impulse import GaussianImpulse as GaussianImpulse
from bilevel.model.fidelities.gaussian_poisson import GaussianPoisson as GaussianPoisson
from bilevel.model.fidelities.heteroscedastic_l2 import HeteroscedasticL2 as HeteroscedasticL2
from bilevel.model.fidelities.kullback_leibler import KullbackLeibler as KullbackLeibler
from bilevel.model.fidelities.l1 import L1 as L1
from bilevel.model.fidelities.masked import Masked as Masked
from bilevel.model.fidelities.own_coils import OwnCoils as OwnCoils
from bilevel.model.fidelities.rician import Rician as Rician
from bilevel.model.fidelities.sampled_l2 import SampledL2 as SampledL2
from bilevel.model.fidelities.smoothed_l1 import SmoothedL1 as SmoothedL1
from bilevel.model.fidelities.speckle import Speckle as Speckle
from bilevel.model.fidelities.squared_l2 import SquaredL2 as SquaredL2
from bilevel.model.fidelities.student_t import StudentT as StudentT

__doc__ = _contents(__name__)

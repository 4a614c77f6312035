"""Bilevel learning of hyper-parameters in image reconstruction, with certified accuracy.

===================  ==============================================================================
reconstruct          ``Variational(fidelity, regulariser)``, ``minimise``, ``argmin``, ``Tolerance``
                     ``reconstruct`` (arrays), ``Reconstruction`` (a layer)
learn                ``BilevelProblem``, ``learn``, ``load``, ``race``, ``check_hypergradient``
train without it     ``pretrain`` and the methods in ``pretraining``
choose a weight      ``select``, ``compare``, ``calibrate``, ``directional_maps``
families of parts    ``operators``, ``fidelities``, ``regularisers``, ``networks``, ``losses``,
                     ``solvers``, ``hypergradients``, ``algorithms``, ``schedules``, ``rules``,
                     ``criteria``, ``penalties``
images and noise     ``data``
other libraries      ``interop``, ``operators.Linear``, ``check_adjoint``
parts of one's own   ``extend``
===================  ==============================================================================

``help(bilevel.operators)`` lists a family, ``help(bilevel.learn)`` explains one thing.
"""

import os

# Threads that wait by spinning bring a busy machine to a halt; read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from bilevel import data as data
from bilevel import extend as extend
from bilevel import interop as interop
from bilevel.differentiate import Upper as Upper
from bilevel.differentiate import UpperGradient as UpperGradient
from bilevel.differentiate import argmin as argmin
from bilevel.differentiate import finite_differences as finite_differences
from bilevel.differentiate import hypergradients as hypergradients
from bilevel.ground import BilevelError as BilevelError
from bilevel.ground import BilevelWarning as BilevelWarning
from bilevel.ground import InputError as InputError
from bilevel.ground import NotCertified as NotCertified
from bilevel.ground import Theta as Theta
from bilevel.learn import Accuracy as Accuracy
from bilevel.learn import BilevelProblem as BilevelProblem
from bilevel.learn import Budget as Budget
from bilevel.learn import FiniteSum as FiniteSum
from bilevel.learn import Fit as Fit
from bilevel.learn import Race as Race
from bilevel.learn import Record as Record
from bilevel.learn import SharedProblem as SharedProblem
from bilevel.learn import UnsupervisedProblem as UnsupervisedProblem
from bilevel.learn import algorithms as algorithms
from bilevel.learn import check_hypergradient as check_hypergradient
from bilevel.learn import criteria as criteria
from bilevel.learn import exchanged as exchanged
from bilevel.learn import learn as learn
from bilevel.learn import load as load
from bilevel.learn import penalties as penalties
from bilevel.learn import pretrain as pretrain
from bilevel.learn import pretraining as pretraining
from bilevel.learn import race as race
from bilevel.learn import schedules as schedules
from bilevel.learn.reconstruction import Reconstruction as Reconstruction
from bilevel.learn.reconstruction import reconstruct as reconstruct
from bilevel.model import Cost as Cost
from bilevel.model import Energy as Energy
from bilevel.model import Variational as Variational
from bilevel.model import fidelities as fidelities
from bilevel.model import losses as losses
from bilevel.model import networks as networks
from bilevel.model import operators as operators
from bilevel.model import regularisers as regularisers
from bilevel.model import sets as sets
from bilevel.model.operators.adjointness import check_adjoint as check_adjoint
from bilevel.select import Choice as Choice
from bilevel.select import Comparison as Comparison
from bilevel.select import calibrate as calibrate
from bilevel.select import compare as compare
from bilevel.select import directional_maps as directional_maps
from bilevel.select import rules as rules
from bilevel.select import select as select
from bilevel.solve import Certificate as Certificate
from bilevel.solve import Claim as Claim
from bilevel.solve import Solution as Solution
from bilevel.solve import Status as Status
from bilevel.solve import Tolerance as Tolerance
from bilevel.solve import certify_locally as certify_locally
from bilevel.solve import curvature as curvature
from bilevel.solve import minimise as minimise
from bilevel.solve import solvers as solvers

__version__ = "0.1.0"

"""What an author of parts needs: the bases to derive from, and what their methods speak of.

A part of one's own is one file that imports from here and from ``bilevel`` alone. It is used from
Python like those of the library, and from a configuration with ``--import FILE``, under its name
in lower case with hyphens (``HeavyBall`` is ``heavy-ball``): the options of its constructor are
the keys of its table, their ``Args:`` text is their description. ``tests/extending`` holds one
example of each kind, ``docs/add-*.md`` explains three.

========================  =========================================================================
to write                  derive from
========================  =========================================================================
a forward operator        :class:`Operator`
a fidelity                :class:`Fidelity`, or :class:`WeightedFidelity` for one with a weight
a regulariser             :class:`Regulariser`, or :class:`FilteredRegulariser` for Σ w φ((W x)_i),
                          or :class:`NetworkRegulariser` for what autograd differentiates
a loss                    :class:`Loss`
a noise                   :class:`Noise`
a solver                  :class:`Solver`
a hypergradient           :class:`Hypergradient`, or :class:`AdjointMethod` for one with an adjoint
an upper-level algorithm  :class:`Algorithm`, with a :class:`FitStatus`
a schedule of accuracies  :class:`Schedule`
a rule for a weight       :class:`Rule`
a criterion               :class:`Criterion`
a penalty of θ            :class:`Penalty`
========================  =========================================================================
"""

from bilevel.data import Noise as Noise
from bilevel.differentiate.adjoint import AdjointMethod as AdjointMethod
from bilevel.differentiate.hypergradient import Hypergradient as Hypergradient
from bilevel.differentiate.hypergradient import UpperGradient as UpperGradient
from bilevel.differentiate.upper import Upper as Upper
from bilevel.ground import Theta as Theta
from bilevel.ground import rows as rows
from bilevel.ground import theta as _theta
from bilevel.ground.checks import check_choice as check_choice
from bilevel.ground.checks import check_finite as check_finite
from bilevel.ground.checks import check_images as check_images
from bilevel.ground.checks import check_nonnegative as check_nonnegative
from bilevel.ground.checks import check_positive as check_positive
from bilevel.ground.errors import InputError as InputError
from bilevel.ground.packing import Packable as Packable
from bilevel.ground.randomness import generator as generator
from bilevel.learn import algorithm as _fit
from bilevel.learn.algorithm import Algorithm as Algorithm
from bilevel.learn.algorithm import Trial as Trial
from bilevel.learn.algorithm import normalised_step as normalised_step
from bilevel.learn.algorithm import projected_gradient_norm as projected_gradient_norm
from bilevel.learn.algorithm import settled as settled
from bilevel.learn.algorithm import verdict as verdict
from bilevel.learn.criteria import Criterion as Criterion
from bilevel.learn.evaluation import Evaluation as Evaluation
from bilevel.learn.penalties import Penalty as Penalty
from bilevel.learn.problem import DirectedProblem as DirectedProblem
from bilevel.learn.problem import Problem as Problem
from bilevel.learn.schedules import Progress as Progress
from bilevel.learn.schedules import Schedule as Schedule
from bilevel.learn.search import search as search
from bilevel.learn.search import sufficient_decrease as sufficient_decrease
from bilevel.learn.separable import BilevelProblem as BilevelProblem
from bilevel.linear import LinearMap as LinearMap
from bilevel.linear import LinearSolution as LinearSolution
from bilevel.linear import LinearSolver as LinearSolver
from bilevel.linear import LinearStatus as LinearStatus
from bilevel.linear import System as System
from bilevel.model.bounds import Bounds as Bounds
from bilevel.model.bounds import Magnitude as Magnitude
from bilevel.model.bounds import Provenance as Provenance
from bilevel.model.bounds import Reach as Reach
from bilevel.model.bounds import Smoothness as Smoothness
from bilevel.model.bounds import Variation as Variation
from bilevel.model.composite import CompositeObjective as CompositeObjective
from bilevel.model.cost import Cost as Cost
from bilevel.model.energy import Energy as Energy
from bilevel.model.energy import SmoothObjective as SmoothObjective
from bilevel.model.fidelities.fidelity import DataTerm as DataTerm
from bilevel.model.fidelities.fidelity import Fidelity as Fidelity
from bilevel.model.fidelities.weighted import WeightedFidelity as WeightedFidelity
from bilevel.model.losses import Loss as Loss
from bilevel.model.losses.loss import by_autograd as by_autograd
from bilevel.model.losses.loss import unknown as unknown
from bilevel.model.networks.network import NetworkRegulariser as NetworkRegulariser
from bilevel.model.objective import Objective as Objective
from bilevel.model.operators.operator import Interval as Interval
from bilevel.model.operators.operator import Operator as Operator
from bilevel.model.operators.operator import Shape as Shape
from bilevel.model.part import Part as Part
from bilevel.model.part import around as around
from bilevel.model.part import check_learn as check_learn
from bilevel.model.part import positive_parameter as positive_parameter
from bilevel.model.penalties import RadialPenalty as RadialPenalty
from bilevel.model.penalties import SeparablePenalty as SeparablePenalty
from bilevel.model.potentials import POTENTIALS as POTENTIALS
from bilevel.model.preconditioner import Stencil as Stencil
from bilevel.model.regularisers.filtered import FilteredRegulariser as FilteredRegulariser
from bilevel.model.regularisers.regulariser import ImageTerm as ImageTerm
from bilevel.model.regularisers.regulariser import Regulariser as Regulariser
from bilevel.model.saddle import SaddleObjective as SaddleObjective
from bilevel.model.sets import Box as Box
from bilevel.model.sets import L1Ball as L1Ball
from bilevel.model.sets import Product as Product
from bilevel.model.sets import Set as Set
from bilevel.select.choice import Outcome as Outcome
from bilevel.select.point import Point as Point
from bilevel.select.rule import Goal as Goal
from bilevel.select.rule import Rule as Rule
from bilevel.solve.certificate import Certificate as Certificate
from bilevel.solve.certificate import Claim as Claim
from bilevel.solve.certificate import Tolerance as Tolerance
from bilevel.solve.solution import Solution as Solution
from bilevel.solve.solution import Status as Status
from bilevel.solve.solver import Solver as Solver

theta_algebra = _theta
"""Sums, inner products and norms of dicts of parameters."""
FitStatus = _fit.Status
"""Why a fit ended; ``bilevel.Status`` is that of a solve."""

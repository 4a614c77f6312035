"""The upper level: problem, loop, fit."""

from bilevel.learn import criteria
from bilevel.learn.accuracy import Accuracy
from bilevel.learn.algorithm import Algorithm, Status
from bilevel.learn.budget import Budget
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.fit import Fit, load
from bilevel.learn.learn import learn
from bilevel.learn.problem import DirectedProblem, Problem
from bilevel.learn.race import Entry, Race, race
from bilevel.learn.record import Record
from bilevel.learn.separable import BilevelProblem
from bilevel.learn.shared import FiniteSum, SharedProblem
from bilevel.learn.taylor import TaylorTest, check_hypergradient
from bilevel.learn.unsupervised import UnsupervisedProblem

__all__ = [
    "Accuracy",
    "Algorithm",
    "BilevelProblem",
    "Budget",
    "DirectedProblem",
    "Entry",
    "Evaluation",
    "FiniteSum",
    "Fit",
    "Problem",
    "Race",
    "Record",
    "SharedProblem",
    "Status",
    "TaylorTest",
    "UnsupervisedProblem",
    "check_hypergradient",
    "criteria",
    "learn",
    "load",
    "race",
]

"""Bilevel learning of hyper-parameters in image reconstruction, with certified accuracy."""

import os

# Threads that wait by spinning bring a busy machine to a halt; read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from bilevel import data
from bilevel.differentiate import (
    HyperGradient,
    Implicit,
    Upper,
    argmin,
    finite_differences,
)
from bilevel.ground import BilevelError, InputError, NotCertified, Theta
from bilevel.learn import (
    Accuracy,
    BilevelProblem,
    Budget,
    FiniteSum,
    Fit,
    Race,
    Record,
    SharedProblem,
    UnsupervisedProblem,
    algorithms,
    check_hypergradient,
    criteria,
    learn,
    load,
    race,
    schedules,
)
from bilevel.model import (
    Cost,
    Energy,
    Variational,
    fidelities,
    losses,
    operators,
    regularisers,
    sets,
)
from bilevel.select import Choice, Comparison, compare, rules, select
from bilevel.solve import (
    Certificate,
    Claim,
    Solution,
    Status,
    Tolerance,
    certify_locally,
    curvature,
    minimise,
    solvers,
)

__version__ = "0.1.0"

__all__ = [
    "Accuracy",
    "BilevelError",
    "BilevelProblem",
    "Budget",
    "Certificate",
    "Choice",
    "Claim",
    "Comparison",
    "Cost",
    "Energy",
    "FiniteSum",
    "Fit",
    "HyperGradient",
    "Implicit",
    "InputError",
    "NotCertified",
    "Race",
    "Record",
    "SharedProblem",
    "Solution",
    "Status",
    "Theta",
    "Tolerance",
    "UnsupervisedProblem",
    "Upper",
    "Variational",
    "algorithms",
    "argmin",
    "certify_locally",
    "check_hypergradient",
    "compare",
    "criteria",
    "curvature",
    "data",
    "fidelities",
    "finite_differences",
    "learn",
    "load",
    "losses",
    "minimise",
    "operators",
    "race",
    "regularisers",
    "rules",
    "schedules",
    "select",
    "sets",
    "solvers",
]

"""What is minimised: energies, objectives, their parts and constants."""

from bilevel.model.bounds import Bounds, Provenance, Reach, Variation
from bilevel.model.composite import CompositeObjective
from bilevel.model.cost import Cost
from bilevel.model.energy import Energy
from bilevel.model.kinds import by_kind, required
from bilevel.model.objective import Curved, Objective
from bilevel.model.part import Part, space_of
from bilevel.model.saddle import SaddleObjective
from bilevel.model.smooth import Pull, Smooth
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.model.variational import Variational

__all__ = [
    "Bounds",
    "CompositeObjective",
    "Cost",
    "Curved",
    "Energy",
    "Objective",
    "Part",
    "Provenance",
    "Pull",
    "Reach",
    "SaddleObjective",
    "Smooth",
    "SmoothObjective",
    "Variation",
    "Variational",
    "by_kind",
    "required",
    "space_of",
]

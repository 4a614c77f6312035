"""What is minimised: energies, objectives, their parts and constants."""

from bilevel.model.bounds import Bounds, Provenance, Variation
from bilevel.model.composite import CompositeObjective
from bilevel.model.cost import Cost
from bilevel.model.energy import Energy, EnergyObjective
from bilevel.model.objective import Objective
from bilevel.model.part import Part, space_of
from bilevel.model.saddle import SaddleObjective
from bilevel.model.variational import Variational

__all__ = [
    "Bounds",
    "CompositeObjective",
    "Cost",
    "Energy",
    "EnergyObjective",
    "Objective",
    "Part",
    "Provenance",
    "SaddleObjective",
    "Variation",
    "Variational",
    "space_of",
]

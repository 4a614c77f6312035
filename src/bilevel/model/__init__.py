"""What is minimised: energies, objectives, their parts and constants."""

from bilevel.model.bounds import Bounds, Provenance, Variation
from bilevel.model.cost import Cost
from bilevel.model.energy import Energy, EnergyObjective
from bilevel.model.objective import Objective
from bilevel.model.part import Part, space_of
from bilevel.model.variational import Variational

__all__ = [
    "Bounds",
    "Cost",
    "Energy",
    "EnergyObjective",
    "Objective",
    "Part",
    "Provenance",
    "Variation",
    "Variational",
    "space_of",
]

"""Fidelities Ψ_θ(A x; y)."""

from bilevel.model.fidelities.fidelity import Fidelity
from bilevel.model.fidelities.squared_l2 import SquaredL2

__all__ = ["Fidelity", "SquaredL2"]

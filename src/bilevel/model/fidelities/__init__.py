"""Fidelities Ψ_θ(A x; y)."""

from bilevel.model.fidelities.fidelity import DataTerm, Fidelities, Fidelity
from bilevel.model.fidelities.kullback_leibler import KullbackLeibler
from bilevel.model.fidelities.l1 import L1
from bilevel.model.fidelities.squared_l2 import SquaredL2

__all__ = ["L1", "DataTerm", "Fidelities", "Fidelity", "KullbackLeibler", "SquaredL2"]

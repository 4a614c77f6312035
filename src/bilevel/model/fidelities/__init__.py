"""Fidelities Ψ_θ(A x; y)."""

from bilevel.model.fidelities.fidelity import Fidelity
from bilevel.model.fidelities.kullback_leibler import KullbackLeibler
from bilevel.model.fidelities.l1 import L1
from bilevel.model.fidelities.squared_l2 import SquaredL2

__all__ = ["L1", "Fidelity", "KullbackLeibler", "SquaredL2"]

"""Tensors only: rows of a batch, θ as a dict, errors, input checks, seeded randomness."""

from bilevel.ground.errors import BilevelError, BilevelWarning, InputError, NotCertified
from bilevel.ground.theta import Theta

__all__ = ["BilevelError", "BilevelWarning", "InputError", "NotCertified", "Theta"]

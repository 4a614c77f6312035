"""Tensors only: rows of a batch, θ as a dict, errors, input checks, seeded randomness."""

from bilevel.ground.errors import BilevelError, InputError, NotCertified
from bilevel.ground.theta import Theta

__all__ = ["BilevelError", "InputError", "NotCertified", "Theta"]

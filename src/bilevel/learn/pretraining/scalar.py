"""A few numbers, learned on a few images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from bilevel.ground.checks import check_count, check_kind
from bilevel.ground.theta import Theta
from bilevel.learn.algorithm import Algorithm
from bilevel.learn.algorithms.automatic import Automatic
from bilevel.learn.pretraining.method import Method
from bilevel.learn.problem import Problem
from bilevel.learn.restricted import restricted
from bilevel.learn.sample import Sample
from bilevel.learn.separable import BilevelProblem

__all__ = ["ScalarFit"]


@dataclass(frozen=True)
class ScalarFit(Method):
    """A few parameters of a bilevel problem, learned on its first images; the rest stays.

    What training without a lower level does not tell: weight, scale and sharpness of a regulariser
    for the noise and the operator at hand.

    Args:
        names: of parameters, their beginnings up to a dot or their ends after one; all that are
            single numbers if empty.
        images: how many samples; all if None.
        algorithm: of the upper level.

    Raises:
        InputError: a count below 1; by ``pretrain``, names of nothing that is learned.

    Example:
        >>> ScalarFit(["log_weight", "log_scaling"], images=8).images
        8
    """

    names: Sequence[str] = ()
    images: int | None = 16
    algorithm: Algorithm[Any] = field(default_factory=Automatic)

    def __post_init__(self) -> None:
        """Check the options."""
        check_count(self.images, "images")
        check_kind(self.algorithm, Algorithm, "algorithm", "e.g. bl.algorithms.MAID()")

    def problem(self, whole: BilevelProblem, theta: Theta, seed: int) -> Problem:
        """The bilevel problem of those parameters and images."""
        del seed
        few = restricted(whole, self.names, theta)
        if self.images is None or self.images >= len(few):
            return few
        return Sample(few, torch.arange(self.images), blocks=1)

    def solver(self) -> Algorithm[Any]:
        """The algorithm."""
        return self.algorithm

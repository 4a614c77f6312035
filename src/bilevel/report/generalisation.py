"""Does θ work on images that it was not learned from? Training gain against held-out gain."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bilevel.report.comparison import Scores
from bilevel.report.words import count, gain, plural

__all__ = ["Generalisation"]

_MARKED = 0.5
_VALUES_PER_PARAMETER = 10


@dataclass(frozen=True)
class Generalisation:
    """Gains on training and held-out images, and what their difference means.

    Training ahead by more than 0.5 dB is overfitting if θ has the freedom for it (fewer than ten
    grey values of training images a parameter), or if the difference is more than two standard
    errors: images differ in how much they can gain, and a few of them prove little.

    Example:
        >>> from bilevel.report.comparison import Score
        >>> def one(psnr: float) -> Scores:
        ...     return Scores((Score("a", 20.0, psnr, 0.5, 0.9, 1e-4, ""),))
        >>> Generalisation(one(32.0), one(21.0), parameters=4097, values=4096).overfitted
        True
    """

    training: Scores
    held_out: Scores
    parameters: int
    """Numbers learned."""
    values: int
    """Grey values in the training images."""

    @property
    def excess(self) -> float:
        """Mean training gain less mean held-out gain [dB]."""
        return self.training.mean.gain - self.held_out.mean.gain

    @property
    def standard_error(self) -> float:
        """Of the excess, from the scatter of all gains within their groups [dB]; inf if unknown."""
        degrees = [len(group) - 1 for group in (self.training, self.held_out)]
        if not sum(degrees):
            return math.inf
        squares = sum(
            d * g.scatter**2
            for d, g in zip(degrees, (self.training, self.held_out), strict=True)
            if d
        )
        variance = squares / sum(degrees)
        return math.sqrt(variance * (1 / len(self.training) + 1 / len(self.held_out)))

    @property
    def free(self) -> bool:
        """Whether θ has so many entries that it can fit single images."""
        return self.values < _VALUES_PER_PARAMETER * self.parameters

    @property
    def overfitted(self) -> bool:
        """Whether training images gain markedly more."""
        return self.excess > (_MARKED if self.free else max(_MARKED, 2 * self.standard_error))

    @property
    def sentence(self) -> str:
        """The verdict with its numbers."""
        numbers = (
            f"{plural(len(self.training), 'training image')} gained "
            f"{gain(self.training.mean.gain)}, "
            f"{plural(len(self.held_out), 'held-out image')} {gain(self.held_out.mean.gain)}"
        )
        if self.overfitted:
            reason = (
                f"{plural(self.parameters, 'parameter')} were fitted to "
                f"{count(self.values)} grey values"
                if self.free
                else "the difference is larger than images differ among themselves"
            )
            warning = "do not expect the training gain on new images"
            return f"This is overfitting: {numbers}; {reason}: {warning}."
        if self.excess > _MARKED:
            if math.isinf(self.standard_error):
                return f"{numbers}; one image each is too few to say why."
            return f"{numbers}; the difference is no larger than images differ among themselves."
        return f"{numbers}: no sign of overfitting."

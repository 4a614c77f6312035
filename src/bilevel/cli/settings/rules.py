"""The [rule] table: how a weight is chosen without the truth."""

from __future__ import annotations

from abc import abstractmethod

from pydantic import Field

from bilevel import data
from bilevel.cli.settings.base import Count, Positive, Seed, Settings
from bilevel.ground.errors import InputError
from bilevel.select import Rule, rules
from bilevel.select.degrees import Degrees

__all__ = ["SURE", "CountingRule", "Discrepancy", "PredictedRisk", "RuleSettings"]


class RuleSettings(Settings):
    """A rule."""

    @abstractmethod
    def build(self, noise: data.Noise) -> Rule:
        """The rule for data with that noise.

        Raises:
            InputError: noise that the rule is not made for.
        """


class CountingRule(RuleSettings):
    """A rule that counts the degrees of freedom of a reconstruction."""

    probes: Count = Field(default=1, description="random images that the counting takes")
    seed: Seed = Field(default=0, description="of these")

    @property
    def degrees(self) -> Degrees:
        """How they are counted."""
        return Degrees(probes=self.probes, seed=self.seed)


class Discrepancy(CountingRule):
    """Residuals as large as the noise: ‖A x - y‖² = tau² m σ². Smooths a little too much."""

    tau: Positive = Field(default=1.0, description="factor of the noise level")
    corrected: bool = Field(
        default=False, description="count the noise that is fitted: m less the degrees of freedom"
    )

    def build(self, noise: data.Noise) -> Rule:
        """For Gaussian noise."""
        sigma = sigma_of("the discrepancy principle", noise)
        return rules.Discrepancy(sigma, self.tau, self.corrected, self.degrees)


class SURE(CountingRule):
    """Least estimated error of x, unbiased: for denoising, σ known."""

    def build(self, noise: data.Noise) -> Rule:
        """For Gaussian noise."""
        return rules.SURE(sigma_of("SURE", noise), self.degrees)


class PredictedRisk(CountingRule):
    """Least estimated error of A x, unbiased: for any operator, σ known."""

    def build(self, noise: data.Noise) -> Rule:
        """For Gaussian noise."""
        return rules.PredictedRisk(sigma_of("the predicted risk", noise), self.degrees)


def sigma_of(rule: str, noise: data.Noise) -> float:
    """The level of Gaussian noise.

    Raises:
        InputError: other noise.
    """
    if not isinstance(noise, data.GaussianNoise):
        what = f"{rule} is for Gaussian noise of known level"
        raise InputError(what, given=type(noise).__name__, advice="`bilevel list rules` has others")
    return noise.sigma

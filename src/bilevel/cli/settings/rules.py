"""The [rule] table: how a weight is chosen without the truth."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from bilevel import data
from bilevel.cli.settings.base import Count, Fraction, Positive, Seed, Settings
from bilevel.ground.errors import InputError
from bilevel.select import Rule, rules
from bilevel.select.degrees import Degrees

__all__ = [
    "GCV",
    "GSURE",
    "PURE",
    "SURE",
    "CountingRule",
    "Discrepancy",
    "Gaussianity",
    "HoldOut",
    "LCurve",
    "PoissonDiscrepancy",
    "PredictedRisk",
    "QuasiOptimality",
    "RuleSettings",
    "Whiteness",
]


class RuleSettings(Settings):
    """A rule."""

    needs_noise: ClassVar[bool] = True

    @abstractmethod
    def build(self, noise: data.Noise | None) -> Rule:
        """The rule for data with that noise; None will do unless ``needs_noise``.

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

    def build(self, noise: data.Noise | None) -> Rule:
        """For Gaussian noise."""
        sigma = sigma_of("the discrepancy principle", noise)
        return rules.Discrepancy(sigma, self.tau, self.corrected, self.degrees)


class SURE(CountingRule):
    """Least estimated error of x, unbiased: for denoising, σ known."""

    def build(self, noise: data.Noise | None) -> Rule:
        """For Gaussian noise."""
        return rules.SURE(sigma_of("SURE", noise), self.degrees)


class PredictedRisk(CountingRule):
    """Least estimated error of A x, unbiased: for any operator, σ known."""

    def build(self, noise: data.Noise | None) -> Rule:
        """For Gaussian noise."""
        return rules.PredictedRisk(sigma_of("the predicted risk", noise), self.degrees)


class GSURE(CountingRule):
    """Least estimated error of the part of x that A sees, unbiased: for any operator, σ known."""

    truncation: Positive = Field(
        default=0.1, description="singular values below this part of the largest count as 0"
    )

    def build(self, noise: data.Noise | None) -> Rule:
        """For Gaussian noise."""
        return rules.GSURE(sigma_of("GSURE", noise), self.degrees, self.truncation)


class Gaussianity(RuleSettings):
    """Residuals most nearly as large as the noise: the discrepancy principle as a minimum."""

    def build(self, noise: data.Noise | None) -> Rule:
        """For Gaussian noise."""
        return rules.Gaussianity(sigma_of("the Gaussianity of residuals", noise))


class GCV(CountingRule):
    """Generalised cross-validation: data predicted from all the others, σ not needed."""

    needs_noise: ClassVar[bool] = False
    robustness: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="below 1 guards against weights far too small"
    )

    def build(self, noise: data.Noise | None) -> Rule:
        """For any level."""
        del noise
        return rules.GCV(self.robustness, self.degrees)


class HoldOut(RuleSettings):
    """Data held out are predicted from the rest: σ not needed."""

    needs_noise: ClassVar[bool] = False
    part: Fraction = Field(default=0.1, description="of the data that is held out")
    seed: Seed = Field(default=0, description="of the choice")

    def build(self, noise: data.Noise | None) -> Rule:
        """For any level."""
        del noise
        return rules.HoldOut(self.part, self.seed)


class LCurve(RuleSettings):
    """The corner of residual against penalty on logarithmic scales: σ not needed."""

    needs_noise: ClassVar[bool] = False
    corner: Literal["curvature", "triangle"] = Field(
        default="curvature", description="greatest curvature, or sharpest triangle on a grid"
    )

    def build(self, noise: data.Noise | None) -> Rule:
        """For any level."""
        del noise
        return rules.LCurve(self.corner)


class QuasiOptimality(RuleSettings):
    """Where x changes least with the weight: σ not needed, an operator that loses much is."""

    needs_noise: ClassVar[bool] = False

    def build(self, noise: data.Noise | None) -> Rule:
        """For any level."""
        del noise
        return rules.QuasiOptimality()


class Whiteness(RuleSettings):
    """Residuals as white as can be: σ not needed, but white noise is."""

    needs_noise: ClassVar[bool] = False
    patch: Annotated[int, Field(ge=0)] = Field(
        default=16, description="side of the squares looked at, in pixels; 0: the whole image"
    )

    def build(self, noise: data.Noise | None) -> Rule:
        """For any level."""
        del noise
        return rules.Whiteness(patch=self.patch or None)


class PoissonDiscrepancy(RuleSettings):
    """As far from the counts as the noise is expected to be: Poisson noise of known peak."""

    target: Literal["expected", "half", "masked"] = Field(
        default="expected", description="of the divergence from the data"
    )

    def build(self, noise: data.Noise | None) -> Rule:
        """For Poisson noise."""
        return rules.PoissonDiscrepancy(peak_of("the discrepancy of counts", noise), self.target)


class PURE(CountingRule):
    """Least estimated error of A x, nearly unbiased: Poisson noise of known peak."""

    def build(self, noise: data.Noise | None) -> Rule:
        """For Poisson noise."""
        return rules.PURE(peak_of("PURE", noise), self.degrees)


def peak_of(rule: str, noise: data.Noise | None) -> float:
    """The photons at grey value 1.

    Raises:
        InputError: other noise.
    """
    if not isinstance(noise, data.PoissonNoise):
        what = f"{rule} is for Poisson noise of known peak"
        raise InputError(what, given=type(noise).__name__, advice="`bilevel list rules` has others")
    return noise.peak


def sigma_of(rule: str, noise: data.Noise | None) -> float:
    """The level of Gaussian noise.

    Raises:
        InputError: other noise.
    """
    if not isinstance(noise, data.GaussianNoise):
        what = f"{rule} is for Gaussian noise of known level"
        raise InputError(what, given=type(noise).__name__, advice="`bilevel list rules` has others")
    return noise.sigma

"""The tables of rules and criteria: what they know of the noise is what the configuration says."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor

from bilevel import data
from bilevel.cli.settings.kinds import Table
from bilevel.cli.settings.reflect import parameters_of
from bilevel.ground.errors import InputError
from bilevel.learn.criteria import Criterion
from bilevel.select import Rule
from bilevel.select.degrees import Degrees

__all__ = ["CountingRule", "CriterionSettings", "RuleSettings"]


class RuleSettings(Table):
    """A rule that chooses a weight; what it knows of the noise is that of the configuration."""

    given_elsewhere = ("sigma", "peak", "degrees")

    @property
    def needs_noise(self) -> bool:
        """Whether the noise must be known, or estimated."""
        return bool({"sigma", "peak"} & set(parameters_of(self.stands_for)))

    def build(self, noise: data.Noise | None, levels: Tensor | None = None) -> Rule:
        """The rule for data with that noise; None will do unless ``needs_noise``.

        ``levels`` (b,) are those of Gaussian noise where every row has its own.

        Raises:
            InputError: noise that the rule is not made for.
        """
        known = _known(self.stands_for, noise, "rules")
        return self.make(**(known if levels is None else dict.fromkeys(known, levels)))

    def trial(self) -> None:
        """With noise of level and peak 1."""
        self.make(**dict.fromkeys({"sigma", "peak"} & set(parameters_of(self.stands_for)), 1.0))


class CountingRule(RuleSettings):
    """A rule that counts the degrees of freedom of a reconstruction."""

    probes: int = Field(default=1, description="random images that the counting takes")
    seed: int = Field(default=0, description="of these")

    def make(self, **given: object) -> Any:
        """With what counts."""
        return super().make(degrees=Degrees(probes=self.probes, seed=self.seed), **given)


def _known(part: type, noise: data.Noise | None, family: str) -> dict[str, object]:
    """What a rule or a criterion is to know of the noise."""
    known: dict[str, object] = {}
    for name, kind, words in (
        ("sigma", data.GaussianNoise, "Gaussian noise of known level"),
        ("peak", data.PoissonNoise, "Poisson noise of known peak"),
    ):
        if name in parameters_of(part):
            if not isinstance(noise, kind):
                what = f"{part.__name__} is for {words}"
                advice = f"`bilevel list {family}` has others"
                raise InputError(what, given=type(noise).__name__, advice=advice)
            known[name] = getattr(noise, name)
    return known


class CriterionSettings(Table):
    """What learning without ground truth minimises; it knows the noise of the configuration."""

    given_elsewhere = ("sigma", "peak")

    def build(self, noise: data.Noise | None) -> Criterion:
        """The criterion for data with that noise; Gaussian noise of a level to estimate if None.

        Raises:
            InputError: noise that the criterion is not made for.
        """
        if noise is None and "sigma" in parameters_of(self.stands_for):
            return self.make(sigma=None)
        return self.make(**_known(self.stands_for, noise, "criteria"))

    def trial(self) -> None:
        """With noise of level and peak 1."""
        self.make(**dict.fromkeys({"sigma", "peak"} & set(parameters_of(self.stands_for)), 1.0))

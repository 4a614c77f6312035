"""Tables of algorithms where these differ from the library's."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bilevel.cli.settings.kinds import AccurateAlgorithm, AlgorithmSettings

__all__ = ["AcceleratedMAID", "OneMetric", "PlainMAID", "Search"]


class PlainMAID(AccurateAlgorithm):
    """Without acceleration."""

    fixed_options = {"accelerated": False}  # noqa: RUF012


class AcceleratedMAID(AccurateAlgorithm):
    """With it."""

    in_words = "MAID with Barzilai-Borwein steps: usually two to three times faster."
    fixed_options = {"accelerated": True}  # noqa: RUF012


class OneMetric(AccurateAlgorithm):
    """The same metric for the image and for the parameters: there is nothing to choose."""

    given_elsewhere = ("accuracy", "precondition")


class Search(AlgorithmSettings):
    """Trials, between bounds that must be given."""

    box: dict[str, Annotated[tuple[float, float], Field(strict=False)]] = Field(
        min_length=1,
        description="the interval [low, high] of each parameter, by name; weights are stored as "
        "logarithms. Parameters not named stay where they start",
    )

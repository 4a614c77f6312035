"""The table [pretrain]: what trains a regulariser before the bilevel problem is solved."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from bilevel.cli.settings.base import Choice, Count, Positive, Seed, Unfit
from bilevel.cli.settings.kinds import Table
from bilevel.learn import Budget
from bilevel.learn.pretraining import Method

__all__ = ["PretrainingSettings"]


class PretrainingSettings(Table):
    """A method with its own budget, and what follows it."""

    set_apart = ("seconds", "steps", "seed", "then")
    given_elsewhere = ("algorithm",)
    seconds: Positive | None = Field(default=None, description="of this training")
    steps: Count | None = Field(default=None, description="of this training, a batch each")
    seed: Seed = Field(default=0, description="of crops and noise")
    then: Annotated[PretrainingSettings | None, Choice("pretraining")] = Field(
        default=None,
        description="a training that goes on from there, a table [pretrain.then]",
    )

    @model_validator(mode="after")
    def _limited(self) -> PretrainingSettings:
        if self.stands_for is not None and self.seconds is None and self.steps is None:
            raise Unfit("name", "training needs a limit", advice="add e.g. seconds = 60")
        return self

    @property
    def budget(self) -> Budget:
        """Of this training alone."""
        limits = {"seconds": self.seconds, "steps": self.steps}
        return Budget(**{key: limit for key, limit in limits.items() if limit is not None})

    def build(self) -> Method:
        """The method itself."""
        return self.make()

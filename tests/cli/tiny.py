"""A configuration so small that learning takes a moment, and what a command leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

CONFIGURATION = """\
[data]
images = "embedded"
size = 16
count = 2
held_out = 1

[operator]
name = "gaussian-blur"
size = 3
sigma = 0.7

[noise]
name = "gaussian"
sigma = "10/255"

[regulariser]
name = "total-variation"
weight = 0.02
smoothing = 0.05

[ridge]
weight = 0.01

[budget]
steps = 2
"""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def owed(self) -> int:
        """The exit code that what was said calls for."""
        return 3 if "not answered: " in self.err else 0

    def refused(self) -> str:
        """The one line that a command refused its input with."""
        assert self.code == 2, self
        assert self.err.startswith("error: "), self
        assert self.err.count("\n") == 1, self
        assert not self.out, self
        return self.err


Run = Callable[..., Outcome]

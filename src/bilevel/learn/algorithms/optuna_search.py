"""Bayesian search with Optuna."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.ground.extras import load
from bilevel.ground.randomness import generator
from bilevel.learn.trials import TrialSearch

__all__ = ["OptunaSearch"]


@dataclass(frozen=True)
class OptunaSearch(TrialSearch):
    """Bayesian search by the package optuna.

    Tree-structured Parzen estimators in a box (Bergstra et al. 2011), as Optuna has them.

    Every trial is asked of a fresh study that is told all trials before it, so that a search is
    continued bit for bit. Trials whose loss is not finite are left out of it.

    Args:
        box: the interval of each parameter; the others stay where they start.
        trials: how many points.
        startup: the first ones, which are drawn at random.
        seed: of the sampler.
        accuracy: of the lower level, rms [grey value]; 1e-3 of the contrast if None.

    Raises:
        InputError: an empty box, no trials, or no package optuna.

    Example:
        >>> OptunaSearch({"a": (3.0, 4.0)}, trials=20).count
        20
    """

    trials: int = 50
    startup: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the options, and that the package is there."""
        super().__post_init__()
        if self.trials < 1 or self.startup < 1:
            given = self.trials, self.startup
            raise InputError("a search needs trials >= 1 and startup >= 1", given=given)
        _optuna()

    @property
    def count(self) -> int:
        """All of them."""
        return self.trials

    def point(self, points: Tensor, values: Tensor) -> Tensor:
        """What a study with these trials suggests."""
        optuna = _optuna()
        drawn = generator(self.seed, "optuna", len(values))
        seed = int(torch.randint(2**31, (), generator=drawn))
        sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=self.startup, multivariate=False
        )
        ranges: dict[str, Any] = {
            name: optuna.distributions.FloatDistribution(low, high)
            for name, (low, high) in self.box.items()
        }
        with _quiet(optuna):
            study = optuna.create_study(sampler=sampler)
            for point, value in zip(points, values, strict=True):
                if bool(value.isfinite()):
                    params = {k: float(v) for k, v in zip(self.box, point, strict=True)}
                    told = optuna.trial.create_trial(
                        params=params, distributions=ranges, value=float(value)
                    )
                    study.add_trial(told)
            asked = study.ask(ranges)
        chosen = [asked.params[name] for name in self.box]
        return torch.tensor(chosen, dtype=torch.float64)


def _optuna() -> Any:
    return load("optuna", "OptunaSearch", "search")


@contextmanager
def _quiet(optuna: Any) -> Generator[None]:
    """Optuna without its lines for every trial."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)

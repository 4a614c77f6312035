"""What [pretrain] asks for, before learning."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import typer

from bilevel.cli.config import Document
from bilevel.cli.console import INTERRUPTED, say
from bilevel.cli.progress import LearningProgress
from bilevel.learn import Fit, Status, pretrain
from bilevel.learn.separable import BilevelProblem, SeparableProblem

__all__ = ["PRETRAINED", "pretrained"]

PRETRAINED = "pretrained"
"""Where the fit of the last training is kept."""


def pretrained(document: Document, problem: SeparableProblem, out: Path) -> Fit | None:
    """What learning starts from; None where nothing is trained before.

    Raises:
        InputError: a method that is not for the problem; nothing is trained then.
        typer.Exit: with code 130 after Ctrl-C, the training so far is saved.
    """
    fit, settings, key = None, document.configuration.pretrain, "pretrain"
    while settings is not None:
        method, budget = settings.build(), settings.budget
        say(f"training before learning: {method}")
        with document.blaming(f"{key}.name"), LearningProgress(budget, None) as progress:
            fit = pretrain(
                cast(BilevelProblem, problem),  # pretrain refuses any other
                method,
                None if fit is None else fit.theta,
                budget=budget,
                seed=settings.seed,
                record=progress,
                checkpoint=out / PRETRAINED,
            )
        if fit.status is Status.INTERRUPTED:
            say(f"interrupted: the training so far is in {out / PRETRAINED}, nothing was learned")
            raise typer.Exit(INTERRUPTED)
        if fit.status is Status.DIVERGED:
            say(f"warning: {fit.reason}; what follows starts from the last good parameters")
        settings, key = settings.then, f"{key}.then"
    return fit

"""Data and rules put together: what is to be chosen, and how that goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from bilevel import data
from bilevel.cli.catalogue import CATALOGUE
from bilevel.cli.config import Selection, made
from bilevel.cli.progress import WeightProgress
from bilevel.cli.settings.rules import RuleSettings
from bilevel.ground.contrast import contrast
from bilevel.ground.errors import InputError, nearest
from bilevel.model import Variational
from bilevel.report import Compared
from bilevel.risk.noise import estimated_level
from bilevel.select import Rule, compare

__all__ = ["ALL", "Job", "Task", "named_rules", "prepare"]

ALL = "all"


@dataclass(frozen=True)
class Job:
    """Data (k, c', h', w') of one size with names; the truth and a learned weight if known.

    ``noise`` None is Gaussian noise of unknown level, ``levels`` (k,) those of noise that every
    image has its own of. ``seen`` (h', w') tells which of the data exist; all if None.
    """

    ids: tuple[str, ...]
    y: Tensor
    noise: data.Noise | None
    target: Tensor | None = None
    learned: float | None = None
    seen: Tensor | None = None
    levels: Tensor | None = None


@dataclass(frozen=True)
class Task:
    """A job with the energy and the rules that apply to it; ``estimated`` noise if one asked."""

    job: Job
    energy: Variational
    rules: Mapping[str, Rule]
    unfit: Mapping[str, str]
    span: tuple[float, float] | None = None
    estimated: data.Noise | None = None

    def run(self) -> Compared:
        """What the rules choose."""
        ids = self.job.ids
        where = ids[0] if len(ids) == 1 else f"{len(ids)} images"
        found = compare(
            self.energy,
            self.job.y,
            self.rules,
            target=self.job.target,
            learned=self.job.learned,
            span=self.span,
            heard=lambda name: WeightProgress(f"{name} on {where}"),
        )
        return Compared(ids, replace(found, failures={**self.unfit, **found.failures}))


def named_rules(names: str) -> dict[str, RuleSettings]:
    """The rules of a list with commas, or all, with their defaults.

    Raises:
        InputError: an unknown name, one that is given twice, or none at all.
    """
    entries = CATALOGUE["rules"]
    asked = [name.strip() for name in names.split(",") if name.strip()]
    for name in asked if asked != [ALL] else []:
        if name not in entries:
            raise InputError(f"--rules: unknown rule '{name}'", advice=nearest(name, entries))
        if asked.count(name) > 1:
            raise InputError(f"--rules names '{name}' twice")
    if not asked:
        raise InputError("--rules names no rule", advice=f"e.g. --rules {ALL}")
    wanted = list(entries) if asked == [ALL] else asked
    return {name: made("rules", {"name": name}, RuleSettings) for name in wanted}


def prepare(selection: Selection, rules: Mapping[str, RuleSettings], job: Job) -> Task:
    """What is to be done for one job; rules that do not apply are named with the reason.

    Raises:
        InputError: data that do not fit the model, or no rule that applies.
    """
    like = job.y if job.target is None else job.target
    shape = (like.shape[1], like.shape[2], like.shape[3])
    shape = selection.image_shape(shape) if job.target is None else shape
    energy = _shown(selection, selection.energy(shape, seen=job.seen), job)
    grey = energy.contrast(job.y) if job.target is None else contrast(job.target)
    energy = _shown(selection, selection.energy(shape, contrast=grey, seen=job.seen), job)
    energy.settle(job.y, grey)
    built: dict[str, Rule] = {}
    unfit: dict[str, str] = {}
    estimated: list[data.Noise] = []

    def noise() -> data.Noise:
        if job.noise is not None:
            return job.noise
        if not estimated:
            estimated.append(_estimated(energy, job.y))
        return estimated[0]

    for name, settings in rules.items():
        try:
            rule = settings.build(noise() if settings.needs_noise else None, job.levels)
            rule.check(energy, job.y)
        except InputError as error:
            unfit[name] = str(error)
        else:
            built[name] = rule
    if not built:
        reasons = "; ".join(unfit.values())
        raise InputError(reasons if len(unfit) == 1 else f"no rule applies: {reasons}")
    return Task(job, energy, built, unfit, selection.span, estimated[0] if estimated else None)


def _shown(selection: Selection, energy: Variational, job: Job) -> Variational:
    """With what the data, or their names, show of the operator."""
    own = energy.fidelity
    own.operator = selection.operator.shown_by(job.y, own.operator, job.ids)
    return energy


def _estimated(energy: Variational, y: Tensor) -> data.Noise:
    """Gaussian noise of the level that one image of data shows."""
    try:
        return data.GaussianNoise(float(estimated_level(energy, y)))
    except InputError as error:
        what = f"the noise level is not given: {error}"
        raise InputError(what, advice="or give it, e.g. --sigma 10/255") from error

"""What reconstructs data in an evaluation: a fit, fixed weights, or a rule that chooses them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bilevel.cli.choice_report import unanswered
from bilevel.cli.choosing import Job, prepare
from bilevel.cli.config import Configuration, Selection, plain, read_selection
from bilevel.cli.config.reading import table_in, text_in
from bilevel.cli.reconstruction import Reconstructor
from bilevel.cli.resuming import difference
from bilevel.data import Pairs
from bilevel.ground.errors import InputError
from bilevel.model import Cost
from bilevel.report import ENDINGS, Samples
from bilevel.select import Outcome
from bilevel.solve import Status

__all__ = ["Found", "Learned", "Ruled", "Way", "ways_of"]


@dataclass(frozen=True, eq=False)
class Found:
    """Reconstructions beside the truth, what they cost, and what was not found."""

    samples: Samples
    cost: Cost
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Way(ABC):
    """One way to reconstruct, with a name of its own."""

    name: str

    @abstractmethod
    def __call__(self, pairs: Pairs, seen: Tensor | None) -> Found:
        """Reconstruct data of one size, of which those ``seen`` exist; all if None.

        Raises:
            InputError: data that do not fit.
        """

    @abstractmethod
    def made_for(self, data: Configuration) -> str | None:
        """What tells other data than these from those that it was made for; None if nothing."""


@dataclass(frozen=True)
class Learned(Way):
    """A fit, or the weights of a configuration."""

    reconstructor: Reconstructor

    def __call__(self, pairs: Pairs, seen: Tensor | None) -> Found:
        """By the solver that fits."""
        dtype = self.reconstructor.configuration.dtype
        own = Pairs(pairs.y.to(dtype), pairs.target.to(dtype), pairs.ids)
        samples, answer = self.reconstructor.scored(own, seen=seen)
        spent = Cost(int(answer.gradients.sum()), seconds=float(answer.seconds.sum()))
        return Found(samples, spent)

    def made_for(self, data: Configuration) -> str | None:
        """The first key of [operator] or [noise] that differs."""
        own, given = plain(self.reconstructor.configuration), plain(data)
        for table in ("operator", "noise"):
            found = difference(own[table], given[table])
            if found is not None:
                key, before, now = found
                return f"{table}{key} = {before}, where these have {now}"
        return None


@dataclass(frozen=True)
class Ruled(Way):
    """A weight for each image, by a rule that does not see the truth."""

    selection: Selection

    def __call__(self, pairs: Pairs, seen: Tensor | None) -> Found:
        """One after the other, as on the command line of ``bilevel select``."""
        rule, settings = self.selection.named_rule
        noise = self.selection.noise
        own = self.selection.in_precision(pairs.y.dtype)
        began = time.perf_counter()
        job = Job(pairs.ids, pairs.y, None if noise is None else noise.build(), seen=seen)
        compared = prepare(own, {rule: settings}, job).run()
        if compared.comparison.interrupted:
            raise KeyboardInterrupt
        if rule not in compared.comparison.choices:
            raise InputError(compared.comparison.failures[rule])
        choice = compared.comparison.choices[rule]
        missed = [outcome is Outcome.UNSOLVED for outcome in choice.outcome]
        status = torch.where(torch.tensor(missed), Status.MAX_STEPS, Status.CONVERGED)
        before = compared.comparison.before if pairs.y.shape != choice.x.shape else pairs.y
        samples = Samples(pairs.ids, before, choice.x, pairs.target, choice.certificate.rms, status)
        cost = replace(choice.cost, seconds=time.perf_counter() - began)
        doubted = [o for o in choice.outcome if not ENDINGS[o].answered]
        return Found(samples, cost, tuple(unanswered([compared])) if doubted else ())

    def made_for(self, data: Configuration) -> str | None:
        """What it takes the noise for, where its file says so."""
        own, given = self.selection.noise, data.noise
        if own is None or given is None:
            return None
        found = difference(plain(own), plain(given))
        if found is None:
            return None
        return f"noise{found[0]} = {found[1]}, where these have {found[2]}"


def ways_of(
    sources: Sequence[Path], accuracy: float | None, device: torch.device | None = None
) -> tuple[list[Way], Configuration]:
    """One for each folder or file, and the configuration that makes data: the first there is.

    A file with a table [rule] is a rule; what it does not say of operator and noise is as in that
    configuration. Other files are configurations with the weights in them.

    Raises:
        InputError: a source that is none of these, or no configuration among them.
    """
    tables = {path: table_in(path, text_in(path)) for path in sources if path.suffix == ".toml"}
    names = _names(sources)
    learned = {
        path: Reconstructor.load(path, accuracy, device)
        for path in sources
        if "rule" not in tables.get(path, {})
    }
    if not learned:
        what = "rules alone do not say how data are made"
        raise InputError(what, advice="name a fit or a configuration too")
    data = next(iter(learned.values())).configuration
    ways: list[Way] = []
    for path in sources:
        if path in learned:
            ways.append(Learned(names[path], learned[path]))
        else:
            ways.append(Ruled(names[path], _selection(path, tables[path], data)))
    return ways, data


def _selection(path: Path, table: Mapping[str, Any], data: Configuration) -> Selection:
    """The rule in a file, for the operator and the noise of the data unless it has its own."""
    own = {name: plain(getattr(data, name)) for name in ("operator", "noise") if name not in table}
    return read_selection(path, own)


def _names(sources: Sequence[Path]) -> dict[Path, str]:
    """The last part of each path, or as many as tell them apart.

    Raises:
        InputError: one is given twice.
    """
    parts = {
        path: path.resolve().with_suffix("" if path.suffix == ".toml" else path.suffix).parts
        for path in sources
    }
    if len({path.resolve() for path in sources}) < len(sources):
        raise InputError("evaluate names something twice", given=", ".join(map(str, sources)))
    depth = 1
    while len({p[-depth:] for p in parts.values()}) < len(parts) and depth < 20:
        depth += 1
    return {path: "/".join(found[-depth:]) for path, found in parts.items()}

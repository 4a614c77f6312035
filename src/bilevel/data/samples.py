"""What a problem learns from: rows with names, read when they are needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from bilevel.ground.checks import check_finite, check_kind
from bilevel.ground.errors import InputError
from bilevel.ground.fingerprint import fingerprint

__all__ = [
    "FEW",
    "Batch",
    "Joined",
    "Measured",
    "Rows",
    "Samples",
    "check_ids",
    "check_samples",
    "sizes",
]

_WHOLE = (torch.int64, torch.int32)
FEW = 64
"""Rows that scales are measured on, whatever the chunk."""


class Rows(ABC):
    """Data y_k of the rows 0..K-1."""

    @abstractmethod
    def __len__(self) -> int:
        """K."""

    @abstractmethod
    def data(self, index: Tensor) -> Tensor:
        """(b, c', h', w'), the data of rows of one size."""

    @cached_property
    def groups(self) -> Tensor:
        """The number of the size of each row, (K,): rows of equal number are of equal size."""
        return torch.zeros(len(self), dtype=torch.long)

    def places(self, index: Tensor, most: int) -> Iterator[Tensor]:
        """Where in ``index`` the rows of each batch stand: of one size, at most so many."""
        of = self.groups[index.cpu()]
        for group in sizes(of):
            yield from torch.split((of == group).nonzero().flatten(), most)

    def numbers(self, ids: Tensor) -> Tensor:
        """``ids`` as numbers 0..K-1, (b,); negative ones count from the end.

        Raises:
            InputError: none, other than whole numbers, or numbers that no row has.
        """
        index = torch.as_tensor(ids)
        if index.ndim != 1 or not len(index) or index.dtype not in _WHOLE:
            what = "ids must be whole numbers, (b,), at least one"
            raise InputError(what, given=f"{index.dtype} {tuple(index.shape)}")
        low, high = int(index.min()), int(index.max())
        if low < -len(self) or high >= len(self):
            raise InputError(f"ids must lie in 0 to {len(self) - 1}", given=f"{low} to {high}")
        return torch.where(index < 0, index + len(self), index)

    def few(self) -> Tensor:
        """The first 64 rows."""
        return torch.arange(min(len(self), FEW))


class Measured(Rows):
    """Data alone, in memory: ``y`` (K, c', h', w').

    Example:
        >>> Measured(torch.ones(2, 1, 3, 3)).data(torch.tensor([1])).shape
        torch.Size([1, 1, 3, 3])
    """

    def __init__(self, y: Tensor) -> None:
        self.y = y

    def __len__(self) -> int:
        """K."""
        return len(self.y)

    def data(self, index: Tensor) -> Tensor:
        """Those rows of y."""
        return self.y[index]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples of one size: data (b, c', h', w') and what is wanted (b, c, h, w)."""

    y: Tensor
    target: Tensor


class Samples(Rows):
    """K samples (y_k, x̃_k), each with an id that it keeps wherever it goes.

    What ``BilevelProblem`` reads, a batch at a time: samples in memory (``Pairs``), simulated when
    they are needed (``Simulated``), of several kinds (``Joined``), or of one's own, with ``ids``
    and ``batch``. Batches hold rows of one size; where sizes differ, ``groups`` says which rows
    are of one.
    """

    ids: tuple[str, ...]

    @abstractmethod
    def batch(self, index: Tensor) -> Batch:
        """The samples ``index`` (b,), all of one size; the same whenever they are asked for."""

    def __len__(self) -> int:
        """The number of samples K."""
        return len(self.ids)

    def data(self, index: Tensor) -> Tensor:
        """y of those samples."""
        return self.checked(index).y

    def shown(self) -> Tensor:
        """The samples that units, peak and checks are taken from: the first 64 unless overridden.

        Samples in memory are all looked at.
        """
        return self.few()

    def batches(self, index: Tensor, most: int) -> Iterator[Batch]:
        """The samples ``index``, at most so many at once, size by size."""
        return (self.checked(index[place]) for place in self.places(index, most))

    def checked(self, index: Tensor) -> Batch:
        """As ``batch``, which somebody else may have written.

        Raises:
            InputError: no batch of so many samples, or targets that are not finite.
        """
        found = cast(object, self.batch(index))
        if not isinstance(found, Batch) or {len(found.y), len(found.target)} != {len(index)}:
            name = type(self).__name__
            what = f"{name}.batch must give a Batch of data and targets, {len(index)} rows each"
            raise InputError(what, given=type(found).__name__)
        check_finite(found.target, "target")
        return found

    @cached_property
    def fingerprint(self) -> str:
        """Of the ids, and of data and targets of the samples shown: the same for the same ones."""
        parts = [t for b in self.batches(self.shown(), FEW) for t in (b.y, b.target)]
        return fingerprint(self.ids, *parts)


class Joined(Samples):
    """Several samples as one, each part perhaps of another size.

    Raises:
        InputError: no part, or ids that repeat.

    Example:
        >>> from bilevel.data import Pairs
        >>> small, large = torch.ones(2, 1, 4, 4), torch.ones(1, 1, 6, 8)
        >>> both = Joined([Pairs(small, small, ("a", "b")), Pairs(large, large, ("c",))])
        >>> [batch.y.shape[-2:] for batch in both.batches(torch.arange(3), 64)]
        [torch.Size([4, 4]), torch.Size([6, 8])]
    """

    def __init__(self, parts: Sequence[Samples]) -> None:
        if not parts:
            raise InputError("there are no samples to join")
        self.parts = tuple(check_samples(part, "what is joined") for part in parts)
        self.ids = tuple(name for part in self.parts for name in part.ids)
        check_ids(self.ids, sum(map(len, self.parts)))
        self._ends = torch.tensor([len(part) for part in self.parts]).cumsum(0)

    @cached_property
    def groups(self) -> Tensor:
        """By the sizes of data and targets, whatever the part."""
        numbers: dict[object, int] = {}
        found: list[Tensor] = []
        for part in self.parts:
            groups = part.groups
            joined = torch.empty_like(groups)
            for group in sizes(groups):
                members = (groups == group).nonzero().flatten()
                first = part.batch(members[:1])
                kind = first.y.shape[1:], first.target.shape[1:]
                joined[members] = numbers.setdefault(kind, len(numbers))
            found.append(joined)
        return torch.cat(found)

    def batch(self, index: Tensor) -> Batch:
        """From the parts that they are in."""
        of = torch.searchsorted(self._ends, index.cpu(), right=True)
        order: list[Tensor] = []
        found: list[Batch] = []
        for k in sizes(of):
            order.append((of == k).nonzero().flatten())
            first = int(self._ends[k]) - len(self.parts[k])
            found.append(self.parts[k].batch(index[order[-1]] - first))
        if len(found) == 1:
            return found[0]
        back = torch.cat(order).argsort()
        y, target = (torch.cat([getattr(b, n) for b in found])[back] for n in ("y", "target"))
        return Batch(y, target)

    def shown(self) -> Tensor:
        """Those of the parts."""
        starts = (int(end) - len(part) for end, part in zip(self._ends, self.parts, strict=True))
        return torch.cat([p.shown() + s for p, s in zip(self.parts, starts, strict=True)])


def sizes(groups: Tensor) -> list[int]:
    """The numbers that there are, in order."""
    return cast(list[int], cast(Any, groups.unique()).tolist())


def check_samples(given: object, name: str) -> Samples:
    """``given`` if it is samples whose ids and sizes fit one another.

    Raises:
        InputError: something else, none at all, ids that repeat or are no strings, or groups that
            are not one number a sample.
    """
    given = check_kind(given, Samples, name, "e.g. bl.data.Pairs(y, target, ids)")
    check_ids(tuple(given.ids), len(given))
    if not len(given):
        raise InputError("at least one sample is needed", given=0)
    if given.groups.shape != (len(given),) or given.groups.dtype != torch.int64:
        shape = f"{given.groups.dtype} {tuple(given.groups.shape)}"
        raise InputError("groups must be one whole number a sample, (K,)", given=shape)
    return given


def check_ids(ids: tuple[object, ...], count: int) -> None:
    """Raise InputError unless there are so many strings, all different."""
    if len(ids) != count:
        raise InputError(f"{count} samples need {count} ids", given=len(ids))
    for name, times in Counter(ids).items():
        if times > 1 or not isinstance(name, str):
            given = f"{name!r} {times} times" if times > 1 else repr(name)
            raise InputError("the ids of samples must be strings, all different", given=given)

"""What remembers one tensor a row from solve to solve: in memory, on disk, or nothing."""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bilevel.data.samples import FEW, Rows, sizes
from bilevel.ground import rows
from bilevel.ground.checks import check_kind
from bilevel.ground.errors import InputError
from bilevel.ground.memory import physical_memory

__all__ = ["Block", "Column", "InMemory", "Nowhere", "OnDisk", "Store", "check_store"]


@dataclass(frozen=True, eq=False)
class Block:
    """Room for rows of one size.

    Args:
        values: (K, ...), what is kept.
        scales: (K,), what each row of ``values`` is to be multiplied with; none if None.
    """

    values: Tensor
    scales: Tensor | None = None

    def read(self, index: Tensor) -> Tensor:
        """Copies of those rows, (b, ...)."""
        found = self.values[index]
        if self.scales is None:
            return found
        scales = self.scales[index]
        return found.to(scales) * rows.expand(scales, found)

    def write(self, index: Tensor, given: Tensor) -> None:
        """Those rows."""
        if self.scales is not None:
            scales = given.flatten(1).abs().amax(1)
            given = given / rows.expand(torch.where(scales > 0, scales, 1), given)
            self.scales[index] = scales
        self.values[index] = given.to(self.values)


class Store(ABC):
    """Where reconstructions and adjoints are kept."""

    kept: bool
    """Whether a saved fit holds copies, so that it goes on bit for bit."""

    @abstractmethod
    def room(self, name: str, count: int, row: Tensor) -> Block | None:
        """Room for ``count`` rows like ``row``, zero at first; None if nothing is remembered."""


@dataclass(frozen=True)
class InMemory(Store):
    """All rows in memory.

    On the device of the data. The only store with which a saved fit goes on bit for bit.

    Raises:
        InputError: more rows than the memory of this machine holds.

    Example:
        >>> InMemory().room("x", 5, torch.ones(1, 2, 2)).values.shape
        torch.Size([5, 1, 2, 2])
    """

    kept = True

    def room(self, name: str, count: int, row: Tensor) -> Block:
        """Zeros."""
        needed, there = count * row.numel() * row.dtype.itemsize, physical_memory()
        if there is not None and needed > there and row.device.type == "cpu":
            what = f"remembering {count} reconstructions takes {needed / 2**30:.3g} GiB"
            advice = "give the problem store=OnDisk(folder), or Nowhere() for a stream"
            given = f"a machine with {there / 2**30:.3g} GiB"
            raise InputError(what, given=given, advice=advice)
        return Block(row.new_zeros(count, *row.shape))


@dataclass(frozen=True)
class OnDisk(Store):
    """All rows in a file that is mapped into memory: what is not in use costs none.

    The file has no name and goes with the problem; the folder must have room for it. A fit that is
    resumed starts its solves as a new one does, to the same accuracy.

    Args:
        folder: where; made if it is not there.
        half: 16 bits a number relative to the largest of its row, 5e-4 of that at worst: half the
            room, and starts as good as solves to a thousandth.

    Raises:
        InputError: a folder that cannot be written to, or without room.
    """

    kept = False
    folder: str | Path
    half: bool = False

    def room(self, name: str, count: int, row: Tensor) -> Block:
        """Zeros on disk."""
        dtype = torch.float16 if self.half else row.dtype
        size = count * row.numel()
        try:
            flat = _mapped(Path(self.folder), name, size, dtype)
        except (OSError, TypeError, ValueError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            advice = "choose a folder that you may write to, with room enough"
            room = f"{size * dtype.itemsize / 2**30:.3g} GiB"
            what = f"cannot keep reconstructions ({room}) in {self.folder!r}: {reason}"
            raise InputError(what, advice=advice) from error
        scales = row.new_zeros(count) if self.half else None
        return Block(flat.view(count, *row.shape), scales)


def _mapped(folder: Path, name: str, size: int, dtype: torch.dtype) -> Tensor:
    """Zeros in a file whose room is taken at once, since a full disk would end the process later.

    Raises:
        OSError: no permission or no room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle, path = tempfile.mkstemp(prefix=f"{name}-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            if hasattr(os, "posix_fallocate") and size:
                os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
            file.truncate(size * dtype.itemsize)
        return torch.from_file(path, shared=True, size=size, dtype=dtype)
    finally:
        with suppress(OSError):  # where a file in use keeps its name
            os.unlink(path)


@dataclass(frozen=True)
class Nowhere(Store):
    """Nothing is remembered: every solve starts anew.

    For samples that never come twice.
    """

    kept = False

    def room(self, name: str, count: int, row: Tensor) -> None:
        """None."""
        del name, count, row


def check_store(given: object) -> Store:
    """``given`` if it is a store."""
    return check_kind(given, Store, "store", "bl.data.InMemory(), OnDisk(folder) or Nowhere()")


class Column:
    """One tensor for each of the rows, of the sizes that they have.

    Args:
        store: where.
        name: of the files.
        of: the rows.
        begin: what rows (b,) of one size hold at first, (b, ...).
        blank: whether that is zero.

    Example:
        >>> from bilevel.data.samples import Measured
        >>> y = torch.arange(3.0).view(3, 1, 1, 1)
        >>> column = Column(InMemory(), "x", Measured(y), lambda index: y[index])
        >>> column.write(torch.tensor([1]), torch.full((1, 1, 1, 1), 7.0))
        >>> column.read(torch.tensor([1, 2])).flatten()
        tensor([7., 2.])
    """

    def __init__(
        self,
        store: Store,
        name: str,
        of: Rows,
        begin: Callable[[Tensor], Tensor],
        *,
        blank: bool = False,
    ) -> None:
        self.store, self.name, self.begin, self._rows = store, name, begin, of
        self._blank = blank
        self._blocks: dict[int, Block | None] = {}

    def read(self, index: Tensor) -> Tensor:
        """Of rows of one size, (b, ...), copies."""
        block, place = self._found(index)
        return self.begin(index) if block is None else block.read(place)

    def write(self, index: Tensor, values: Tensor) -> None:
        """Of rows of one size."""
        block, place = self._found(index)
        if block is not None:
            block.write(place, values)

    def whole(self) -> Tensor:
        """Of all rows, (K, ...), a copy.

        Raises:
            InputError: rows of several sizes.
        """
        if len(sizes(self._rows.groups)) > 1:
            advice = "use an algorithm that solves the lower level, e.g. MAID, or crops of one size"
            raise InputError("all samples must be of one size", advice=advice)
        parts = torch.split(torch.arange(len(self._rows)), FEW)
        return torch.cat([self.read(part) for part in parts])

    @property
    def kept(self) -> tuple[Tensor, ...]:
        """What a saved fit holds, not copied: the rows of each size; none before the first is read.

        Rows that were not asked for yet are where their solves start.
        """
        if not (self.store.kept and self._blocks):
            return ()
        blocks = [self._block(group) for group in sizes(self._rows.groups)]
        return tuple(block.values for block in blocks if block)

    def restore(self, kept: tuple[Tensor, ...]) -> None:
        """What was ``kept``, all that is needed to go on; nothing starts anew.

        Raises:
            InputError: rows of other shapes or another dtype.
        """
        self._blocks.clear()
        if not kept:
            return
        groups = sizes(self._rows.groups)
        if len(groups) != len(kept):
            raise InputError(f"rows of {len(groups)} sizes are needed", given=len(kept))
        for group, values in zip(groups, kept, strict=True):
            members = self._members(group)
            row = self.begin(members[:1])
            shape = (len(members), *row.shape[1:])
            if values.shape != shape or values.dtype != row.dtype:
                expected = f"the memory of a problem with images {shape} is needed"
                given = f"{values.dtype} {tuple(values.shape)}"
                advice = "continue with the samples of the fit"
                raise InputError(expected, given=given, advice=advice)
        for group, values in zip(groups, kept, strict=True):
            block = self.store.room(f"{self.name}{group}", len(values), values[0])
            if block is not None:
                block.write(torch.arange(len(values)), values)
            self._blocks[group] = block

    def __getstate__(self) -> dict[str, Any]:
        """Copies begin anew where nothing is kept with a fit: files are not shared."""
        kept = self._blocks if self.store.kept else {}
        return {**self.__dict__, "_blocks": dict(kept)}

    def _found(self, index: Tensor) -> tuple[Block | None, Tensor]:
        """The block of the rows, and their places in it."""
        block = self._block(int(self._rows.groups[index[0].cpu()]))
        return block, self._within[index.cpu()].to(index.device)

    def _block(self, group: int) -> Block | None:
        """Filled if it is new."""
        if group not in self._blocks:
            self._blocks[group] = self._filled(group)
        return self._blocks[group]

    def _filled(self, group: int) -> Block | None:
        members = self._members(group)
        row = self.begin(members[:1])[0]
        block = self.store.room(f"{self.name}{group}", len(members), row)
        if block is not None and not self._blank:
            for place in torch.split(torch.arange(len(members)), FEW):
                block.write(place, self.begin(members[place]))
        return block

    def _members(self, group: int) -> Tensor:
        return (self._rows.groups == group).nonzero().flatten()

    @cached_property
    def _within(self) -> Tensor:
        """The place of each row among those of its size."""
        groups = self._rows.groups
        within = torch.empty_like(groups)
        for group in sizes(groups):
            within[groups == group] = torch.arange(int((groups == group).sum()))
        return within

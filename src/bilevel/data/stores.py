"""What remembers one tensor a row from solve to solve: in memory, on disk, or nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from bilevel.data.samples import FEW, Rows, sizes
from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.ground.memory import physical_memory

__all__ = ["Block", "Column", "InMemory", "Nowhere", "OnDisk", "Store"]


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
    """All rows in files that are mapped into memory: what is not in use costs none.

    The files are made anew by every problem; a fit that is resumed starts its solves as a new one
    does, to the same accuracy.

    Args:
        folder: where; made if it is not there.
        half: 16 bits a number relative to the largest of its row, 5e-4 of that at worst: half the
            room, and starts as good as solves to a thousandth.

    Raises:
        InputError: a folder that cannot be written to.
    """

    kept = False
    folder: str | Path
    half: bool = False

    def room(self, name: str, count: int, row: Tensor) -> Block:
        """Files with holes, which read as zeros."""
        dtype = torch.float16 if self.half else row.dtype
        path = Path(self.folder) / f"{name}.{str(dtype).removeprefix('torch.')}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.truncate(count * row.numel() * dtype.itemsize)
        except OSError as error:
            reason = error.strerror or str(error)
            advice = "choose a folder that you may write to"
            what = f"cannot keep reconstructions in '{self.folder}': {reason}"
            raise InputError(what, advice=advice) from error
        flat = torch.from_file(str(path), shared=True, size=count * row.numel(), dtype=dtype)
        scales = row.new_zeros(count) if self.half else None
        return Block(flat.view(count, *row.shape), scales)


@dataclass(frozen=True)
class Nowhere(Store):
    """Nothing is remembered: every solve starts anew.

    For samples that never come twice.
    """

    kept = False

    def room(self, name: str, count: int, row: Tensor) -> None:
        """None."""
        del name, count, row


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
        if bool(self._rows.groups.any()):
            advice = "use an algorithm that solves the lower level, e.g. MAID, or crops of one size"
            raise InputError("all samples must be of one size", advice=advice)
        parts = torch.split(torch.arange(len(self._rows)), FEW)
        return torch.cat([self.read(part) for part in parts])

    @property
    def kept(self) -> tuple[Tensor, ...]:
        """What a saved fit holds: the rows of each size that were written or read, not copied."""
        if not self.store.kept:
            return ()
        return tuple(block.values for _, block in sorted(self._blocks.items()) if block)

    def restore(self, kept: tuple[Tensor, ...]) -> None:
        """What was ``kept``, all that is needed to go on; nothing starts anew.

        Raises:
            InputError: rows of other shapes or another dtype.
        """
        if not kept:
            self._blocks.clear()
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
        self._blocks = {g: Block(values) for g, values in zip(groups, kept, strict=True)}

    def _found(self, index: Tensor) -> tuple[Block | None, Tensor]:
        """The block of the rows, filled if it is new, and their places in it."""
        group = int(self._rows.groups[index[0].cpu()])
        if group not in self._blocks:
            self._blocks[group] = self._filled(group)
        return self._blocks[group], self._within[index.cpu()].to(index.device)

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

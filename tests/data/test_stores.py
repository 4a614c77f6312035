"""Stores: what was written is read again, and rows that were not are as at first."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bilevel.data import InMemory, Joined, Nowhere, OnDisk, Pairs, Samples, Store
from bilevel.data.stores import Column
from bilevel.ground.errors import InputError

SHAPES = ((5, 1, 4, 4), (2, 1, 6, 3))


def samples() -> Joined:
    """Of two sizes."""
    rng = torch.Generator().manual_seed(0)
    parts: list[Samples] = []
    for k, shape in enumerate(SHAPES):
        x = torch.rand(shape, generator=rng)
        parts.append(Pairs(x, x, tuple(f"{k}.{j}" for j in range(len(x)))))
    return Joined(parts)


def store(name: str, folder: Path) -> Store:
    return {
        "memory": InMemory(),
        "disk": OnDisk(folder / "kept"),
        "half": OnDisk(folder / "kept", half=True),
        "nowhere": Nowhere(),
    }[name]


def column(kind: Store, *, blank: bool = False) -> Column:
    rows = samples()

    def begin(index: Tensor) -> Tensor:
        return torch.zeros_like(rows.data(index)) if blank else rows.data(index)

    return Column(kind, "x", rows, begin, blank=blank)


@pytest.mark.parametrize("name", ["memory", "disk", "half"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 65535.0])
def test_what_was_written_is_read_again(name: str, scale: float, tmp_path: Path) -> None:
    kept, first = column(store(name, tmp_path)), samples()
    rtol = 6e-4 if name == "half" else 0.0
    for index in (torch.tensor([3, 1]), torch.tensor([6])):
        new = scale * torch.randn_like(first.data(index))
        kept.write(index, new)
        size = float(new.abs().max())
        torch.testing.assert_close(kept.read(index), new, rtol=0.0, atol=rtol * size)
    for index in (torch.tensor([0, 2, 4]), torch.tensor([5])):
        begun = first.data(index)
        torch.testing.assert_close(kept.read(index), begun, rtol=0.0, atol=rtol)


def test_nothing_is_remembered_nowhere() -> None:
    kept, index = column(Nowhere()), torch.tensor([1, 0])
    kept.write(index, torch.ones(2, 1, 4, 4))
    assert torch.equal(kept.read(index), samples().data(index))
    assert kept.kept == ()


def test_what_is_read_is_a_copy() -> None:
    kept, index = column(InMemory()), torch.tensor([0])
    kept.read(index).fill_(7.0)
    assert torch.equal(kept.read(index), samples().data(index))


def test_files_go_with_what_they_are_for(tmp_path: Path) -> None:
    kept = column(OnDisk(tmp_path), blank=True)
    assert not kept.read(torch.tensor([4])).any()
    assert not list(tmp_path.iterdir())


def test_two_columns_of_one_folder_are_apart(tmp_path: Path) -> None:
    index = torch.tensor([0])
    first, second = column(OnDisk(tmp_path)), column(OnDisk(tmp_path))
    first.write(index, torch.ones(1, 1, 4, 4))
    second.write(index, torch.zeros(1, 1, 4, 4))
    assert bool((first.read(index) == 1).all())


@pytest.mark.parametrize("name", ["disk", "nowhere"])
def test_what_was_kept_goes_where_the_store_says(name: str, tmp_path: Path) -> None:
    first = column(InMemory())
    first.write(torch.tensor([2]), torch.ones(1, 1, 4, 4))
    other = column(store(name, tmp_path))
    other.restore(first.kept)
    found = other.read(torch.tensor([2]))
    assert torch.equal(found, torch.ones(1, 1, 4, 4)) == (name == "disk")
    assert other.kept == ()


def test_rows_that_were_not_asked_for_are_kept_as_they_begin() -> None:
    kept = column(InMemory())
    kept.read(torch.tensor([0]))
    assert [part.shape for part in kept.kept] == [torch.Size(shape) for shape in SHAPES]
    assert torch.equal(kept.kept[1], samples().data(torch.tensor([5, 6])))


@pytest.mark.parametrize("name", ["memory", "disk"])
def test_copies_do_not_share_rows(name: str, tmp_path: Path) -> None:
    rows = samples()
    kept, index = Column(store(name, tmp_path), "x", rows, rows.data), torch.tensor([1])
    kept.write(index, torch.ones(1, 1, 4, 4))
    twin = copy.deepcopy(kept)
    kept.write(index, torch.zeros(1, 1, 4, 4))
    expected = torch.ones(1, 1, 4, 4) if name == "memory" else samples().data(index)
    assert torch.equal(twin.read(index), expected)


def test_only_memory_goes_into_a_saved_fit_and_comes_back(tmp_path: Path) -> None:
    first = column(InMemory())
    for index in (torch.tensor([2]), torch.tensor([5])):
        first.write(index, first.read(index) + 1)
    again = column(InMemory())
    again.restore(first.kept)
    for index in (torch.arange(5), torch.tensor([5, 6])):
        assert torch.equal(again.read(index), first.read(index))
    on_disk = column(OnDisk(tmp_path))
    on_disk.read(torch.tensor([0]))
    assert on_disk.kept == ()


@pytest.mark.parametrize(
    "kept",
    [
        (torch.zeros(SHAPES[0]),),
        (torch.zeros(SHAPES[0]), torch.zeros(2, 1, 3, 6)),
        (torch.zeros(SHAPES[0]), torch.zeros(SHAPES[1], dtype=torch.float64)),
    ],
)
def test_memory_of_other_samples_is_refused(kept: tuple[Tensor, ...]) -> None:
    with pytest.raises(InputError):
        column(InMemory()).restore(kept)


def test_rows_of_several_sizes_are_no_single_tensor() -> None:
    with pytest.raises(InputError, match="one size"):
        column(InMemory()).whole()


def test_more_than_memory_holds_is_said_before_it_is_asked_for() -> None:
    with pytest.raises(InputError, match="OnDisk"):
        InMemory().room("x", 10**9, torch.zeros(1, 1000, 1000))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        OnDisk(tmp_path / "file" / "x").room("x", 1, torch.zeros(1, 2, 2))
    with pytest.raises(InputError, match="cannot keep"):
        OnDisk(3).room("x", 1, torch.zeros(1, 2, 2))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot keep"):
        OnDisk("a\0b").room("x", 1, torch.zeros(1, 2, 2))

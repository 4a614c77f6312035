"""Matrices on disk: read if they are whole and right, made again otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from bilevel.model.operators import Radon, kept, radon

MATRIX = scipy.sparse.csr_array(np.array([[0.0, 2.0, 1.0], [0.0, 0.0, 3.0]], np.float32))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(kept.VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept"


class Counted:
    """How often a matrix was made."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> scipy.sparse.csr_array:
        self.times += 1
        return MATRIX


def test_a_matrix_is_made_once(folder: Path) -> None:
    make = Counted()
    for _ in range(3):
        found = kept.kept("one", make)
        assert (found != MATRIX).nnz == 0
        assert found.dtype == np.float32
        assert found.indices.dtype == np.int32
    assert make.times == 1
    assert [path.suffix for path in folder.iterdir()] == [".npz"]
    kept.kept("another", make)
    assert make.times == 2


def test_every_damage_is_found_and_mended(folder: Path) -> None:
    make = Counted()
    kept.kept("one", make)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for place in range(0, len(whole), 11):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        found = kept.kept("one", make)
        assert (found != MATRIX).nnz == 0
    path.write_bytes(whole[: len(whole) // 2])
    before = make.times
    assert (kept.kept("one", make) != MATRIX).nnz == 0
    assert make.times == before + 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"columns": np.array([1, 2, 9], np.int32)},
        {"columns": np.array([1, -2, 2], np.int32)},
        {"starts": np.array([0, 3, 2], np.int32)},
        {"shape": np.array([3, 3])},
        {"key": np.array("two")},
        {"values": np.array([1, 2, 3])},
    ],
)
def test_a_file_that_does_not_fit_is_not_used(folder: Path, wrong: dict[str, np.ndarray]) -> None:
    make = Counted()
    kept.kept("one", make)
    (path,) = folder.iterdir()
    with np.load(path) as file:
        parts = {name: file[name] for name in file.files}
    np.savez(path, **{**parts, **wrong})
    assert (kept.kept("one", make) != MATRIX).nnz == 0
    assert make.times == 2


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(kept.VARIABLE, "off")
    make = Counted()
    kept.kept("one", make)
    kept.kept("one", make)
    assert make.times == 2
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_nothing_is_kept(folder: Path) -> None:
    folder.write_text("a file, no folder")
    make = Counted()
    assert (kept.kept("one", make) != MATRIX).nnz == 0
    assert folder.read_text() == "a file, no folder"


def test_a_few_are_kept(folder: Path) -> None:
    for k in range(12):
        kept.kept(str(k), Counted())
    assert len(list(folder.iterdir())) == 8


def test_tomography_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radon, "_WORTH", 0)
    radon._assembled.cache_clear()  # pyright: ignore[reportPrivateUsage]
    x = torch.rand(1, 1, 9, 8)
    first = Radon((9, 8), 7)(x)
    assert len(list(folder.iterdir())) == 1
    radon._assembled.cache_clear()  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(radon, "_matrix", None)
    assert torch.equal(Radon((9, 8), 7)(x), first)
    with pytest.raises(TypeError):
        Radon((9, 8), 7, spacing=1.5)
    radon._assembled.cache_clear()  # pyright: ignore[reportPrivateUsage]

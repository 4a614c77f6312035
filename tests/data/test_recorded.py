"""Measured pairs: matched by name or number, checked at once, read when they are needed."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import bilevel as bl
from bilevel.data import Files, Recorded
from bilevel.ground.errors import InputError

RNG = np.random.default_rng(0)


def folder(path: Path, *names: str, size: tuple[int, ...] = (8, 9)) -> Path:
    path.mkdir(exist_ok=True)
    for name in names:
        np.save(path / name, RNG.normal(size=size))
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Recorded:
    folder(tmp_path / "y", "b.npy", "a.npy")
    folder(tmp_path / "x", "a.npy", "b.npy")
    return Recorded(tmp_path / "y", tmp_path / "x")


def values(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.load(path)).float()


def test_files_are_matched_by_stem(pairs: Recorded, tmp_path: Path) -> None:
    assert pairs.ids == ("a.npy", "b.npy")
    batch = pairs.batch(torch.tensor([1, 0]))
    for k, name in enumerate(("b", "a")):
        assert torch.equal(batch.y[k, 0], values(tmp_path / "y" / f"{name}.npy"))
        assert torch.equal(batch.target[k, 0], values(tmp_path / "x" / f"{name}.npy"))


def test_accents_are_matched_however_they_are_written(tmp_path: Path) -> None:
    name = "Б 0 é.npy"
    folder(tmp_path / "y", unicodedata.normalize("NFC", name))
    folder(tmp_path / "x", unicodedata.normalize("NFD", name), "other.npy")
    folder(tmp_path / "y", "other.npy")
    assert len(Recorded(tmp_path / "y", tmp_path / "x")) == 2


def test_stacks_are_matched_by_number(tmp_path: Path) -> None:
    folder(tmp_path, "measured.npy", "truth.npy", size=(5, 8, 9))
    found = Recorded(tmp_path / "measured.npy", tmp_path / "truth.npy")
    assert found.ids == tuple(f"measured.npy#{k}" for k in range(1, 6))
    batch = found.batch(torch.tensor([3]))
    assert torch.equal(batch.target[0, 0], values(tmp_path / "truth.npy")[3])
    np.save(tmp_path / "truth.npy", RNG.normal(size=(4, 8, 9)))
    with pytest.raises(InputError, match=r"5 images in measured.npy and 4 images in truth.npy"):
        Recorded(tmp_path / "measured.npy", tmp_path / "truth.npy")


def test_what_lacks_a_partner_is_named(tmp_path: Path) -> None:
    folder(tmp_path / "y", "a.npy", "scan_1.npy")
    folder(tmp_path / "x", "a.npy", "scan_2.npy")
    with pytest.raises(InputError, match=r"measurement scan_1.npy has no target; did you mean"):
        Recorded(tmp_path / "y", tmp_path / "x")
    folder(tmp_path / "x", "scan_1.npy")
    with pytest.raises(InputError, match=r"target scan_2.npy has no measurement"):
        Recorded(tmp_path / "y", tmp_path / "x")
    (tmp_path / "x" / "scan_2.npy").rename(tmp_path / "x" / "a.npz")
    np.savez(tmp_path / "x" / "a.npz", RNG.normal(size=(8, 9)))
    with pytest.raises(InputError, match=r"a.npy and a.npz"):
        Recorded(tmp_path / "y", tmp_path / "x")


def test_sizes_that_the_operator_does_not_make_are_named(tmp_path: Path) -> None:
    folder(tmp_path / "y", "a.npy", size=(6, 7))
    folder(tmp_path / "x", "a.npy", size=(8, 9))
    valid = bl.operators.Convolution(torch.ones(3, 3) / 9, "valid")
    assert Recorded(tmp_path / "y", tmp_path / "x", valid).batch(torch.tensor([0])).y.shape[2] == 6
    with pytest.raises(InputError, match=r"target of a.npy has 8x9 pixels.*but got 6x7 pixels"):
        Recorded(tmp_path / "y", tmp_path / "x")
    with pytest.raises(InputError, match=r"target of a.npy: .*"):
        Recorded(tmp_path / "y", tmp_path / "x", bl.operators.Mask(torch.ones(4, 4)))


def test_sizes_may_differ(tmp_path: Path) -> None:
    for kind in ("y", "x"):
        folder(tmp_path / kind, "a.npy")
        folder(tmp_path / kind, "b.npy", "c.npy", size=(5, 4))
    found = Recorded(tmp_path / "y", tmp_path / "x")
    assert found.groups.tolist() == [0, 1, 1]
    shapes = [tuple(batch.y.shape) for batch in found.batches(torch.arange(3), 8)]
    assert shapes == [(1, 1, 8, 9), (2, 1, 5, 4)]


@pytest.mark.parametrize("valid", [False, True])
def test_crops_of_both_come_from_one_place(valid: bool, tmp_path: Path) -> None:
    x = RNG.normal(size=(20, 18))
    kernel = torch.rand(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    operator = bl.operators.Convolution(kernel, "valid") if valid else bl.operators.Identity()
    y = operator(torch.from_numpy(x)[None, None])[0, 0]
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y.numpy())
    files = [Files(tmp_path / name, dtype=torch.float64) for name in ("y.npy", "x.npy")]
    crops = Recorded(*files, operator).some([0], size=9, count=6)
    assert crops.ids[2] == "y.npy#2"
    batch = crops.batch(torch.arange(6))
    torch.testing.assert_close(batch.y, operator(batch.target))
    assert float(batch.target[0].sub(batch.target[1]).abs().max()) > 0
    again = crops.batch(torch.tensor([3]))
    assert torch.equal(again.target[0], batch.target[3])


def test_crops_of_other_data_are_refused(tmp_path: Path) -> None:
    folder(tmp_path, "x.npy", "y.npy")
    pairs = Recorded(
        tmp_path / "y.npy", tmp_path / "x.npy", bl.operators.Convolution(torch.ones(3, 3))
    )
    with pytest.raises(InputError, match=r"crops of data.*valid"):
        pairs.some([0], size=4)
    with pytest.raises(InputError, match="1 pairs"):
        pairs.some([0], count=2)


def changed_data(folder: Path) -> None:
    y = np.load(folder / "y" / "b.npy")
    np.save(folder / "y" / "b.npy", y + 1e-3)


def changed_target(folder: Path) -> None:
    y = np.load(folder / "x" / "a.npy")
    np.save(folder / "x" / "a.npy", 2 * y)


def renamed(folder: Path) -> None:
    for kind in ("x", "y"):
        (folder / kind / "c.npy").write_bytes((folder / kind / "a.npy").read_bytes())


@pytest.mark.parametrize("change", [changed_data, changed_target, renamed])
def test_other_values_or_names_are_other_samples(
    change: Callable[[Path], None], pairs: Recorded, tmp_path: Path
) -> None:
    same = Recorded(tmp_path / "y", tmp_path / "x")
    assert same.fingerprint == pairs.fingerprint
    change(tmp_path)
    assert Recorded(tmp_path / "y", tmp_path / "x").fingerprint != pairs.fingerprint
    assert pairs.some([1, 0]).fingerprint != pairs.fingerprint


def test_learning_reads_pairs_and_does_not_go_on_with_others(
    pairs: Recorded, tmp_path: Path
) -> None:
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))

    def problem() -> bl.BilevelProblem:
        samples = Recorded(tmp_path / "y", tmp_path / "x")
        return bl.BilevelProblem(energy, bl.losses.SquaredError(), samples)

    fit = bl.learn(problem(), budget=bl.Budget(steps=2))
    bl.learn(problem(), budget=bl.Budget(steps=1), resume=fit)
    changed_data(tmp_path)
    with pytest.raises(InputError, match="samples"):
        bl.learn(problem(), budget=bl.Budget(steps=1), resume=fit)

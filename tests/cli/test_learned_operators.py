"""Operators that a configuration learns, and those that it reads from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

import bilevel as bl
from bilevel.cli.config import parse, plain, restore
from bilevel.cli.reconstruction import Reconstructor
from cli.tiny import CONFIGURATION, Run

BLUR = 'name = "gaussian-blur"\nsize = 3\nsigma = 0.7'
WIDTH = 'name = "gaussian-blur"\nsize = 5\nsigma = 0.7\nlearn = ["sigma"]\nfirst_sigma = 1.5'
KERNEL = (
    'name = "convolution"\nkernel = [[0.2, 0.5, 0.3]]\nlearn = ["kernel"]\n'
    "first_kernel = [[0.4, 0.2, 0.4]]"
)


def written(folder: Path, operator: str, *others: tuple[str, str]) -> Path:
    text = CONFIGURATION.replace(BLUR, operator)
    for old, new in others:
        assert old in text
        text = text.replace(old, new)
    path = folder / "one.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("operator", "name"), [(WIDTH, "sigma"), (KERNEL, "kernel")], ids=["width", "kernel"]
)
def test_an_operator_is_learned_saved_and_used(
    operator: str, name: str, run: Run, tmp_path: Path
) -> None:
    path = written(tmp_path, operator, ("steps = 2", "steps = 6"))
    found = run("learn", path, "--out", tmp_path / "fit")
    assert found.code == found.owed, found.err
    fit = bl.load(tmp_path / "fit")
    key = f"fidelity.operator.{name}"
    learned, first = fit.theta[key], torch.tensor(1.5 if name == "sigma" else [[0.4, 0.2, 0.4]])
    truth = torch.tensor(0.7 if name == "sigma" else [[0.2, 0.5, 0.3]])
    assert float((learned - truth).norm()) < float((first - truth).norm())
    if name == "kernel":
        assert float(learned.sum()) == pytest.approx(1.0, abs=1e-5)
    loaded = Reconstructor.load(tmp_path / "fit", None)
    assert loaded.configuration.forward((1, 9, 9)).__class__ is bl.operators.Convolution
    images = tmp_path / "images"
    images.mkdir()
    bl.data.save_image(images / "a.png", torch.rand(1, 1, 20, 18))
    out = run("evaluate", tmp_path / "fit", "--images", images)
    assert out.code == out.owed, out.err
    done = loaded.samples(
        bl.data.Pairs(torch.rand(1, 1, 20, 18), torch.rand(1, 1, 20, 18), ("a",)), lambda _: None
    )
    exact = fit.reconstruct(done.before, fit.tolerance(fit.energy.at(done.before), done.before))
    torch.testing.assert_close(done.after, exact.x, rtol=0, atol=2e-2)


def test_rules_refuse_an_operator_that_is_to_be_learned(run: Run, tmp_path: Path) -> None:
    path = written(tmp_path, WIDTH)
    bl.data.save_image(tmp_path / "a.png", torch.rand(1, 1, 16, 16))
    arguments = ("select", tmp_path / "a.png", "--config", path, "--out", tmp_path / "out")
    assert "an operator that is known" in run(*arguments).refused()


@pytest.mark.parametrize(
    ("operator", "says"),
    [
        ('name = "gaussian-blur"\nfirst_sigma = 1.0', 'add learn = ["sigma"]'),
        ('name = "gaussian-blur"\nsize = 4\nlearn = ["sigma"]', "odd side"),
        ('name = "gaussian-blur"\nlearn = ["width"]', "operator.learn"),
        (KERNEL.replace("0.4, 0.2", "-0.4, 1.0"), "on the simplex"),
        (KERNEL.replace('learn = ["kernel"]\n', ""), "the kernel is not learned"),
        ('name = "matrix"\nmatrix = "nowhere.npy"\nsize = [4, 4]', "there is no file nowhere.npy"),
        ('name = "matrix"\nmatrix = "text.npy"\nsize = [4, 4]', "cannot read the array text.npy"),
        ('name = "matrix"\nmatrix = "text.npz"\nsize = [4, 4]', "cannot read the sparse matrix"),
        ('name = "matrix"\nmatrix = "small.npy"\nsize = [4, 4]', "columns"),
        ('name = "radon"\nsize = [8, 8]\nangles = []', "at least one angle"),
        ('name = "radon"\nsize = [8, 8]\nangles = "small.npy"', "must have 1 dimensions"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    operator: str, says: str, run: Run, tmp_path: Path
) -> None:
    for name in ("text.npy", "text.npz"):
        (tmp_path / name).write_text("no array")
    np.save(tmp_path / "small.npy", np.ones((3, 5)))
    path = written(tmp_path, operator)
    assert says in run("check", path).refused()


def test_a_matrix_comes_from_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dense = rng.random((20, 256)) * (rng.random((20, 256)) < 0.2)
    np.save(tmp_path / "a.npy", dense)
    scipy.sparse.save_npz(tmp_path / "a.npz", scipy.sparse.csr_array(dense))
    x = torch.rand(1, 1, 16, 16)
    for name in ("a.npy", "a.npz"):
        path = written(tmp_path, f'name = "matrix"\nmatrix = "{name}"\nsize = [16, 16]')
        configuration = parse(path.read_text(), path).configuration
        found = configuration.forward((1, 16, 16))(x)
        expected = torch.from_numpy(dense).float() @ x.flatten()
        torch.testing.assert_close(found.flatten(), expected)
        assert restore(plain(configuration), "plain") == configuration


def test_angles_come_from_a_list_or_a_file(tmp_path: Path) -> None:
    angles = [0.0, 10.0, 45.5]
    np.save(tmp_path / "angles.npy", np.array(angles))
    for given in (str(angles), '"angles.npy"'):
        path = written(tmp_path, f'name = "radon"\nsize = [16, 16]\nangles = {given}')
        configuration = parse(path.read_text(), path).configuration
        operator = configuration.forward((1, 16, 16))
        assert isinstance(operator, bl.operators.Radon)
        assert operator.geometry.degrees == tuple(angles)
        assert restore(plain(configuration), "plain") == configuration

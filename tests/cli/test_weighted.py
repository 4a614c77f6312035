"""Weights of data from files: what a table names is what Python is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import bilevel as bl
from cli.tiny import CONFIGURATION, Run

SIZE = 16


@pytest.fixture
def weights(tmp_path: Path) -> np.ndarray:
    """Of data, half of which are worth a tenth, and one nothing."""
    values = np.where(np.arange(SIZE) < SIZE // 2, 1.0, 0.1) * np.ones((SIZE, 1))
    values[3, 4] = 0.0
    np.save(tmp_path / "weights.npy", values)
    with np.errstate(divide="ignore"):
        np.save(tmp_path / "variance.npy", 1 / values)
    return values


def written(folder: Path, table: str, text: str = CONFIGURATION) -> Path:
    path = folder / "own.toml"
    path.write_text(f"{text}\n[fidelity]\n{table}\n")
    return path


def test_what_is_learned_has_the_weights(run: Run, tmp_path: Path, weights: np.ndarray) -> None:
    configs = [("weights", "a"), ("variance", "b")]
    for key, out in configs:
        config = written(tmp_path, f'{key} = "{key}.npy"')
        assert run("learn", config, "--out", tmp_path / out).code in (0, 3)
    fits = [bl.load(tmp_path / out) for _, out in configs]
    own = fits[0].energy.fidelity
    assert isinstance(own, bl.fidelities.SquaredL2)
    assert own.weights is not None
    assert torch.equal(own.weights, torch.from_numpy(weights).float())
    assert fits[0].theta.keys() == fits[1].theta.keys()
    for name, value in fits[0].theta.items():
        assert torch.allclose(value, fits[1].theta[name], rtol=1e-5)


def test_a_fit_with_weights_reconstructs(run: Run, tmp_path: Path, weights: np.ndarray) -> None:
    config = written(tmp_path, 'weights = "weights.npy"')
    run("learn", config, "--out", tmp_path / "fit")
    y = np.random.default_rng(0).random((SIZE, SIZE))
    for name, size in (("fits", SIZE), ("large", SIZE + 4)):
        np.save(tmp_path / f"{name}.npy", np.resize(y, (size, size)))
    found = run("reconstruct", tmp_path / "fit", tmp_path / "fits.npy", "--out", tmp_path / "x")
    assert found.code == found.owed
    assert np.load(tmp_path / "x" / "fits.npy").shape == (SIZE, SIZE)
    other = run("reconstruct", tmp_path / "fit", tmp_path / "large.npy", "--out", tmp_path / "z")
    assert other.code != 0
    assert "every datum needs a weight" in other.err


def test_rules_heed_the_weights(run: Run, tmp_path: Path, weights: np.ndarray) -> None:
    y = torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).double()
    np.save(tmp_path / "y.npy", y[0, 0].numpy())
    config = tmp_path / "select.toml"
    config.write_text('[fidelity]\nweights = "weights.npy"\n')
    options = ("--rule", "quasi-optimality", "--span", "0.01,1", "--out", tmp_path / "x")
    run("select", tmp_path / "y.npy", "--config", config, *options)
    x = torch.from_numpy(np.load(tmp_path / "x" / "y.npy")).double()
    fidelity = bl.fidelities.SquaredL2(weights=torch.from_numpy(weights)).double()
    energy = bl.Variational(fidelity, bl.regularisers.TotalVariation(1.0)).double()
    rule = bl.rules.QuasiOptimality()
    found = bl.select(energy, y, rule, span=(0.01, 1.0))
    assert torch.allclose(x, found.x[0, 0], atol=1e-3)


def test_variances_are_in_the_unit_of_the_data(run: Run, tmp_path: Path) -> None:
    """Those of a transform without factor are h w times as large; files of any byte order."""
    np.save(tmp_path / "large.npy", np.full((SIZE, SIZE), 4.0 * SIZE**2).astype(">f8"))
    text = CONFIGURATION.replace(
        '"gaussian-blur"\nsize = 3\nsigma = 0.7', '"fourier-mask"\nnorm = "backward"'
    )
    config = written(tmp_path, 'variance = "large.npy"', text)
    assert run("learn", config, "--out", tmp_path / "fit").code in (0, 3)
    fidelity = bl.load(tmp_path / "fit").energy.fidelity
    assert isinstance(fidelity, bl.fidelities.SquaredL2)
    assert fidelity.weights is not None
    assert torch.equal(fidelity.weights, torch.full((SIZE, SIZE), 0.25))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('weights = "none.npy"', "fidelity.weights: cannot read the array none.npy"),
        ('weights = "small.npy"', "holds 8x8"),
        ('weights = "negative.npy"', "fidelity.weights"),
        ('variance = "zero.npy"', "fidelity.variance"),
        ('weights = "complex.npy"', "must hold real numbers"),
        ('weights = "line.npy"', "must have 2 or 3 dimensions"),
        ('weights = "weights.npy"\nvariance = "variance.npy"', "leave one of them out"),
    ],
)
@pytest.mark.usefixtures("weights")
def test_files_that_do_not_fit(table: str, said: str, run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "small.npy", np.ones((8, 8)))
    np.save(tmp_path / "negative.npy", -np.ones((SIZE, SIZE)))
    np.save(tmp_path / "zero.npy", np.zeros((SIZE, SIZE)))
    np.save(tmp_path / "complex.npy", np.ones((SIZE, SIZE), complex))
    np.save(tmp_path / "line.npy", np.ones(SIZE))
    assert said in run("check", written(tmp_path, table)).refused()


def test_blocks_that_are_no_squares(run: Run, tmp_path: Path) -> None:
    text = CONFIGURATION.replace(
        '"gaussian-blur"\nsize = 3\nsigma = 0.7', '"downsampling"\nfactor = [1, 2]'
    )
    config = tmp_path / "blocks.toml"
    config.write_text(text)
    assert run("learn", config, "--out", tmp_path / "fit").code in (0, 3)
    operator = bl.load(tmp_path / "fit").energy.fidelity.operator
    assert operator.data_shape((1, 5, 6)) == (1, 5, 3)
    config.write_text(text.replace("[1, 2]", "[1, 2, 3]"))
    assert "operator.factor" in run("check", config).refused()

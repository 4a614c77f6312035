"""Losses and penalties in configurations: read, learned with, told in words; or refused in one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import bilevel as bl
from bilevel.cli.config import read
from cli.tiny import CONFIGURATION, Run


def written(folder: Path, tables: str) -> Path:
    path = folder / "one.toml"
    path.write_text(f"{CONFIGURATION}\n{tables}\n")
    return path


@pytest.mark.parametrize(
    ("tables", "made"),
    [
        ('[loss]\nname = "ssim"', bl.losses.SSIM()),
        ('[loss]\nname = "absolute-error"\nsmoothing = 0.1', bl.losses.AbsoluteError(0.1)),
        ('[loss]\nname = "huberised-tv"\nfactor = 2.0', 2.0 * bl.losses.HuberisedTV()),
        (
            '[loss]\nname = "ssim"\n[loss.plus]\nname = "squared-error"\nfactor = 10.0',
            bl.losses.SSIM() + 10 * bl.losses.SquaredError(),
        ),
    ],
)
def test_losses_are_those_of_python(tables: str, made: bl.losses.Loss, tmp_path: Path) -> None:
    assert read(written(tmp_path, tables)).configuration.loss.build() == made


def test_weights_come_from_a_file_beside_the_configuration(tmp_path: Path) -> None:
    weights = torch.zeros(16, 16)
    weights[4:12, 4:12] = 1
    np.save(tmp_path / "weights.npy", weights.numpy())
    bl.data.save_image(tmp_path / "mask.png", weights)
    for name in ("weights.npy", "mask.png"):
        table = f'[loss]\nname = "weighted-error"\nweights = "{name}"'
        loss = read(written(tmp_path, table)).configuration.loss.build()
        assert isinstance(loss, bl.losses.WeightedError)
        assert torch.equal(loss.weights[0], weights.double())
    nested = f'[loss]\nname = "psnr"\n[loss.plus]{table.removeprefix("[loss]")}'
    assert read(written(tmp_path, nested)).configuration.loss.build().unit == ""


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ('[loss]\nname = "ssim"\nfactor = -1.0', "factor"),
        ('[loss]\nname = "ssim"\n[loss.plus]\nname = "sim"', "did you mean 'ssim'"),
        ('[loss]\nname = "magnitude-error"', "even number of channels"),
        ('[loss]\nname = "weighted-error"\nweights = "none.npy"', "none.npy"),
        ('[loss]\nname = "weighted-error"\nweights = "small.npy"', "weights of the size of images"),
        ('[loss]\nname = "weighted-error"\nweights = "negative.npy"', "must not be negative"),
        ('[penalty]\nname = "size"\nparameters = ["weight"]', "which is not learned"),
        ('[penalty]\nname = "roughness"', "roughness is one of maps"),
        ('[penalty]\nname = "size"\nweight = 0.0', "penalty.weight"),
    ],
)
def test_what_does_not_fit_is_refused(tables: str, says: str, run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "small.npy", np.ones((8, 8)))
    np.save(tmp_path / "negative.npy", np.linspace(-1, 1, 256).reshape(16, 16))
    said = run("learn", written(tmp_path, tables), "--out", tmp_path / "out").refused()
    assert says in said
    assert "line" in said
    assert not (tmp_path / "out").exists()


def test_a_penalty_is_learned_with_and_told(run: Run, tmp_path: Path) -> None:
    tables = (
        '[loss]\nname = "ssim"\n[loss.plus]\nname = "psnr"\nfactor = 0.01\n[penalty]\n'
        'name = "distance"\nweight = 0.3\nparameters = ["regulariser"]\n'
        '[penalty.plus]\nname = "size"\nweight = 1e-4\nnorm = "l1"'
    )
    out = tmp_path / "out"
    assert run("learn", written(tmp_path, tables), "--out", out).code == 0
    fit = bl.load(out)
    assert fit.history[-1].penalty > 0


@pytest.mark.parametrize(
    ("value", "grad", "says"),
    [
        ("(x - target).square().mean()", "2 * (x - target)", "one value a row, [1], but got ()"),
        ("(x - target).sum((1, 2, 3))", "x.mean(1)", "a gradient like the images"),
        ("x.view(3, -1)", "x", "the loss Own fails on images"),
    ],
)
def test_a_loss_of_ones_own_is_blamed_for_its_shapes(
    value: str, grad: str, says: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(
        "from bilevel.extend import Loss\n"
        "class Own(Loss):\n"
        f"    def value(self, x, target): return {value}\n"
        f"    def grad(self, x, target): return {grad}\n"
        "    def lipschitz(self, x, target, radius): return radius\n"
    )
    config = written(tmp_path, '[loss]\nname = "own"')
    refused = run("check", config, "--import", tmp_path / "own.py").refused()
    assert "loss.name: the loss Own" in refused
    assert says in refused

"""Terms without a gradient, from the configuration to reconstructions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.cli.config import read
from bilevel.learn import Status
from bilevel.model import CompositeObjective, SaddleObjective
from bilevel.model.regularisers import ExactTotalVariation
from bilevel.report.pictures import weight_map
from cli.tiny import CONFIGURATION, Run

SMOOTH = 'name = "total-variation"\nweight = 0.02\nsmoothing = 0.05'
BLUR = 'name = "gaussian-blur"\nsize = 3\nsigma = 0.7'
TERMS = {
    "exact-tv": {SMOOTH: 'name = "exact-tv"', BLUR: 'name = "identity"'},
    "exact-tv in a box": {SMOOTH: 'name = "exact-tv"', "[budget]": "[box]\nlower = 0.0\n[budget]"},
    "box": {"[budget]": "[box]\nlower = 0.0\nupper = 1.0\n[budget]"},
    "sparsity": {SMOOTH: 'name = "sparsity"\nweight = 0.01'},
    "outliers": {"[budget]": '[fidelity]\nname = "l1"\n[budget]'},
}


def written(terms: str, folder: Path) -> Path:
    text = CONFIGURATION
    for old, new in TERMS[terms].items():
        assert old in text
        text = text.replace(old, new)
    path = folder / "one.toml"
    text = text.replace("[ridge]\nweight = 0.01", "[ridge]\nweight = 0.1")
    path.write_text(text.replace("[budget]", '[algorithm]\nname = "l-bfgs"\n[budget]'))
    return path


@pytest.mark.parametrize("terms", TERMS)
def test_energies_without_a_gradient_are_learned_saved_and_used(
    terms: str, run: Run, tmp_path: Path
) -> None:
    path, folder = written(terms, tmp_path), tmp_path / "fit"
    outcome = run("learn", path, "--out", folder)
    assert outcome.code == 3, outcome  # two steps leave it worse than the data
    fit = bl.load(folder)
    assert fit.history[-1].value < fit.history[0].value
    picture = bl.data.shepp_logan((24, 20))
    (tmp_path / "pictures").mkdir()
    bl.data.save_image(tmp_path / "pictures" / "a.png", picture)
    outcome = run("evaluate", folder, "--images", tmp_path / "pictures", "--accuracy", "1e-2")
    assert outcome.code == outcome.owed, outcome
    assert "1 of 1 certified" in outcome.out
    data = tmp_path / "pictures" / "a.png"
    outcome = run("reconstruct", folder, data, "--out", tmp_path / "out", "--accuracy", "1e-2")
    assert outcome.code == 0, outcome
    assert "converged" in outcome.out


def test_a_fit_reconstructs_with_the_solver_that_fits(run: Run, tmp_path: Path) -> None:
    path = written("exact-tv in a box", tmp_path)
    energy = read(path).configuration.energy((1, 16, 16))
    y = torch.rand(2, 1, 16, 16) - 0.5
    assert isinstance(energy.at(y), SaddleObjective)
    fit = bl.Fit.of(energy, {}, [], Status.CONVERGED, bl.Cost(), "")
    found = fit.reconstruct(y, bl.Tolerance(rms=1e-2)).require()
    assert float(found.x.min()) >= 0
    composite = read(written("box", tmp_path)).configuration.energy((1, 16, 16))
    assert isinstance(composite.at(y), CompositeObjective)
    fit = bl.Fit.of(composite, {}, [], Status.CONVERGED, bl.Cost(), "")
    x = fit.reconstruct(y, bl.Tolerance(rms=1e-3)).require().x
    assert 0 <= float(x.min()) <= float(x.max()) <= 1


@pytest.mark.parametrize("terms", ["exact-tv", "box"])
def test_check_tests_their_derivatives_too(terms: str, run: Run, tmp_path: Path) -> None:
    outcome = run("check", written(terms, tmp_path))
    assert outcome.code == 0, outcome
    said = " ".join(outcome.out.split())
    assert "agrees with finite differences" in said
    assert {"exact-tv": "PDHG; automatic", "box": "FISTA; automatic"}[terms] in said
    assert "of the smooth terms" in said


def test_a_map_of_exact_weights_is_shown_in_the_report(run: Run, tmp_path: Path) -> None:
    path = written("exact-tv", tmp_path)
    path.write_text(path.read_text().replace('"exact-tv"', '"exact-tv"\nmap = true'))
    outcome = run("learn", path, "--out", tmp_path / "fit")
    assert outcome.code == 3, outcome  # two steps leave it worse than the data
    assert "256 values" in outcome.out
    fit = bl.load(tmp_path / "fit")
    assert isinstance(fit.energy, bl.Variational)
    tv = next(m for m in fit.energy.modules() if isinstance(m, ExactTotalVariation))
    found = weight_map(tv)
    assert found is not None
    assert found.uri in (tmp_path / "fit" / "report.html").read_text()

"""The code of the README and of the how-to pages runs as it stands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import bilevel as bl

ROOT = Path(__file__).parents[1]


def blocks(page: str) -> str:
    text = (ROOT / page).read_text(encoding="utf-8")
    return "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))


def test_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    code = blocks("README.md").replace("size=64", "size=24")
    exec(compile(code, "README.md", "exec"), {})
    assert "agrees with finite differences" in capsys.readouterr().out
    assert (tmp_path / "runs" / "deblurring" / "fit.json").exists()


def test_a_regulariser_of_ones_own() -> None:
    from bilevel.model import part, penalties, potentials
    from bilevel.model.regularisers import filtered

    names = {"torch": torch}
    for module in (part, penalties, potentials, filtered):
        names |= vars(module)
    exec(blocks("docs/add-a-regulariser.md"), names)
    own = names["SecondDifferences"](0.1, 0.1, learn=("weight", "smoothing"))
    energy = bl.Variational(bl.fidelities.SquaredL2(), own).double()
    target = torch.rand(2, 1, 8, 9, dtype=torch.float64)
    pairs = bl.data.simulate(target, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    assert bl.check_hypergradient(problem).passed
    assert problem.value_and_grad(problem.theta, tol=1e-6).proved


def test_a_solver_of_ones_own() -> None:
    from bilevel.ground import rows
    from bilevel.solve.solver import Solver

    names = {"dataclass": dataclass, "Tensor": torch.Tensor, "rows": rows, "Solver": Solver}
    names["__name__"] = __name__
    exec(blocks("docs/add-a-solver.md"), names)
    tv = bl.regularisers.TotalVariation(0.1, 0.1)
    objective = bl.Variational(bl.fidelities.SquaredL2(), tv).at(torch.rand(2, 1, 8, 8))
    bl.minimise(objective, names["HeavyBall"](), tol=bl.Tolerance(rms=1e-4)).require()


def test_an_algorithm_of_ones_own() -> None:
    from bilevel.ground.packing import Packable
    from bilevel.learn.algorithm import Algorithm, Status, verdict
    from bilevel.learn.evaluation import Evaluation

    names = {"dataclass": dataclass, "Algorithm": Algorithm, "Status": Status}
    names |= {"Packable": Packable, "verdict": verdict}
    names |= {"Evaluation": Evaluation, "__name__": __name__}
    exec(blocks("docs/add-an-algorithm.md"), names)
    images = bl.data.embedded_images(size=16)[:2]
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(0.01, 0.1))
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    fit = bl.learn(problem, names["SignDescent"](), budget=bl.Budget(steps=10))
    assert fit.history[-1].value < fit.history[0].value
    assert fit.snapshot is not None


def test_choosing_parameters() -> None:
    truth = bl.data.shepp_logan(24).float()
    pairs = bl.data.simulate(truth, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    names = {"bl": bl, "y": pairs.y, "truth": truth}
    exec(blocks("docs/choosing-parameters.md"), names)
    assert bool((names["found"].error("sure") >= names["found"].error("oracle") - 1e-4).all())

"""Parts of one's own: one file each, public names only, the contracts, and a configuration."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.cli import main
from bilevel.cli.catalogue import CATALOGUE, import_parts
from bilevel.ground.errors import InputError
from bilevel.model import Variational
from cli.tiny import CONFIGURATION
from contracts import algorithms, fidelities, hypergradients, losses, solvers, zoo
from contracts.algorithms import AlgorithmContract
from contracts.fidelities import FidelityContract
from contracts.hypergradients import HypergradientContract
from contracts.losses import LossContract
from contracts.operators import Case, OperatorContract
from contracts.regularisers import RegulariserContract
from contracts.solvers import SolverContract

PARTS = Path(__file__).parent / "parts"
FILES = sorted(PARTS.glob("*.py"))


def own(kind: str, name: str) -> type:
    """A class that was imported as ``--import`` does it."""
    if name not in CATALOGUE[kind]:
        import_parts(PARTS / f"{name.replace('-', '_')}.py")
    return CATALOGUE[kind][name].stands_for  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of each contract, and a catalogue that forgets what was imported."""
    for kind, entries in CATALOGUE.items():
        monkeypatch.setitem(CATALOGUE, kind, dict(entries))
    second = own("regularisers", "second-differences")
    huber = own("fidelities", "pseudo-huber")
    learn = ("weight", "smoothing")
    monkeypatch.setitem(
        zoo.REGULARISERS,
        "own",
        lambda rng: second(zoo.log_uniform(rng, -2, 0), zoo.log_uniform(rng, -2, 0), learn=learn),
    )
    monkeypatch.setitem(
        fidelities.FIDELITIES,
        "own",
        lambda a, rng: huber(a, zoo.log_uniform(rng, -0.5, 0.5), 0.2, learn=("weight",)),
    )
    few, sign = own("hypergradients", "few-steps"), own("algorithms", "sign-descent")
    monkeypatch.setitem(losses.LOSSES, "own", own("losses", "soft-error")(0.1))
    monkeypatch.setitem(solvers.SOLVERS, "own", own("solvers", "heavy-ball")(damping=0.5))
    monkeypatch.setitem(hypergradients.EVERY, "own", few(5))
    monkeypatch.setitem(hypergradients.PRECISE, "own", few(300))
    monkeypatch.setitem(algorithms.DEFAULTS, "own", sign())
    case = algorithms.Case(sign(), 0.2, 40, algorithms.SCALARS)
    monkeypatch.setitem(algorithms.QUADRATICS, "own", case)


class TestRegulariser(RegulariserContract):
    names = ("own",)


class TestFidelity(FidelityContract):
    names = ("own",)


class TestLoss(LossContract):
    names = ("own",)


class TestSolver(SolverContract):
    names = ("own",)


class TestHypergradient(HypergradientContract):
    names = ("own",)


class TestAlgorithm(AlgorithmContract):
    names = ("own",)


class TestOperator(OperatorContract):
    cases = (
        Case("three", lambda: own("operators", "row-mean")(3), (2, 5, 7), loose=1.01),
        Case("one", lambda: own("operators", "row-mean")(1), (1, 4, 4), loose=1.01),
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_part_is_written_with_public_names_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom | ast.Import):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                inside = (module or "").split(".")[0] == "bilevel"
                assert not inside or module in ("bilevel", "bilevel.extend"), (path, module)


USED = """
[operator]
name = "row-mean"
length = 2

[fidelity]
name = "pseudo-huber"
turn = 0.5

[regulariser]
name = "second-differences"
weight = 0.02
smoothing = 0.05

[loss]
name = "soft-error"

[solver]
name = "heavy-ball"
damping = 0.5

[hypergradient]
name = "few-steps"
steps = 300

[algorithm]
name = "sign-descent"
first_step = 0.2
"""


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """The tiny configuration with all parts of one's own."""
    tables = CONFIGURATION.split("\n\n")
    replaced = ("[operator]", "[regulariser]")
    kept = [table for table in tables if not table.startswith(replaced)]
    path = tmp_path / "own.toml"
    text = "\n\n".join([*kept, USED]).replace("weight = 0.01", "weight = 0.5")
    path.write_text(text)
    return path


@pytest.fixture
def imports() -> Iterator[list[str]]:
    """``--import FILE`` for every part."""
    yield [word for path in FILES for word in ("--import", str(path))]


def test_a_configuration_uses_all_of_them(
    used: Path, imports: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bilevel.cli import main

    out = tmp_path / "fit"
    assert main(["check", str(used), *imports]) == 0, capsys.readouterr()
    assert main(["learn", str(used), "--out", str(out), *imports]) == 3, capsys.readouterr()
    about = json.loads((out / "fit.json").read_text())
    assert "SignDescent" in about["algorithm"]
    energy = bl.load(out).energy
    assert isinstance(energy, Variational)
    assert type(energy.fidelity).__name__ == "PseudoHuber"
    assert float(Tensor(energy.fidelity(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4)))) == 0
    picture = tmp_path / "picture.png"
    bl.data.save_image(picture, torch.rand(1, 20, 20))
    words = ["reconstruct", str(out), str(picture), "--out", str(tmp_path / "restored"), *imports]
    assert main(words) == 0, capsys.readouterr()
    capsys.readouterr()
    assert main(["list", "solvers", *imports]) == 0
    said = capsys.readouterr().out
    assert "heavy-ball" in said
    assert "damping = 0.0  from 0, the fastest for quadratic energies" in said


def test_without_the_import_the_name_is_unknown(
    used: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bilevel.cli import main

    for kind in ("operators", "fidelities", "regularisers"):
        for name in ("row-mean", "pseudo-huber", "second-differences"):
            monkeypatch.delitem(CATALOGUE[kind], name, raising=False)
    assert main(["check", str(used)]) == 2
    assert "unknown" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\n", "defines no part"),
        (
            "from bilevel.extend import Loss\n"
            "class Half(Loss):\n"
            "    def value(self, x, target): ...\n",
            "Half is not complete, but got no grad, lipschitz; define",
        ),
        ("def broken(:\n", "line 1"),
        ("import no_such_module\n", "no_such_module"),
        (
            "from bilevel.extend import Loss\n"
            "class PSNR(Loss):\n"
            "    def value(self, x, target): ...\n"
            "    def grad(self, x, target): ...\n"
            "    def lipschitz(self, x, target, radius): ...\n",
            "the losses have a 'psnr'",
        ),
        (
            "from torch.nn import Module\n"
            "from bilevel.extend import Noise\n"
            "class Given(Noise):\n"
            "    def __init__(self, network: Module): ...\n"
            "    def sample(self, clean, generator): ...\n",
            "needs 'network', which a configuration cannot give",
        ),
        (
            "from bilevel.extend import Noise\n"
            "class Given(Noise):\n"
            "    def __init__(self, build: int = 1): ...\n"
            "    def sample(self, clean, generator): ...\n",
            "is called 'build'",
        ),
    ],
)
def test_what_cannot_be_imported_is_said(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "parts.py"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        import_parts(path)
    with pytest.raises(InputError, match="no file"):
        import_parts(tmp_path / "nothing.py")


def test_what_a_part_raises_is_said_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.py").write_text(
        "from bilevel.extend import Noise\n"
        "class Broken(Noise):\n"
        "    def sample(self, clean, generator):\n"
        "        return clean.nothing\n"
    )
    (tmp_path / "own.toml").write_text(
        'data = { size = 16, count = 1 }\noperator = { name = "identity" }\n'
        'noise = { name = "broken" }\nregulariser = { name = "total-variation" }\n'
        "budget = { steps = 1 }\n"
    )
    own = str(tmp_path / "own.py")
    assert main(["check", str(tmp_path / "own.toml"), "--import", own]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {own}, line 4: AttributeError: ")
    assert said.count("\n") == 1

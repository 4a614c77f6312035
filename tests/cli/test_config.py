"""Configurations: defaults, round trips, lines, examples."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import bilevel as bl
from bilevel.cli.catalogue import CATALOGUE, about, parameters
from bilevel.cli.config import parse, plain, read, restore
from bilevel.cli.config.configuration import Configuration
from bilevel.cli.config.lines import line_of
from bilevel.cli.config.selection import Selection
from bilevel.cli.settings.base import Choice, Settings
from bilevel.cli.settings.kinds import AlgorithmSettings, RegulariserSettings, SolverSettings
from bilevel.learn import algorithms
from bilevel.model import regularisers
from bilevel.model.potentials import POTENTIALS
from bilevel.model.regularisers.foe import LEARNED
from bilevel.solve import Solver, solvers
from cli.tiny import CONFIGURATION, Run

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid_and_survive_the_way_through_plain_data(path: Path) -> None:
    configuration = read(path).configuration
    assert restore(plain(configuration), "plain") == configuration


def test_the_demo_is_valid() -> None:
    from bilevel.cli.commands.demo import CONFIGURATION as demo
    from bilevel.cli.commands.demo import SECONDS

    assert read(demo).configuration.budget.seconds == SECONDS


@pytest.mark.parametrize(
    "name", ["total-variation", "fields-of-experts", "tikhonov", "exact-tv", "sparsity"]
)
def test_regularisers_are_those_of_the_library_with_its_defaults(name: str) -> None:
    entry = CATALOGUE["regularisers"][name]
    assert issubclass(entry, RegulariserSettings)
    made = entry().build((1, 8, 8))
    default = type(made)()
    ours, theirs = dict(made.named_parameters()), dict(default.named_parameters())
    assert {n: p.requires_grad for n, p in ours.items()} == {
        n: p.requires_grad for n, p in theirs.items()
    }
    for key, value in ours.items():
        assert sorted(value.flatten().tolist()) == sorted(theirs[key].flatten().tolist())


LONGER = {
    "accelerated-maid": "maid",
    "torch": "torchoptimiser",
    "random": "randomsearch",
    "optuna": "optunasearch",
}


@pytest.mark.parametrize("name", CATALOGUE["algorithms"])
def test_algorithms_are_those_of_the_library_with_its_defaults(name: str) -> None:
    entry = CATALOGUE["algorithms"][name]
    assert issubclass(entry, AlgorithmSettings)
    box = {"regulariser.log_weight": (-3.0, 0.0)}
    needed = {"box": box} if "box" in entry.model_fields else {}
    built = entry.model_validate(needed).build()
    default = algorithms.MAID(accelerated=True) if name == "accelerated-maid" else None
    assert built == (default or type(built)(*needed.values()))
    assert type(built).__name__.lower() == LONGER.get(name, name.replace("-", ""))


ENERGIES = {
    "smooth": "",
    "box": "[box]\nlower = 0.0\n",
    "outliers": '[fidelity]\nname = "l1"\n',
    "exact": "",
    "counts": '[fidelity]\nname = "kullback-leibler"\nbackground = 0.1\n',
}
COUNTING = 'name = "poisson"\npeak = 50.0\nbackground = 0.1'
FITTING: dict[str, tuple[type[Solver[Any]], type[Solver[Any]]]] = {
    "smooth": (solvers.Nesterov, solvers.LBFGS),
    "box": (solvers.FISTA, solvers.FISTA),
    "outliers": (solvers.PDHG, solvers.PDHG),
    "exact": (solvers.PDHG, solvers.PDHG),
    "counts": (solvers.Nesterov, solvers.LBFGS),
}


def configured(energy: str, solver: str = "") -> Configuration:
    text = CONFIGURATION.replace("[budget]", f"{ENERGIES[energy]}{solver}[budget]")
    if energy == "counts":
        text = text.replace('name = "gaussian"\nsigma = "10/255"', COUNTING)
    if energy == "exact":
        text = text.replace("smoothing = 0.05\n", "").replace("total-variation", "exact-tv")
    return parse(text, Path("tiny.toml")).configuration


@pytest.mark.parametrize("energy", ENERGIES)
def test_the_solver_fits_the_energy(energy: str) -> None:
    """Without [solver], with [solver] but no name, and with "automatic"."""
    default, automatic = FITTING[energy]
    for solver, expected in (
        ("", default),
        ("[solver]\nchunk = 1\n", default),
        ('[solver]\nname = "automatic"\n', automatic),
    ):
        configuration = configured(energy, solver)
        shape = (1, 16, 16)
        objective = configuration.energy(shape).at(torch.zeros(1, *shape))
        assert type(configuration.solver.build(objective)) is expected


@pytest.mark.parametrize("name", CATALOGUE["solvers"])
def test_solvers_are_those_of_the_library_with_its_defaults(name: str) -> None:
    entry = CATALOGUE["solvers"][name]
    assert issubclass(entry, SolverSettings)
    kind = {"fista": "box", "proximal-newton": "box", "pdhg": "exact"}.get(name, "smooth")
    shape = (1, 16, 16)
    built = entry().build(configured(kind).energy(shape).at(torch.zeros(1, *shape)))
    assert built == type(built)()


def test_a_box_and_a_map_of_exact_weights_reach_the_energy() -> None:
    text = CONFIGURATION.replace("[budget]", "[box]\nlower = 0.1\nupper = 0.9\n[budget]")
    text = text.replace("smoothing = 0.05", "map = true\nisotropic = false")
    text = text.replace("total-variation", "exact-tv")
    energy = parse(text, Path("tiny.toml")).configuration.energy((1, 16, 16))
    assert isinstance(energy.regulariser, regularisers.Sum)
    tv, ridge, box = energy.regulariser.parts
    assert isinstance(tv, regularisers.ExactTotalVariation)
    assert tv.weight.shape == (16, 16)
    assert not tv.isotropic
    assert isinstance(ridge, regularisers.Tikhonov)
    assert isinstance(box, regularisers.Box)
    assert (box.lower, box.upper) == (0.1, 0.9)


def test_filters_of_lowest_frequency_come_first() -> None:
    entry = CATALOGUE["regularisers"]["fields-of-experts"]
    assert issubclass(entry, RegulariserSettings)
    bank = entry.model_validate({"size": 3, "count": 2}).build((1, 8, 8))
    assert isinstance(bank, regularisers.FieldsOfExperts)
    changes = bank.filters.detach().sign().diff(dim=-1).abs().sum((1, 2, 3))
    assert bank.filters.shape == (2, 1, 3, 3)
    assert changes.tolist() == [6.0, 0.0]  # along the width, then along the height


def test_the_model_of_kunisch_and_pock_is_a_table() -> None:
    """24 weights of the DCT, and a power of the responses."""
    entry = CATALOGUE["regularisers"]["fields-of-experts"]
    assert issubclass(entry, RegulariserSettings)
    table = {"potential": "power", "exponent": 0.5, "learn": ["weight"]}
    made = entry.model_validate(table).build((1, 8, 8))
    learned = {n: p.numel() for n, p in made.named_parameters() if p.requires_grad}
    assert learned == {"log_weight": 24}
    with pytest.raises(ValueError, match="'huber' has no exponent"):
        entry.model_validate({"potential": "huber", "exponent": 0.5})


def test_a_regulariser_of_several_scales_is_a_table_in_a_table() -> None:
    inner = '[regulariser]\nname = "multi-scale"\nlevels = 2\n[regulariser.of]\n'
    text = CONFIGURATION.replace("[regulariser]\n", inner)
    found = parse(text, Path("tiny.toml")).configuration.regulariser.build((1, 16, 16))
    assert isinstance(found, regularisers.MultiScale)
    assert isinstance(found.regulariser, regularisers.TotalVariation)
    assert found.levels == 2


def test_quotients_are_numbers() -> None:
    noise = parse(CONFIGURATION, Path("tiny.toml")).configuration.noise.build()
    assert noise == bl.data.GaussianNoise(10 / 255)


def test_the_blur_sums_to_one_and_is_symmetric() -> None:
    operator = parse(CONFIGURATION, Path("tiny.toml")).configuration.forward((1, 16, 16))
    assert isinstance(operator, bl.operators.Convolution)
    kernel = operator.kernel.double()
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-6)
    assert kernel.allclose(kernel.flip(0, 1))
    assert float(kernel[1, 2] / kernel[1, 1]) == pytest.approx(0.3604, abs=1e-4)  # exp(-1/0.98)


def test_potentials_of_configurations_are_those_of_the_library() -> None:
    field = parameters(CATALOGUE["regularisers"]["fields-of-experts"])["potential"]
    assert set(getattr(field.annotation, "__args__", ())) == {*POTENTIALS, *LEARNED}


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("a",), 1),
        (("t",), 2),
        (("t", "k"), 3),
        (("t", "u", "v"), 4),
        (("t", "missing"), 2),
        (("t", "w", "x"), 6),
        (("t", "w", "inline"), 7),
        (("q", "r"), 9),
        (("nowhere",), None),
    ],
)
def test_lines_of_keys(path: tuple[str, ...], line: int | None) -> None:
    text = (
        'a = 1\n[t] # comment\nk = 2\nu.v = 3\n  [t.w]\n  x = 4\ninline = { y = 5 }\n["q"]\n"r" = 1'
    )
    assert line_of(text, path) == line


def test_every_entry_has_a_description_and_every_parameter_a_default_or_a_meaning() -> None:
    for entries in CATALOGUE.values():
        for entry in entries.values():
            assert about(entry).endswith(".")
            for field in parameters(entry).values():
                assert field.description or not field.is_required()


def test_every_choice_of_a_configuration_is_a_kind_of_the_catalogue() -> None:
    fields = [
        *Configuration.model_fields.values(),
        *Selection.model_fields.values(),
        *parameters(CATALOGUE["algorithms"]["projected-gradient"]).values(),
    ]
    kinds = {m.kind for field in fields for m in field.metadata if isinstance(m, Choice)}
    assert kinds | {"potentials"} == set(CATALOGUE)


def test_list_shows_everything_and_one_kind_alone(run: Run) -> None:
    outcome = run("list")
    assert outcome.code == 0
    for kind, entries in CATALOGUE.items():
        assert f"\n{kind}\n" in f"\n{outcome.out}"
        for name, entry in entries.items():
            assert re.search(
                rf"^  {re.escape(name)} +{re.escape(about(entry))}$", outcome.out, re.M
            )
    alone = run("list", "noises").out
    assert 'sigma = (required)  standard deviation [grey value]; also "25/255"' in alone
    assert "gaussian-blur" not in alone


def test_the_guide_names_every_table_entry_and_key() -> None:
    guide = (ROOT / "docs" / "configuration.md").read_text()
    for kind, entries in CATALOGUE.items():
        for name, entry in entries.items():
            assert f"`{name}`" in guide, (kind, name)
            for key in parameters(entry):
                assert f"`{key}`" in guide, (kind, name, key)
    for table, field in Configuration.model_fields.items():
        assert f"[{table}]" in guide or f"`{table}`" in guide, table
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            for key in kind.model_fields:
                assert f"`{key}`" in guide, (table, key)

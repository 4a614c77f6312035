"""Every table and every option is heeded or refused by every command: none is passed over."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.cli.config import Configuration, Selection, read, read_selection, tables_for_learning
from bilevel.cli.reconstruction import Reconstructor
from cli.tiny import CONFIGURATION, Run

TABLES = {
    "precision": 'precision = "float64"',
    "data": "",  # stands in the configuration already
    "operator": "",
    "camera": "[camera]\nread_noise = 0.05",
    "noise": "",
    "fidelity": '[fidelity]\nname = "squared-l2"\nweight = 2.0',
    "regulariser": "",
    "ridge": "",
    "box": "[box]\nlower = 0.0",
    "loss": '[loss]\nname = "psnr"',
    "penalty": '[penalty]\nname = "size"\nweight = 1e-6',
    "criterion": '[criterion]\nname = "sure"',
    "pretrain": '[pretrain]\nname = "score-matching"\nsteps = 2',
    "solver": '[solver]\nname = "nesterov"',
    "algorithm": '[algorithm]\nname = "l-bfgs"',
    "scales": '[scales]\n"regulariser" = 2.0',
    "budget": "",
    "output": '[output]\ntitle = "x"',
    "hypergradient": '[hypergradient]\nname = "implicit"',
    "rule": '[rule]\nname = "discrepancy"',
    "span": "span = [0.1, 1.0]",
}
"""Each table as it may be added to a configuration."""

HEEDED = {
    "learn": set(Configuration.model_fields),
    "select": set(Selection.model_fields),
    "compare": set(Configuration.model_fields) - {"scales", "criterion", "penalty", "pretrain"},
}
LEARNING = {
    *(
        "data",
        "loss",
        "penalty",
        "pretrain",
        "criterion",
        "algorithm",
        "hypergradient",
        "scales",
        "budget",
        "output",
    )
}
"""What a selection names as not used."""


def written(folder: Path, table: str) -> Path:
    path = folder / "one.toml"
    text, before, after = TABLES[table], "", CONFIGURATION
    if table == "camera":  # in the place of the noise
        before, _, after = CONFIGURATION.partition("[noise]")
        after = after[after.index("[") :]
    path.write_text(
        f"{before}{after}\n{text}\n" if text.startswith("[") else f"{text}\n{before}{after}"
    )
    return path


def test_every_table_is_listed() -> None:
    assert set(TABLES) == {*Configuration.model_fields, *Selection.model_fields}


@pytest.mark.parametrize("table", TABLES)
def test_learning_heeds_or_refuses(table: str, tmp_path: Path) -> None:
    path = written(tmp_path, table)
    if table in HEEDED["learn"]:
        found = read(path).configuration
        if TABLES[table]:
            assert getattr(found, table) != Configuration.model_fields[table].default
    else:
        with pytest.raises(bl.InputError, match=table):
            read(path)


@pytest.mark.parametrize("table", TABLES)
def test_selecting_heeds_names_or_refuses(table: str, tmp_path: Path) -> None:
    path = written(tmp_path, table)
    if table in HEEDED["select"] | LEARNING:
        found = read_selection(path, {})
        if TABLES[table] and table not in LEARNING:
            assert getattr(found, table) != Selection.model_fields[table].default
        assert set(tables_for_learning(path)) <= LEARNING
        assert (table in tables_for_learning(path)) == (table in LEARNING)
    else:
        with pytest.raises(bl.InputError, match=table):
            read_selection(path, {})


@pytest.mark.parametrize("table", sorted(set(Configuration.model_fields) - HEEDED["compare"]))
def test_comparing_refuses_what_it_cannot_heed(table: str, run: Run, tmp_path: Path) -> None:
    path = written(tmp_path, table)
    assert table in run("compare", path, "--out", tmp_path / "out").refused()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("learn", "{toml}", "--out", "{out}", "--data", "{here}"), "--data"),
        (("race", "{toml}", "--algorithms", "maid", "--out", "{out}", "--data", "{here}"),
         "--data"),
        (("check", "{toml}", "--data", "{here}"), "--data"),
        (("compare", "{toml}", "--out", "{out}", "--data", "{here}"), "--data"),
        (("compare", "{toml}", "--out", "{out}", "--layout", "stack"), "for pictures"),
        (("compare", "{toml}", "--out", "{out}", "--grey"), "for pictures"),
        (("compare", "{toml}", "--out", "{out}", "--sigma", "0.1"), "for pictures"),
        (("compare", "{toml}", "--out", "{out}", "--format", "npy"), "--format"),
        (("compare", "{npy}", "--out", "{out}", "--data", "{here}"), "--data"),
        (("select", "{npy}", "--layout", "colour", "--out", "{out}"), "grey picture"),
        (("select", "{npy}", "--sigma", "1", "--noise", "none", "--out", "{out}"), "--sigma"),
        (("select", "{npy}", "--operator", "mask:seed=5,seed=1", "--out", "{out}"), "twice"),
    ],
)  # fmt: skip
def test_options_that_would_change_nothing_are_refused(
    arguments: tuple[str, ...], says: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "tiny.toml").write_text(CONFIGURATION)
    bl.data.save_image(tmp_path / "y.npy", torch.rand(8, 8))
    places = {"toml": "tiny.toml", "npy": "y.npy", "out": "out", "here": ""}
    filled = [a.format(**{k: tmp_path / v for k, v in places.items()}) for a in arguments]
    assert says in run(*filled).refused()
    assert not (tmp_path / "out").exists()


def test_an_operator_that_is_not_the_one_learned_with_is_refused(
    fit: Path, run: Run, tmp_path: Path
) -> None:
    saved = bl.load(fit)
    bl.data.save_image(tmp_path / "y.npy", torch.rand(16, 16))
    assert isinstance(saved.energy, bl.Variational)
    kernel = torch.tensor([[0.2, 0.6, 0.2]])
    saved.energy.fidelity.operator = bl.operators.Convolution(kernel)
    saved.save(tmp_path / "other")
    arguments = ("reconstruct", tmp_path / "other", tmp_path / "y.npy", "--out", tmp_path / "out")
    assert "another operator than its configuration builds" in run(*arguments).refused()
    configuration = {**saved.configuration, "operator": {"name": "gaussian-blur", "size": 5}}
    dataclasses.replace(bl.load(fit), configuration=configuration).save(tmp_path / "other")
    assert "another operator than its configuration builds" in run(*arguments).refused()
    bl.load(fit).save(tmp_path / "other")
    assert isinstance(Reconstructor.load(tmp_path / "other", 1e-3).fit.energy, bl.Variational)

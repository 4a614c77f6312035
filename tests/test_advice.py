"""Advice that names an option, a key or a thing of the library names one that exists."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import typer.main

import bilevel as bl
from bilevel.cli.app import app
from bilevel.cli.catalogue import CATALOGUE
from bilevel.cli.config import Configuration, Selection

SOURCE = Path(bl.__file__).parent
FAMILIES = ("rules", "regularisers", "fidelities", "operators", "losses", "solvers", "data",
            "algorithms", "criteria", "penalties")  # fmt: skip
PACKAGES = {
    "rules": "bilevel.select.rules",
    "regularisers": "bilevel.model.regularisers",
    "fidelities": "bilevel.model.fidelities",
    "operators": "bilevel.model.operators",
    "losses": "bilevel.model.losses",
    "solvers": "bilevel.solve.solvers",
    "algorithms": "bilevel.learn.algorithms",
    "criteria": "bilevel.learn.criteria",
    "penalties": "bilevel.learn.penalties",
    "data": "bilevel.data",
}


def messages() -> Iterator[tuple[str, str]]:
    """(place, text) of every string of the library that is no docstring."""
    for file in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        docs: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, documented):
                for child in node.body:
                    if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                        docs.add(id(child.value))
        for node in ast.walk(tree):
            said = isinstance(node, ast.Constant) and id(node) not in docs
            if said and isinstance(node.value, str) and " " in node.value:
                yield f"{file.relative_to(SOURCE)}:{node.lineno}", node.value


def options() -> set[str]:
    command = typer.main.get_command(app)
    found = {"--version", "--help"}
    for one in command.commands.values():
        found |= {name for part in one.params for name in getattr(part, "opts", ())}
    return found


TEXTS = list(messages())


def test_options_of_the_command_line_exist() -> None:
    pattern = r"(?<![\w-])--[a-z][a-z-]+"
    said = [(at, text) for at, text in TEXTS if "style.py" not in at]  # which is CSS
    named = [(at, one) for at, text in said for one in re.findall(pattern, text)]
    known = options()
    assert named and [pair for pair in named if pair[1] not in known] == []


def test_commands_exist() -> None:
    known = set(typer.main.get_command(app).commands) | {"--help"}
    named = [(at, one) for at, text in TEXTS for one in re.findall(r"`bilevel ([\w-]+)", text)]
    assert named and [pair for pair in named if pair[1] not in known] == []


def test_tables_exist() -> None:
    fields = {*Configuration.model_fields, *Selection.model_fields}
    named = [
        (at, one)
        for at, text in TEXTS
        for one in re.findall(r"table \[([a-z_]+)\]|(?<=\W)\[([a-z_]{3,})\] and", text)
    ]
    wrong = [(at, pair) for at, pair in named if (pair[0] or pair[1]) not in fields]
    assert named and wrong == []


@pytest.mark.parametrize("family", FAMILIES)
def test_names_of_the_library_exist(family: str) -> None:
    package = import_module(PACKAGES[family])
    pattern = rf"(?<![\w.])(?:bl\.)?{family}\.([A-Za-z_]+)"
    named = [(at, one) for at, text in TEXTS for one in re.findall(pattern, text)]
    keys = set(Configuration.model_fields)
    if family in keys:  # a table of a configuration
        keys |= set(Configuration.model_fields[family].annotation.model_fields)
    for fields in (settings.model_fields for settings in CATALOGUE.get(family, {}).values()):
        keys |= set(fields)
    wrong = [(at, one) for at, one in named if not hasattr(package, one) and one not in keys]
    assert wrong == []


def test_calls_name_what_is_public_with_arguments_that_it_has() -> None:
    """Such as ``Tolerance(residual=...)``."""
    places = ["bilevel", "bilevel.differentiate", "bilevel.select.degrees", *PACKAGES.values()]
    public = {name: value for place in places for name, value in vars(import_module(place)).items()}
    pattern = r"(?<![\w])([A-Za-z]+)\(([a-z_]+)=[^=]"
    named = [(at, *pair) for at, text in TEXTS for pair in re.findall(pattern, text)]
    assert named
    for at, name, argument in named:
        assert name in public, at
        assert argument in inspect.signature(public[name]).parameters, (at, name, argument)

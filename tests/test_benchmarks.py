"""Benchmarks are run by hand: what they take from the library must be there all the same."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent.parent / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_names_that_a_benchmark_imports_exist(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bilevel"):
            module = importlib.import_module(str(node.module))
            for name in node.names:
                known = hasattr(module, name.name)
                assert known or importlib.util.find_spec(f"{module.__name__}.{name.name}")

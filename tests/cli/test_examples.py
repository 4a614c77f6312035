"""The TOML of the pages is read as it stands; what docs/models.md shows is learned from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bilevel.cli.config import parse
from bilevel.cli.config.toml import tables
from cli.tiny import Run

DOCS = Path(__file__).parents[2] / "docs"
REST = {
    "data": "size = 16\ncount = 1",
    "operator": 'name = "identity"',
    "noise": 'name = "gaussian"\nsigma = 0.1',
    "regulariser": 'name = "total-variation"',
    "budget": "steps = 1",
}


def blocks(page: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)


def whole(block: str) -> str:
    """With the tables that it leaves out."""
    given = tables(block)
    rest = "\n".join(f"[{k}]\n{keys}" for k, keys in REST.items() if k not in given)
    return f"{block}\n{rest}\n"


@pytest.mark.parametrize(
    "block", [*blocks("models.md"), *blocks("configuration.md")], ids=lambda text: text[:40]
)
def test_it_is_read(block: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if '"runs/tv"' in block:
        block = block.replace("runs/tv", str(request.getfixturevalue("fit")))
    parse(whole(block), tmp_path / "one.toml")


MODELS = {
    next(iter(re.findall(r'name = "(.*?)"', text))): text
    for text in blocks("models.md")
    if "runs/" not in text
}


@pytest.mark.parametrize("name", MODELS)
def test_it_is_checked(name: str, run: Run, tmp_path: Path) -> None:
    """Sizes, constants, derivatives."""
    path = tmp_path / "one.toml"
    path.write_text(whole(MODELS[name]))
    outcome = run("check", path)
    assert outcome.code == 0, outcome


def test_every_new_model_is_shown() -> None:
    assert len(MODELS) == len(blocks("models.md")) - 1 >= 9

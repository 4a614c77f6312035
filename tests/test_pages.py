"""The code of all pages runs as it stands; what they say is what the library and the files say."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import bilevel as bl

ROOT = Path(__file__).parents[1]
WRITTEN = (
    *("README.md", "CONTRIBUTING.md", "docs", "reproductions", "applications", "benchmarks"),
    *("src", "tests"),
)


def pages() -> Sequence[Path]:
    found = (ROOT / name for name in WRITTEN)
    return sorted(page for one in found for page in ([one] if one.is_file() else one.rglob("*.md")))


def blocks(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    return "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in pages() if blocks(page)], ids=names)
def test_the_code_of_a_page_runs_as_it_stands(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own imports, from an empty folder; smaller images than the README has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(page.parent))
    code = blocks(page).replace("size=64", "size=24")
    found: dict[str, Any] = {"__name__": f"page {page.stem}"}
    exec(compile(code, str(page), "exec", dont_inherit=True), found)
    check = CHECKS.get(names(page))
    if check is not None:
        check(found)


def checked(found: dict[str, Any]) -> None:
    assert found["problem"].value_and_grad(found["problem"].theta, tol=1e-6).proved
    assert bl.check_hypergradient(found["problem"]).passed


def learned(found: dict[str, Any]) -> None:
    fit = found["fit"]
    assert fit.history[-1].value < fit.history[0].value
    assert fit.snapshot is not None


def compared(found: dict[str, Any]) -> None:
    assert bool((found["found"].error("sure") >= found["found"].error("oracle") - 1e-4).all())


CHECKS = {
    "docs/add-a-regulariser.md": checked,
    "docs/add-an-algorithm.md": learned,
    "docs/choosing-parameters.md": compared,
    "docs/python.md": learned,
    "README.md": learned,
}


@pytest.mark.parametrize(
    ("page", "part"),
    [
        ("add-a-regulariser", "second_differences"),
        ("add-a-solver", "heavy_ball"),
        ("add-an-algorithm", "sign_descent"),
    ],
)
def test_a_page_shows_the_file_that_is_tested(page: str, part: str) -> None:
    text = (ROOT / "tests" / "extending" / "parts" / f"{part}.py").read_text()
    code = text.split('"""\n\n', 1)[1].rstrip()
    assert f"```python\n{code}\n```" in (ROOT / "docs" / f"{page}.md").read_text()


def test_the_configuration_page_is_that_of_the_catalogue(tmp_path: Path) -> None:
    """In a process of its own: parts that other tests have imported belong to no page."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page.count("<!-- table: ") >= 10
    copy = tmp_path / "configuration.md"
    copy.write_text(page, encoding="utf-8")
    subprocess.run([sys.executable, "-m", "bilevel.cli.reference", str(copy)], check=True)
    assert copy.read_text(encoding="utf-8") == page


def test_links_inside_the_repository_lead_somewhere() -> None:
    for page in pages():
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (names(page), target)


def test_every_figure_of_the_results_stands_in_the_file_that_its_line_names() -> None:
    """Each decimal and each number of three digits, in one of the files linked in its paragraph."""
    page = ROOT / "docs" / "results.md"
    text = page.read_text(encoding="utf-8")
    paragraphs = re.split(r"\n\n|\n(?=\|)", text)
    seen = 0
    for paragraph in paragraphs:
        links = re.findall(
            r"\]\((\.\./(?:benchmarks/results|reproductions)/[^)]+\.md)\)", paragraph
        )
        sources = "\n".join((page.parent / link).read_text(encoding="utf-8") for link in links)
        words = re.sub(r"\]\([^)]*\)|`[^`]*`|\d+/\d+|\d+x\d+|[A-Z]\w*\d+", " ", paragraph)
        for number in re.findall(r"\d+\.\d+|\d{3,}", words):
            seen += 1
            assert number in sources, (number, paragraph)
    assert seen > 30


def test_the_first_screen_of_the_readme() -> None:
    """What it is, a picture, two commands and ten lines of Python, within 40 lines."""
    first = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:40]
    text = "\n".join(first)
    assert "![" in text
    assert "make demo" in text
    assert "bilevel select" in text
    block = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert block is not None
    assert len([line for line in block[1].splitlines() if line.strip()]) <= 10

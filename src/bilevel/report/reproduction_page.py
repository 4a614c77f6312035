"""The page of a reproduction, as Markdown to keep beside its script and as HTML to look at."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bilevel.ground.errors import InputError
from bilevel.report.page import render
from bilevel.report.reproduction import Reproduction, Results
from bilevel.report.words import duration

__all__ = ["UNKNOWN", "reproduction_markdown", "reproduction_page", "shortfalls", "told"]

UNKNOWN = "No figure of the paper that this could be held against is known to us: ours stand alone."
SMALL = "The same in small, on what ships with the packages."
QUICK = "This is the quick form, of small size: its figures say that it runs, and no more."


def shortfalls(reproduction: Reproduction, results: Results) -> list[str]:
    """Where it falls short of the paper, in sentences; at least one."""
    said = [] if _scale(results.about) == "full" else [QUICK]
    said += results.short
    if not reproduction.known:
        said.append(UNKNOWN)
    return said or ["It reaches the figures of the paper that are known to us."]


def told(reproduction: Reproduction, results: Results) -> list[tuple[str, str]]:
    """What the paper did and what was run, at the scale of the results: heading and text.

    Example:
        >>> paper = Reproduction("a", "A", "B", ["It did."], ["On BSD68."], lambda job: Results({}))
        >>> told(paper, Results({}, about={"scale": "quick"}))[1:]
        [('What is run here', 'The same in small, ...'), ('What the full form runs', 'On BSD68.')]
    """
    here = " ".join(reproduction.here)
    full = _scale(results.about) == "full"
    small = [("What is run here", SMALL), ("What the full form runs", here)]
    ran = [("What is run here", here)] if full else small
    return [("What the paper did", " ".join(reproduction.did)), *ran]


def reproduction_markdown(reproduction: Reproduction, results: Results) -> str:
    """One page that says no more than the script and its results do.

    Example:
        >>> found = Results({}, findings=["It runs."], about={"scale": "full", "seconds": 1.0})
        >>> paper = Reproduction("a", "A", "B", [], [], lambda job: found)
        >>> text = reproduction_markdown(paper, found)
        >>> "It runs." in text and UNKNOWN in text
        True
    """
    return "\n".join(_lines(reproduction, results)).rstrip() + "\n"


def _lines(reproduction: Reproduction, results: Results) -> Iterator[str]:
    yield from (f"# {reproduction.title}", "", reproduction.paper, "")
    command = f"    bilevel reproduce {reproduction.name}"
    data = " --data FOLDER" if reproduction.needs else ""
    yield f"{command}{data}    # {reproduction.full} on two cores"
    yield f"{command} --quick    # what ships with the packages, less than two minutes"
    for heading, text in told(reproduction, results):
        yield from ("", f"## {heading}", "", text)
    yield from ("", "## Figures of the paper", "")
    if reproduction.known:
        yield from ("| figure | paper | source |", "| --- | --- | --- |")
        yield from (f"| {k.what} | {k.value} | {k.source} |" for k in reproduction.known)
    else:
        yield "None is known to us."
    yield from ("", "## Ours", "")
    for one in results.tables:
        yield from (f"**{one.title}**", "", one.markdown(), "")
    yield from (f"- {sentence}" for sentence in results.findings)
    for picture in results.pictures:
        yield from ("", f"![{picture.caption}]({picture.file})", "", picture.caption)
    yield from ("", "## Where this falls short", "")
    yield from (f"- {sentence}" for sentence in shortfalls(reproduction, results))
    yield from ("", _how(results.about))


def reproduction_page(reproduction: Reproduction, results: Results, folder: Path) -> str:
    """The same as one HTML page that fetches nothing, with the pictures of ``folder`` inside.

    Raises:
        InputError: a picture that is not there.
    """
    pictures: list[tuple[str, str]] = []
    for picture in results.pictures:
        try:
            coded = base64.b64encode((folder / picture.file).read_bytes()).decode("ascii")
        except OSError as problem:
            raise InputError(f"no picture '{picture.file}' in '{folder}'") from problem
        pictures.append((f"data:image/png;base64,{coded}", picture.caption))
    context = {
        "lede": [reproduction.paper, *results.findings[:1]],
        "hero": None,
        "hero_group": "",
        "reproduction": reproduction,
        "told": told(reproduction, results),
        "results": results,
        "pictures": pictures,
        "shortfalls": shortfalls(reproduction, results),
        "how": _how(results.about),
        "scale": _scale(results.about),
        "seconds": duration(results.about["seconds"]) if "seconds" in results.about else "",
    }
    about = {key: value for key, value in results.about.items() if key != "versions"}
    return render("reproduction.html.jinja", reproduction.title, about, context)


def _scale(about: Mapping[str, Any]) -> str:
    return str(about.get("scale", "full"))


def _how(about: Mapping[str, Any]) -> str:
    """In one line: how long it took and with what, as far as it is known."""
    said = ["Numbers in results.json"]
    if "seconds" in about:
        said.append(f"run in {duration(float(about['seconds']))}")
    if "processor seconds" in about:
        said.append(f"{duration(float(about['processor seconds']))} of processor time")
    if "threads" in about:
        said.append(f"{about['threads']} thread(s)")
    said += [f"{name} {version}" for name, version in dict(about.get("versions", {})).items()]
    return f"{'; '.join(said)}."

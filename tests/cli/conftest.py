"""Commands run in this process, and one fit that all tests of a worker share."""

from __future__ import annotations

from pathlib import Path

import pytest

from bilevel.cli import main
from cli.tiny import CONFIGURATION, Outcome, Run


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BILEVEL_DATA", raising=False)


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIGURATION)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("learn", path, ...)`` as on the command line."""

    def command(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        said = capsys.readouterr()
        return Outcome(code, said.out, said.err)

    return command


@pytest.fixture(scope="session")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that ``bilevel learn`` wrote."""
    folder = tmp_path_factory.mktemp("learned")
    (folder / "tiny.toml").write_text(CONFIGURATION)
    assert main(["learn", str(folder / "tiny.toml"), "--out", str(folder / "fit")]) == 0
    return folder / "fit"

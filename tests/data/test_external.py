"""The larger image sets are found where they are said to be, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from bilevel.data import find_data, load_images
from bilevel.ground.errors import InputError


def test_the_argument_goes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BILEVEL_DATA", raising=False)
    assert find_data() is None
    monkeypatch.setenv("BILEVEL_DATA", str(tmp_path))
    assert find_data() == tmp_path
    (tmp_path / "other").mkdir()
    assert find_data(str(tmp_path / "other")) == tmp_path / "other"
    monkeypatch.setenv("BILEVEL_DATA", "")
    assert find_data() is None


def test_a_folder_that_was_named_must_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="the data folder does not exist"):
        find_data(tmp_path / "gone")
    monkeypatch.setenv("BILEVEL_DATA", str(tmp_path / "gone"))
    with pytest.raises(InputError, match="BILEVEL_DATA does not exist"):
        find_data()


def test_the_grey_test_set(external_data: Path) -> None:
    images = load_images(external_data / "bsd68")
    assert len(images) == 68
    assert {tuple(sorted(x.shape)) for _, x in images} == {(1, 1, 321, 481)}

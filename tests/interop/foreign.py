"""Libraries that not every installation has."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import warnings
from types import ModuleType

import pytest
import torch


def imported(name: str) -> ModuleType:
    """The module, or the tests that need it are skipped and say so."""
    package = name.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)
    if package == "deepinv":
        _define_what_torchvision_misses()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        return importlib.import_module(name)


def _define_what_torchvision_misses() -> None:
    """A torchvision built for another PyTorch asks for schemas that its library would define."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in (
        "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    ):
        with contextlib.suppress(RuntimeError):  # it is there
            library.define(schema)
    _KEPT.append(library)


_KEPT: list[torch.library.Library] = []

"""Compiling where it pays, and going on where it cannot."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from bilevel.ground import fused as module
from bilevel.ground.errors import InputError
from bilevel.ground.fused import fused


def twice(x: Tensor) -> Tensor:
    return 2 * x


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Callable[..., Tensor]]:
    """Functions handed to the compiler, which here changes nothing."""
    seen: list[Callable[..., Tensor]] = []

    def compiler(function: Callable[..., Tensor], dynamic: bool) -> Callable[..., Tensor]:
        assert dynamic
        seen.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.delenv("BILEVEL_COMPILE", raising=False)
    return seen


def test_compiled_once_it_has_cost_enough(
    compilations: list[Callable[..., Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    function = fused(twice)
    with torch.no_grad():
        function(torch.ones(2))
        assert compilations == []
        monkeypatch.setattr(module, "_PAYS", 0.0)
        for _ in range(3):
            assert function(torch.ones(2)).tolist() == [2.0, 2.0]
    assert compilations == [twice]


def test_always_and_never(
    compilations: list[Callable[..., Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILEVEL_COMPILE", "never")
    monkeypatch.setattr(module, "_PAYS", -1.0)
    with torch.no_grad():
        fused(twice)(torch.ones(2))
        assert compilations == []
        monkeypatch.setenv("BILEVEL_COMPILE", "always")
        fused(twice)(torch.ones(2))
        assert compilations == [twice]
        monkeypatch.setenv("BILEVEL_COMPILE", "sometimes")
        with pytest.raises(InputError, match="BILEVEL_COMPILE"):
            fused(twice)(torch.ones(2))


def test_tapes_and_tangents_run_as_written(
    compilations: list[Callable[..., Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILEVEL_COMPILE", "always")
    x = torch.ones(2, requires_grad=True)
    (slope,) = torch.autograd.grad(fused(twice)(x).sum(), x)
    assert slope.tolist() == [2.0, 2.0]
    with torch.no_grad(), forward_ad.dual_level(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        dual = forward_ad.make_dual(torch.ones(2), torch.ones(2))
        assert forward_ad.unpack_dual(fused(twice)(dual)).tangent.tolist() == [2.0, 2.0]
    assert compilations == []


def test_without_a_compiler_it_says_so_once_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: object, dynamic: bool) -> object:
        del function, dynamic
        raise RuntimeError("no compiler was found\nand a long trace")

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setenv("BILEVEL_COMPILE", "always")
    function = fused(twice)
    with torch.no_grad():
        with pytest.warns(RuntimeWarning, match=r"twice could not be .*: no compiler was found$"):
            assert function(torch.ones(2)).tolist() == [2.0, 2.0]
        assert function(torch.ones(2)).tolist() == [2.0, 2.0]

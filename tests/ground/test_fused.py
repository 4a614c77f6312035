"""Compiling where it pays, checking what the compiler made, and going on where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from bilevel.ground import fused as module
from bilevel.ground.errors import BilevelWarning, InputError
from bilevel.ground.fused import fused, repeated


def twice(x: Tensor) -> Tensor:
    return 2 * x


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Callable[..., Tensor]]:
    """Functions handed to the compiler, which here changes nothing."""
    seen: list[Callable[..., Tensor]] = []

    def compiler(
        function: Callable[..., Tensor], dynamic: bool, options: object
    ) -> Callable[..., Tensor]:
        assert dynamic
        del options
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


def test_what_is_mapped_over_runs_as_written(
    compilations: list[Callable[..., Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILEVEL_COMPILE", "always")
    function = fused(twice)
    with torch.no_grad():
        assert torch.func.vmap(function)(torch.ones(3, 2)).tolist() == [[2.0, 2.0]] * 3
        assert compilations == []
        function(torch.ones(2))
    assert compilations == [twice]


@torch.no_grad()
def test_work_that_is_known_to_come_again_is_compiled_sooner(
    compilations: list[Callable[..., Tensor]],
) -> None:
    function = fused(twice)
    function.spent = 1.0  # of the 30 s that compiling takes
    for times, expected in ((1.0, 0), (20.0, 0), (40.0, 1)):
        with repeated(times):
            assert float(function(torch.ones(()))) == 2.0
        assert len(compilations) == expected
    with pytest.raises(RuntimeError), repeated(1e9):
        raise RuntimeError
    other = fused(twice)
    other.spent = 1.0
    other(torch.ones(()))
    assert len(compilations) == 1


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
    def broken(function: object, dynamic: bool, options: object) -> object:
        del function, dynamic, options
        raise RuntimeError("no compiler was found\nand a long trace")

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setenv("BILEVEL_COMPILE", "always")
    function = fused(twice)
    with torch.no_grad():
        with pytest.warns(BilevelWarning, match=r"twice could not be .*: no compiler was found$"):
            assert function(torch.ones(2)).tolist() == [2.0, 2.0]
        assert function(torch.ones(2)).tolist() == [2.0, 2.0]


def garbled(wrong: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """A compiler that makes ``wrong`` of every function; the inputs that its code was run on."""
    seen: list[Tensor] = []

    def made(x: Tensor) -> Tensor:
        seen.append(x)
        return wrong(x)

    monkeypatch.setattr(torch, "compile", lambda function, dynamic, options: made)
    monkeypatch.setenv("BILEVEL_COMPILE", "always")
    return seen


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: torch.full_like(x, torch.nan),
        lambda x: 2.01 * x,
        lambda x: (2 * x).double(),
        lambda x: (2 * x)[:1],
        lambda x: torch.where(x == 1, torch.inf, 2 * x),
    ],
    ids=["nan", "wrong", "type", "shape", "inf"],
)
def test_code_that_differs_is_dropped_with_a_word(
    wrong: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, function, x = garbled(wrong, monkeypatch), fused(twice), torch.arange(4.0)
    with torch.no_grad():
        with pytest.warns(BilevelWarning, match="twice"):
            assert function(x).tolist() == [0.0, 2.0, 4.0, 6.0]
        assert function(x).tolist() == [0.0, 2.0, 4.0, 6.0]
    assert len(seen) == 1


@pytest.mark.parametrize(
    "late",
    [torch.ones(9), torch.ones(4).double(), torch.ones(8)[::2], torch.ones(2, 2)],
    ids=["size", "type", "stride", "dimensions"],
)
def test_every_kind_of_input_is_compared(late: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right for four contiguous single-precision numbers, which says nothing of others."""

    def known(x: Tensor) -> bool:
        return x.dtype == torch.float32 and x.shape == (4,) and x.is_contiguous()

    garbled(lambda x: 2 * x if known(x) else torch.full_like(x, torch.nan), monkeypatch)
    function = fused(twice)
    with torch.no_grad():
        for _ in range(3):
            assert function(torch.ones(4)).tolist() == [2.0] * 4
        with pytest.warns(BilevelWarning, match="twice"):
            assert torch.equal(function(late), 2 * late)


def test_rounding_infinities_and_nan_as_written_are_no_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    garbled(lambda x: 2 * x * (1 + 1e-6), monkeypatch)
    x = torch.tensor([1.0, 0.0, torch.inf, -torch.inf, torch.nan])
    function = fused(twice)
    with torch.no_grad():
        assert function(x).isnan().tolist() == [False] * 4 + [True]
        assert function(torch.zeros(0)).numel() == 0
    assert not function.failed


def test_the_reference_is_as_written_down_to_the_last_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else what a function calls, compiled wrongly, would be its own reference."""
    factor = [2.0]
    garbled(lambda x: factor[0] * x, monkeypatch)
    inner = fused(twice)

    def around(x: Tensor) -> Tensor:
        return inner(x)

    with torch.no_grad():
        assert inner(torch.ones(2)).tolist() == [2.0, 2.0]
        factor[0] = 3.0
        with pytest.warns(BilevelWarning, match="around"):
            assert fused(around)(torch.ones(2)).tolist() == [2.0, 2.0]


SCRIPT = """
import torch
from bilevel.ground.fused import fused
with torch.no_grad():
    print(float(fused(lambda x: (2 * x + 1).sqrt())(torch.ones(63)).sum()))
"""


@pytest.mark.long
def test_code_in_the_cache_is_not_taken_for_other_processors(tmp_path: Path) -> None:
    """The compiler keeps code for 16 numbers a vector, and would run it on vectors of 8."""
    for capability in ("avx512", "avx2", "default"):
        own = {
            "ATEN_CPU_CAPABILITY": capability,
            "BILEVEL_COMPILE": "always",
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        }
        command = [sys.executable, "-W", "error::RuntimeWarning", "-c", SCRIPT]
        run = subprocess.run(
            command, env=os.environ | own, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr[-2000:]
        assert float(run.stdout) == pytest.approx(63 * 3**0.5, rel=1e-5)


@pytest.mark.long
def test_more_kinds_than_the_compiler_keeps_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has code of its own; beyond 8 the compiler would leave all that follow as written."""
    monkeypatch.setenv("BILEVEL_COMPILE", "always")

    @fused
    def moved(x: Tensor) -> Tensor:
        return 2 * x + 1

    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters["stats"]
    before = counters["unique_graphs"]
    with torch.no_grad():
        for sides in range(1, 11):
            moved(torch.ones([2] * sides))
    assert counters["unique_graphs"] - before == 10

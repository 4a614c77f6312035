"""Functions of tensors that are compiled into one pass over memory once that has paid off."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any, Generic, ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bilevel.ground.checks import check_choice
from bilevel.ground.errors import BilevelWarning

__all__ = ["differentiating", "fused", "mapping", "repeated"]

_VARIABLE = "BILEVEL_COMPILE"
_MODES = ("auto", "always", "never")
_PAYS = 30.0
"""Seconds spent in a function before it is compiled, which takes about that long at worst."""

_KINDS = 64
"""Codes that a function is compiled to at most."""

_LANES = {"AVX512": 512, "AVX2": 256, "DEFAULT": 1}
"""Bits a vector, 1 for no vectors: the compiler's cache on disk does not tell them apart itself."""

_AS_WRITTEN = ContextVar("_AS_WRITTEN", default=False)
_TIMES = ContextVar("_TIMES", default=1.0)

P = ParamSpec("P")
R = TypeVar("R")


class fused(Generic[P, R]):
    """A decorator: ``torch.compile`` for a pure function of tensors, where it pays.

    Calls that record a tape or tangents, and those under ``torch.func.vmap``, run as written.
    Others do so too until 30 s were spent in the function, or are foreseen (:func:`repeated`); then
    it is compiled, for any shape.
    BILEVEL_COMPILE=always compiles at once, =never not at all.

    The first call with inputs of each kind (shapes, types, layouts, options, threads) is computed
    as written as well. Where the two differ by more than rounding, or compiling fails, a
    :class:`~bilevel.ground.errors.BilevelWarning` says so once, and the function runs as written
    from then on, that call included.

    Example:
        >>> @fused
        ... def twice(x):
        ...     return 2 * x
        >>> twice(torch.ones(2))
        tensor([2., 2.])
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self.function, self.spent = function, 0.0
        self.compiled: Callable[..., Any] | None = None
        self.compared: set[Hashable] = set()
        self.failed = False

    def __call__(self, *args: P.args, **options: P.kwargs) -> R:
        """Call the function, compiled or as written."""
        as_written = torch.compiler.is_compiling() or self.failed or _AS_WRITTEN.get()
        if as_written or differentiating():
            return self.function(*args, **options)
        if self.compiled is not None or self._pays():
            return self._call_compiled(*args, **options)
        start = time.perf_counter()
        result = self.function(*args, **options)
        self.spent += time.perf_counter() - start
        return result

    def _pays(self) -> bool:
        mode = os.environ.get(_VARIABLE, "auto")
        check_choice(mode, _MODES, _VARIABLE)
        return mode == "always" or (mode == "auto" and self.spent * _TIMES.get() > _PAYS)

    def _call_compiled(self, *args: P.args, **options: P.kwargs) -> R:
        kind = torch.get_num_threads(), _kind(args), _kind(tuple(options.items()))
        try:
            if self.compiled is not None and kind in self.compared:
                return self.compiled(*args, **options)
            with warnings.catch_warnings():  # what the compiler says of its own code
                warnings.simplefilter("ignore")
                self.compiled = self.compiled or _compiled(self.function)
                with _many_kinds():
                    result = self.compiled(*args, **options)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            self._drop(f"could not be compiled and runs as written, slower: {reason}")
            return self.function(*args, **options)
        expected = self._as_written(*args, **options)
        if not _agree(result, expected):
            self._drop("gives other values once compiled and runs as written, slower")
            return expected
        self.compared.add(kind)
        return result

    def _as_written(self, *args: P.args, **options: P.kwargs) -> R:
        """The function, and whatever it calls, as written."""
        token = _AS_WRITTEN.set(True)
        try:
            return self.function(*args, **options)
        finally:
            _AS_WRITTEN.reset(token)

    def _drop(self, why: str) -> None:
        self.failed, self.compiled = True, None
        name = getattr(self.function, "__qualname__", "a function")
        warnings.warn(f"{name} {why}", BilevelWarning, stacklevel=4)


@contextmanager
def repeated(times: float) -> Generator[None]:
    """Work like that inside will be done so many times: it is compiled as soon as that pays.

    Example:
        >>> with repeated(100):
        ...     pass  # the first of 100 images: functions are compiled after 0.3 s in them
    """
    token = _TIMES.set(times)
    try:
        yield
    finally:
        _TIMES.reset(token)


def _compiled(function: Callable[P, R]) -> Callable[P, R]:
    lanes = _LANES.get(torch.backends.cpu.get_cpu_capability())
    width: dict[str, str | int | bool | Callable[..., Any]] = {}
    if lanes is not None:
        width["cpp.simdlen"] = lanes
    return torch.compile(function, dynamic=True, options=width)


def _many_kinds() -> AbstractContextManager[None]:
    """More code for one function than the compiler's 8: types, single rows, kinds of operators."""
    config = cast(Any, import_module("torch._dynamo.config"))
    return cast(AbstractContextManager[None], config.patch(cache_size_limit=_KINDS))


def _kind(value: object) -> Hashable:
    """What the compiler may write other code for; holds no tensor and no module."""
    if isinstance(value, Tensor):
        return value.dtype, value.device, value.shape, value.stride()
    if isinstance(value, (tuple, list)):
        return tuple([_kind(v) for v in cast(Sequence[object], value)])
    if isinstance(value, torch.nn.Module):
        return type(value)
    if is_dataclass(value):
        return type(value), *[_kind(v) for v in vars(value).values()]
    return cast(Hashable, value)


def _agree(found: object, expected: object) -> bool:
    """Whether both hold the same values, up to √eps of the largest finite one of each tensor."""
    return all(_close(a, b) for a, b in zip(_leaves(found), _leaves(expected), strict=True))


def _leaves(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    else:
        for part in cast(Sequence[object], value):
            yield from _leaves(part)


def _close(found: Tensor, expected: Tensor) -> bool:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    if not expected.numel():
        return True
    share = torch.finfo(expected.dtype).eps ** 0.5
    largest = float(torch.where(expected.isfinite(), expected, 0.0).abs().max())
    return torch.allclose(found, expected, rtol=share, atol=share * largest, equal_nan=True)


def differentiating() -> bool:
    """Whether a tape or forward-mode tangents may be recorded, or ``torch.func`` is at work."""
    level = cast(int, forward_ad._current_level)  # pyright: ignore[reportPrivateUsage]
    return torch.is_grad_enabled() or level >= 0 or mapping()


def mapping() -> bool:
    """Whether ``torch.func.vmap`` or the like is at work, whose tensors no compiler knows."""
    level = cast(Any, torch._C)._functorch.maybe_current_level()  # pyright: ignore[reportPrivateUsage]
    return level is not None

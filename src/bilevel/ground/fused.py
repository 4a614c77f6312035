"""Functions of tensors that are compiled into one pass over memory once that has paid off."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, cast

import torch
from torch.autograd import forward_ad

from bilevel.ground.checks import check_choice

__all__ = ["differentiating", "fused"]

_VARIABLE = "BILEVEL_COMPILE"
_MODES = ("auto", "always", "never")
_PAYS = 30.0
"""Seconds spent in a function before it is compiled, which takes about that long at worst."""

P = ParamSpec("P")
R = TypeVar("R")


class fused(Generic[P, R]):
    """A decorator: ``torch.compile`` for a pure function of tensors, where it pays.

    Calls that record a tape or tangents run as written. Others do so too until 30 s were spent in
    the function; then it is compiled, for any shape. Where that fails, a warning says so once and
    the function stays as written. BILEVEL_COMPILE=always compiles at once, =never not at all.

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
        self.failed = False

    def __call__(self, *args: P.args, **options: P.kwargs) -> R:
        """Call the function, compiled or as written."""
        if torch.compiler.is_compiling() or self.failed or differentiating():
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
        return mode == "always" or (mode == "auto" and self.spent > _PAYS)

    def _compile(self, *args: P.args, **options: P.kwargs) -> R:
        """The first call; what the compiler says of its own code is nothing to the caller."""
        self.compiled = torch.compile(self.function, dynamic=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.compiled(*args, **options)

    def _call_compiled(self, *args: P.args, **options: P.kwargs) -> R:
        try:
            if self.compiled is None:
                return self._compile(*args, **options)
            return self.compiled(*args, **options)
        except Exception as error:
            self.failed = True
            reason = str(error).strip().partition("\n")[0]
            name = getattr(self.function, "__qualname__", "a function")
            text = f"{name} could not be compiled and runs as written, slower: {reason}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
            return self.function(*args, **options)


def differentiating() -> bool:
    """Whether a tape or forward-mode tangents may be recorded."""
    level = cast(int, forward_ad._current_level)  # pyright: ignore[reportPrivateUsage]
    return torch.is_grad_enabled() or level >= 0

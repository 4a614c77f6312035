"""Values computed from a tensor and kept until that tensor changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

import torch
from torch import Tensor

__all__ = ["Derived"]

T = TypeVar("T")

_CAPACITY = 32


class Derived:
    """A small cache of what follows from one tensor, e.g. a kernel's spectrum by image size.

    A value is forgotten when the tensor or its memory is replaced (``.to(dtype)``) or written to
    (``load_state_dict``). Shallow copies of a module share the cache; deep copies and pickles
    start with an empty one.

    Example:
        >>> derived, source = Derived(), torch.ones(2)
        >>> derived.get(source, "sum", lambda: float(source.sum()))
        2.0
        >>> _ = source.mul_(3)
        >>> derived.get(source, "sum", lambda: float(source.sum()))
        6.0
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[Tensor, Hashable, object]] = {}

    def get(self, source: Tensor, key: Hashable, compute: Callable[[], T]) -> T:
        """What ``compute()`` gave for ``key``, computed again if ``source`` has changed."""
        version = 0 if source.is_inference() else source._version  # pyright: ignore[reportPrivateUsage]
        state = version, source.data_ptr(), source.dtype
        kept = self._kept.get(key)
        if kept is not None and kept[0] is source and kept[1] == state:
            return cast(T, kept[2])
        with torch.inference_mode(False), torch.no_grad():
            value = compute()
        if len(self._kept) >= _CAPACITY:
            self._kept.clear()
        self._kept[key] = (source, state, value)
        return value

    def __deepcopy__(self, memo: object) -> Derived:
        return Derived()

    def __reduce__(self) -> tuple[type[Derived], tuple[()]]:
        return Derived, ()

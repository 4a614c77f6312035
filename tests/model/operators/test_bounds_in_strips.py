"""Bounds of a convolution take less memory than an image, and are what the whole spectrum says."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bilevel.model.operators import Convolution, spectra
from bilevel.model.operators.boundary import Boundary
from contracts.operators import dense, images

BOUNDARIES: tuple[Boundary, ...] = ("circular", "zero", "reflecting")


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that any operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in cast(tuple[Any, ...], found if isinstance(found, tuple) else (found,)):
            if isinstance(one, Tensor):
                self.bytes = max(self.bytes, one.untyped_storage().nbytes())
        return found


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("kernel", [images((9, 9))[0].float(), images((3, 5, 4))[0].float()])
def test_a_bound_needs_less_memory_than_the_image(boundary: Boundary, kernel: Tensor) -> None:
    operator, shape = Convolution(kernel, boundary), (kernel.shape[:-2].numel(), 800, 1000)
    with Largest() as largest:
        operator.gram_bounds(shape)
    assert largest.bytes <= torch.Size(shape).numel() * 4


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_several_strips_say_what_one_does(
    boundary: Boundary, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scale in (1e-6, 1.0, 1e5):
        kernel = scale * images((4, 3))[0, 0:4]
        expected = Convolution(kernel, boundary).gram_bounds((1, 9, 7))
        with monkeypatch.context() as small:
            small.setattr(spectra, "_STRIP", 50)
            found = Convolution(kernel, boundary).gram_bounds((1, 9, 7))
        norm = float(torch.linalg.matrix_norm(dense(Convolution(kernel, boundary), (1, 9, 7)), 2))
        assert found.upper >= norm**2
        assert found.lower == pytest.approx(expected.lower, rel=1e-9, abs=1e-9 * norm**2)
        assert found.upper == pytest.approx(expected.upper, rel=1e-9)

"""What is no term, no tensor or of another dtype is refused where it is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.extend import Interval, Operator


class Single(Operator):
    """Holds a float32 tensor where ``.double()`` does not reach it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(x, torch.ones(1, 1, 1, 1))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.forward(y)

    def gram_bounds(self, image_shape: tuple[int, int, int]) -> Interval:
        return Interval(1.0, 1.0)


@pytest.mark.parametrize("swapped", [False, True])
def test_terms_in_the_wrong_place_are_refused(swapped: bool) -> None:
    fidelity, ridge = bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(0.1)
    given: tuple[Any, Any] = (ridge, fidelity) if swapped else (fidelity, None)
    with pytest.raises(bl.InputError, match="of a Variational energy must be"):
        bl.Variational(*given)


def test_lists_of_images_are_refused() -> None:
    images: Any = [torch.rand(1, 8, 8), torch.rand(1, 9, 8)]
    with pytest.raises(bl.InputError, match="must be a tensor"):
        bl.data.Pairs(images, images, ("a", "b"))


def test_an_operator_that_stays_in_float32_is_named_before_the_solve() -> None:
    y = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    ridge = bl.regularisers.Tikhonov(0.1)
    energy = bl.Variational(bl.fidelities.SquaredL2(Single()), ridge).double()
    pairs = bl.data.Pairs(y, y, ("a",))
    left = bl.Variational(bl.fidelities.SquaredL2(Single()), bl.regularisers.TotalVariation())
    for use in (
        lambda: energy.at(y),
        lambda: left.double().at(y),
        lambda: bl.argmin(energy, y, tol=bl.Tolerance(rms=1e-6)),
        lambda: bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs),
    ):
        with pytest.raises(bl.InputError, match="float64"):
            use()


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_forward_mode_through_argmin_is_refused_in_words() -> None:
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(0.1))
    y = torch.ones(1, 1, 4, 4)

    def layer(y: Tensor) -> Tensor:
        return bl.argmin(energy, y, tol=bl.Tolerance(rms=1e-4))

    with pytest.raises(bl.InputError, match="reverse mode"):
        torch.func.jvp(layer, (y,), (y,))
    with pytest.raises(bl.InputError):
        torch.func.hessian(lambda y: layer(y).sum())(y)

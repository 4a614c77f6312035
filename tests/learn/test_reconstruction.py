"""A learned energy as a layer of other models, and arrays in and out."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bilevel as bl
from bilevel.ground.errors import InputError
from learn.test_problem import problem


def fit() -> bl.Fit:
    return bl.learn(problem(count=2), budget=bl.Budget(steps=2))


def test_a_layer_reconstructs_as_the_fit_does() -> None:
    found, y = fit(), problem().samples.batch(torch.tensor([0])).y
    layer = found.module()
    expected = found.reconstruct(y)
    off = (layer(y).detach() - expected.x).square().mean().sqrt()
    assert float(off) <= 2 * float(expected.certificate.rms.max())


def test_gradients_reach_what_stands_before_it_and_what_is_in_it() -> None:
    layer = fit().module(accuracy=1e-6)
    scale = nn.Parameter(torch.ones((), dtype=torch.float64))
    y = problem().samples.batch(torch.tensor([0])).y
    layer(scale * y).square().mean().backward()
    assert scale.grad is not None
    step = 1e-5
    ends = [float(layer((1 + s) * y).detach().square().mean()) for s in (step, -step)]
    assert float(scale.grad) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3)
    assert all(p.grad is not None for p in layer.energy.parameters() if p.requires_grad)


def test_its_state_is_saved_and_loaded_like_that_of_any_module() -> None:
    layer, file = fit().module(), io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = problem(weight=0.3, count=1)
    again = bl.Reconstruction(other.energy)
    again.load_state_dict(torch.load(file, weights_only=True))
    y = problem().samples.batch(torch.tensor([0])).y
    assert torch.equal(layer(y), again(y))
    assert layer.float()(y.float()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(12, 14), (1, 12, 14), (2, 1, 12, 14)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_arrays_come_back_as_they_went_in(shape: tuple[int, ...], dtype: type) -> None:
    y = (255 * np.random.default_rng(0).random(shape)).astype(dtype)
    before = y.copy()
    tv = bl.regularisers.TotalVariation(3.0)
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv)
    x = bl.reconstruct(y, energy)
    assert x.shape == shape
    assert x.dtype == (np.float32 if dtype is np.float32 else np.float64)
    assert np.array_equal(y, before)
    assert x.std() < y.std()


@pytest.mark.parametrize("y", [np.zeros(3), np.zeros((1, 1, 1, 4, 4)), np.zeros((4, 4), complex)])
def test_arrays_that_are_no_images_are_refused(y: np.ndarray) -> None:
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
    with pytest.raises(InputError, match="real array"):
        bl.reconstruct(y, energy)


def test_every_channel_of_the_image_comes_back() -> None:
    operator = bl.operators.Matrix(torch.eye(48), (3, 4, 4))
    energy = bl.Variational(bl.fidelities.SquaredL2(operator), bl.regularisers.Tikhonov(1.0))
    y = np.arange(48.0)[None]
    assert bl.reconstruct(y, energy, accuracy=1e-9) == pytest.approx(y.reshape(3, 4, 4) / 2)


def test_complex_tensors_of_an_operator_stay_complex_in_any_precision() -> None:
    class Turned(bl.operators.Operator):
        """Pairs of channels times e^{iφ}."""

        def __init__(self) -> None:
            super().__init__()
            self.phase = torch.polar(torch.ones(()), torch.tensor(0.7))

        def forward(self, x: Tensor) -> Tensor:
            return self._turned(x, self.phase)

        def adjoint(self, y: Tensor) -> Tensor:
            return self._turned(y, self.phase.conj())

        def _turned(self, x: Tensor, phase: Tensor) -> Tensor:
            z = phase * torch.complex(x[:, :1], x[:, 1:])
            return torch.cat([z.real, z.imag], 1)

        def gram_bounds(self, image_shape: tuple[int, int, int]) -> bl.operators.Interval:
            return bl.operators.Interval(1 - 1e-6, 1 + 1e-6)

    operator = Turned()
    assert operator.to(torch.float64).phase.dtype == torch.complex128
    assert operator.to(torch.float32).phase.dtype == torch.complex64
    assert copy.deepcopy(operator).double().phase.dtype == torch.complex128
    x = np.random.default_rng(0).random((2, 4, 4))
    energy = bl.Variational(bl.fidelities.SquaredL2(operator), bl.regularisers.Tikhonov(1.0))
    data = operator.to(torch.float64)(torch.from_numpy(x)[None])[0].numpy()
    assert bl.reconstruct(data, energy.to(torch.float32), accuracy=1e-6) == pytest.approx(
        x / 2, abs=1e-5
    )
    operator.adjoint = operator.forward
    assert not bl.check_adjoint(operator, (2, 4, 4)).passed

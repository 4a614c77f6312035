"""What k-space tells: where it was sampled, which convention it has, whether images are real."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bilevel.data import kspace
from bilevel.ground.errors import InputError
from bilevel.model.operators import MultiCoil


def data(phase: float = 0.0, *, centred: bool = False, side: tuple[int, int] = (12, 15)) -> Tensor:
    x = torch.rand(1, 1, *side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turned = x * torch.exp(torch.tensor(1j * phase, dtype=torch.complex128))
    operator = MultiCoil(torch.ones(side, dtype=torch.float64), centred=centred)
    return operator(torch.cat([turned.real, turned.imag], 1))


@pytest.mark.parametrize("centred", [False, True])
def test_what_is_zero_was_not_sampled(centred: bool) -> None:
    mask = torch.rand(12, 15, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[0, 0] = mask[6, 7] = True
    y = mask * data(0.4, centred=centred)
    assert torch.equal(kspace.sampled(y, centred=centred), mask)
    with pytest.raises(InputError, match=f"set centred = {'true' if centred else 'false'}"):
        kspace.sampled(y, centred=not centred)


def test_rows_sampled_elsewhere_are_refused() -> None:
    y = data().repeat(3, 1, 1, 1)
    y[1, :, :, 4] = 0
    with pytest.raises(InputError, match="data number 2"):
        kspace.sampled(y, centred=False)
    with pytest.raises(InputError, match="0 everywhere"):
        kspace.sampled(torch.zeros(1, 2, 4, 4), centred=False)
    with pytest.raises(InputError, match="complex"):
        kspace.sampled(torch.ones(1, 1, 4, 4), centred=False)


def test_only_a_phase_contradicts_real_images() -> None:
    assert kspace.contradiction(data()) < 1e-20
    for phase in (0.1, 0.5, 1.5):  # |1 - e^{2iφ}|² of all energy
        expected = 4 * torch.sin(torch.tensor(phase)).square()
        assert kspace.contradiction(data(phase)) == pytest.approx(float(expected), rel=1e-4)
    half = data(0.5)
    half[..., 3:] = 0
    assert kspace.contradiction(half) > 0.2
    noise = torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    assert kspace.contradiction(noise) == pytest.approx(2, abs=0.1)


def test_lines_of_zeros_make_complex_data_suspect() -> None:
    y = data()
    assert not kspace.suspected(y)
    y[..., 3:6] = 0
    assert kspace.suspected(y)
    assert not kspace.suspected(y[:, :1])

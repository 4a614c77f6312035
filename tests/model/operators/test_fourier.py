from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bilevel.ground.errors import InputError
from bilevel.model.operators import FourierMask
from contracts.operators import Case, OperatorContract, images

EVEN, ODD = images((1, 6, 4))[0, 0], images((1, 5, 7))[0, 0]


class TestFourierMask(OperatorContract):
    cases = (
        Case("lines", lambda: FourierMask.lines((4, 8), 2, 0.25, seed=1), (1, 4, 8), exact=True),
        Case("odd, colour", lambda: FourierMask(ODD > 0), (2, 5, 7), exact=True),
        Case("weights", lambda: FourierMask(EVEN), (1, 6, 4), exact=True),
        Case("full", lambda: FourierMask(torch.ones(3, 4)), (1, 3, 4), exact=True),
    )


def test_is_the_masked_dft() -> None:
    x = images((2, 5, 7))
    h, w = (np.exp(-2j * np.pi * np.outer(range(n), range(n)) / n) / n**0.5 for n in (5, 7))
    z = ODD.numpy() * (h @ x.numpy() @ w)
    y = FourierMask(ODD)(x).numpy()
    np.testing.assert_allclose(y, np.concatenate([z.real, z.imag], axis=1), atol=1e-13)


@given(
    width=st.integers(4, 300),
    acceleration=st.floats(1, 4),
    centre=st.floats(0, 0.2),
    seed=st.integers(0, 9),
)
def test_lines(width: int, acceleration: float, centre: float, seed: int) -> None:
    mask = FourierMask.lines((3, width), acceleration, centre, seed).mask
    assert torch.equal(mask, mask[:1].expand_as(mask))
    assert int(mask[0].sum()) == round(width / acceleration)
    frequencies = np.argsort(np.abs(np.fft.fftfreq(width)), kind="stable")
    assert bool(mask[0, frequencies[: round(width * centre)]].all())
    assert torch.equal(mask, FourierMask.lines((3, width), acceleration, centre, seed).mask)


def test_lines_depend_on_the_seed() -> None:
    first, second = (FourierMask.lines((2, 64), 4, 0.1, seed).mask for seed in (0, 1))
    assert not torch.equal(first, second)


def test_lines_cover_all_frequencies_over_seeds() -> None:
    total = sum(FourierMask.lines((1, 16), 4, 0.1, seed).mask[0] for seed in range(60))
    assert bool((torch.as_tensor(total) > 0).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"acceleration": 0.5}, "acceleration must be a finite number >= 1, but got 0.5"),
        ({"acceleration": float("nan")}, "acceleration"),
        ({"acceleration": 100.0, "centre_fraction": 0.0}, "keeps 0 of 16 lines"),
        ({"acceleration": 4.0, "centre_fraction": 0.5}, "centre of 8; lower"),
        ({"centre_fraction": 1.5}, "centre_fraction must lie in"),
    ],
)
def test_bad_lines(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FourierMask.lines((16, 16), **options)


def test_bad_shapes() -> None:
    operator = FourierMask(torch.ones(4, 6))
    with pytest.raises(InputError, match=r"\(4, 6\) does not fit the image, but got \(1, 6, 4\)"):
        operator(torch.ones(1, 1, 6, 4))
    with pytest.raises(InputError, match="even number of channels"):
        operator.adjoint(torch.ones(1, 3, 4, 6))
    with pytest.raises(InputError, match="2 dimensions"):
        FourierMask(torch.ones(1, 4, 6))

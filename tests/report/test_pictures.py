from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import bilevel as bl
from bilevel.report.directions import direction_fields
from bilevel.report.pictures import error, filters, picture, shown, weight_map


def decoded(uri: str) -> np.ndarray:
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_grey_and_colour_come_back() -> None:
    levels = torch.arange(256.0).reshape(1, 16, 16) / 255
    assert np.array_equal(decoded(picture(levels)), np.arange(256).reshape(16, 16))
    colour = torch.stack([levels[0], 1 - levels[0], 0 * levels[0]])
    assert np.array_equal(decoded(picture(colour))[..., 1], 255 - np.arange(256).reshape(16, 16))


def test_grey_values_are_clipped() -> None:
    assert decoded(picture(torch.tensor([[[-1.0, 2.0]]]))).tolist() == [[0, 255]]


def test_other_channels_are_shown_as_their_size() -> None:
    x = torch.tensor([0.6, 0.8])[:, None, None].expand(2, 3, 3)
    assert (decoded(picture(x)) == 255).all()


@pytest.mark.parametrize("x", [torch.zeros(4, 4), torch.zeros(1, 1, 4, 4), torch.zeros(1, 0, 4)])
def test_bad_picture(x: Tensor) -> None:
    with pytest.raises(bl.InputError, match="a picture must have shape"):
        picture(x)


def test_errors_are_dark_where_there_are_none() -> None:
    target = torch.zeros(3, 1, 3)
    x = torch.tensor([0.0, 0.5, 9.0]).expand(3, 1, 3)
    brightness = decoded(error(x, target, 1.0)).astype(float).sum(-1)[0]
    assert brightness[0] < 10
    assert brightness[0] < brightness[1] < brightness[2]
    with pytest.raises(bl.InputError, match="scale of errors"):
        error(x, target, 0.0)


def test_large_images_are_cut_and_small_ones_are_not() -> None:
    x = torch.rand(2, 1, 9, 5)
    assert torch.equal(shown(x, 9), x)
    assert torch.equal(shown(x, 7), x[:, :, 1:8])


def test_filters_come_sorted_with_their_weights() -> None:
    bank = bl.regularisers.dct_filters(3)
    weights = torch.linspace(0.1, 0.8, 8)
    found = filters(bl.regularisers.FieldsOfExperts(bank, weights, potential="huber"))
    assert [f.weight for f in found] == pytest.approx(weights.flip(0).tolist())
    strongest = decoded(found[0].uri).astype(float) / 255
    kernel = bank[-1, 0] / bank[-1].abs().max()
    assert strongest == pytest.approx((0.5 + 0.5 * kernel).numpy(), abs=1 / 255)


@pytest.mark.parametrize(("channels", "shape"), [(3, (5, 5, 3)), (2, (5, 10))])
def test_filters_of_several_channels(channels: int, shape: tuple[int, ...]) -> None:
    bank = torch.randn(2, channels, 5, 5)
    found = filters(bl.regularisers.FieldsOfExperts(bank, potential="huber"))
    assert decoded(found[0].uri).shape == shape


def test_weight_map() -> None:
    weights = torch.full((4, 6), 0.01)
    weights[2, 3] = 1.0
    found = weight_map(bl.regularisers.TotalVariation(weights))
    assert found is not None
    assert (found.bar.low, found.bar.high) == pytest.approx((0.01, 1.0))
    pixels, bar = decoded(found.uri), decoded(found.bar.uri)
    assert pixels.shape == (4, 6, 3)
    assert (pixels[2, 3] == bar[0, -1]).all()
    assert (pixels[0, 0] == bar[0, 0]).all()


def test_a_flat_map_and_no_map() -> None:
    assert weight_map(bl.regularisers.TotalVariation(torch.full((4, 4), 0.1))) is not None
    assert weight_map(bl.regularisers.TotalVariation(0.1)) is None


def test_fields_of_a_directional_total_variation() -> None:
    angle = torch.tensor([[0.0, 90.0, 0.0], [90.0, 45.0, 45.0]])
    anisotropy = torch.tensor([[50.0, 50.0, 1.0], [50.0, 50.0, 50.0]])
    term = bl.regularisers.DirectionalTV(0.1, 0.01, 0.3 + 0.2 * torch.rand(2, 3), angle, anisotropy)
    directions, exponents = direction_fields(term)
    pixels = decoded(directions.uri)
    assert pixels.shape == (2, 3, 3) and (pixels[0, 1] == pixels[1, 0]).all()
    assert len({tuple(p) for p in pixels.reshape(-1, 3)}) == 4
    assert pixels[0, 2].min() == pixels[0, 2].max()
    assert 0.3 <= exponents.bar.low < exponents.bar.high <= 0.5
    grid = bl.regularisers.DirectionalTV(0.1, angle=angle, anisotropy=anisotropy, grid=(2, 3))
    assert [decoded(field.uri).shape for field in direction_fields(grid)] == [(32, 48, 3)] * 3
    assert direction_fields(bl.regularisers.DirectionalTV(0.1)) == ()


def test_a_grid_of_weights_is_not_called_one_a_pixel() -> None:
    tv = bl.regularisers.TotalVariation(torch.tensor([[0.1, 0.2, 0.3]]), 0.1, grid=(1, 3))
    found = weight_map(tv)
    assert found is not None
    assert found.what == "weights between 1 × 3 knots"

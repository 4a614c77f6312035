from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.select import directional_maps
from bilevel.select.directional import Gradients


def drawn(p: float, angle: float, anisotropy: float, size: int, seed: int = 0) -> Gradients:
    """Independent gradients of a generalised Gaussian with e₁ = 1: u^(p/2)/2 ~ Γ(2/p, 1)."""
    rng = generator(seed, "gradients", str(p))
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**31, (), generator=rng)))
        shape = torch.full((1, 1, size, size), 2 / p, dtype=torch.float64)
        u = (2 * torch.distributions.Gamma(shape, torch.ones_like(shape)).sample()) ** (2 / p)
    turn = 2 * math.pi * torch.rand(shape.shape, generator=rng, dtype=torch.float64)
    x, y = u.sqrt() * turn.cos() / anisotropy**0.5, u.sqrt() * turn.sin()
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return Gradients(c * x - s * y, s * x + c * y, 0.05)


def apart(field: Tensor, window: int) -> Tensor:
    """At the centres of windows that do not overlap."""
    return field[0, window // 2 :: window, window // 2 :: window]


@pytest.mark.parametrize(("p", "wide", "most"), [(0.7, 0.75, 0.71), (1.5, 1.61, 1.50)])
def test_exponents_and_angles_of_known_gradients(p: float, wide: float, most: float) -> None:
    """Within the deviations known from exact window sums: of 121 and of 441 gradients."""
    field = drawn(p, 25.0, 10.0, 168)
    few, many = (field.maps((k, k), (0.3, 2.0), 0.0, 15) for k in (11, 21))
    deviation = {0.7: (0.10, 0.06), 1.5: (0.30, 0.12)}[p]
    for found, side, mean, spread, degrees in (
        (few, 11, wide, deviation[0], 2.5),
        (many, 21, most, deviation[1], 1.5),
    ):
        exponents = apart(found.exponent, side)
        assert float((exponents.mean() - mean).abs()) < spread
        assert float(exponents.std()) < 1.5 * spread
        assert float((apart(found.angle, side) - 25.0).std()) < degrees
        assert float((apart(found.angle, side) - 25.0).mean().abs()) < degrees
    anisotropy, size = apart(many.anisotropy, 21), apart(many.size, 21)
    assert float(anisotropy.log().mean().exp()) == pytest.approx(10.0, rel=0.1)
    assert float(size.log().mean().exp()) == pytest.approx(10.0**-0.25, rel=0.15)


def test_few_gradients_find_larger_exponents() -> None:
    exponents = apart(drawn(1.0, 0.0, 10.0, 147).maps((7, 7), (0.3, 2.0), 0.0, 15).exponent, 7)
    assert float(exponents.mean()) == pytest.approx(1.19, abs=0.37)
    assert float(exponents.std()) < 1.5 * 0.37


def test_noise_has_no_direction_and_is_subtracted() -> None:
    noise = 0.1 * torch.randn(1, 1, 96, 96, generator=generator(1, "noise"), dtype=torch.float64)
    maps = directional_maps(noise, window=41, wide=41, passes=8)
    assert float(maps.anisotropy.median()) < 1.2
    angles = torch.arange(96.0, dtype=torch.float64)
    stripes = 0.4 * (0.4 * (angles[:, None] + angles)).sin()[None, None]
    clean, told = directional_maps(stripes), directional_maps(stripes + noise, sigma=0.1)
    untold = directional_maps(stripes + noise)
    inner = (slice(None), slice(20, 76), slice(20, 76))
    assert float((clean.angle[inner] + 45).abs().max()) < 0.1
    assert float((told.angle[inner] + 45).abs().mean()) < 2
    assert float(told.anisotropy[inner].median()) > 2 * float(untold.anisotropy[inner].median())


@pytest.mark.parametrize("scale", [1e-6, 255.0, 65535.0])
def test_maps_are_those_of_any_unit(scale: float) -> None:
    image = bl.data.embedded_image("brick")[..., :48, :48].double()
    usual, other = directional_maps(image, passes=8), directional_maps(scale * image, passes=8)
    torch.testing.assert_close(other.angle, usual.angle, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(other.anisotropy, usual.anisotropy)
    torch.testing.assert_close(other.exponent, usual.exponent)
    torch.testing.assert_close(other.size, scale * usual.size)


def test_rows_are_images_by_themselves_and_flat_ones_have_no_direction() -> None:
    images = torch.stack([bl.data.embedded_image(n)[0, :, :40, :40] for n in ("brick", "cell")])
    images[1] = 0.5
    both = directional_maps(images, passes=5)
    torch.testing.assert_close(directional_maps(images[:1], passes=5).angle, both.angle[:1])
    assert bool((both.anisotropy[1] == 1).all())
    assert bool(both.exponent.isfinite().all()) and bool((both.size > 0).all())


def test_the_regulariser_is_the_likelihood_of_its_maps() -> None:
    """½ Σ (gᵀΣ⁻¹g)^(p/2) up to a factor, where the smoothing is small."""
    image = bl.data.embedded_image("grass")[..., :32, :32].double()
    maps = directional_maps(image, wide=31)
    term = maps.regulariser(1e-9).double()
    x = torch.rand(1, 1, 32, 32, dtype=torch.float64, generator=generator(0, "x"))
    down, right = bl.operators.Differences()(x)[0]
    turn = torch.deg2rad(maps.angle[0])
    along, across = right * turn.cos() + down * turn.sin(), down * turn.cos() - right * turn.sin()
    root = maps.anisotropy[0].sqrt()
    square = (along.square() * root + across.square() / root) / maps.size[0].square()
    expected = square.pow(maps.exponent[0] / 2)
    other = torch.rand_like(x)
    weight = term(x).item() / float(expected.sum())
    down, right = bl.operators.Differences()(other)[0]
    along, across = right * turn.cos() + down * turn.sin(), down * turn.cos() - right * turn.sin()
    square = (along.square() * root + across.square() / root) / maps.size[0].square()
    again = weight * float(square.pow(maps.exponent[0] / 2).sum())
    assert term(other).item() == pytest.approx(again, rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_gradients_below_the_smoothing_do_not_make_weights(scale: float) -> None:
    """At p = 2 Σ is the covariance: flat places weigh as if their gradients were ε, in any unit."""
    image = scale * bl.data.embedded_image("brick")[..., :40, :40].double()
    image[..., 20:] = image[..., 20:].mean()
    maps = directional_maps(image, exponents=(2.0, 2.0), passes=5)
    smoothing = 0.01 * maps.contrast
    term = maps.regulariser()
    log = term.log_weight.detach().double() + (maps.size[0].square() + smoothing**2).log()
    assert float(maps.size[0, :, 32:].max()) < 0.5 * smoothing < float(maps.size.max()) / 2
    assert float(log.max() - log.min()) < 1e-5
    assert term.log_smoothing.exp().item() == pytest.approx(smoothing)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 10}, "odd number"),
        ({"window": 1}, "odd number"),
        ({"wide": 35}, "must not exceed the image of 33x40 pixels"),
        ({"exponents": (0.1, 2.0)}, "exponents must grow within"),
        ({"exponents": (1.5, 1.0)}, "exponents must grow within"),
        ({"sigma": -1.0}, "not negative"),
        ({"passes": 0}, "at least 1"),
    ],
)
def test_bad_options_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        directional_maps(torch.rand(1, 1, 33, 40), **options)  # type: ignore[arg-type]

"""The pictures that ship with the package are all there and are what they say."""

from __future__ import annotations

import pytest
import torch

from bilevel.data import embedded_image, embedded_images, embedded_names
from bilevel.ground.errors import InputError

# Size and mean of the 8-bit grey (or red, green, blue) pixels of the original files.
FACTS = {
    "astronaut": ((3, 512, 512), 114.599),
    "brick": ((1, 512, 512), 111.4554),
    "camera": ((1, 512, 512), 129.0607),
    "cell": ((1, 660, 550), 67.9607),
    "chelsea": ((3, 300, 451), 115.3051),
    "coffee": ((3, 400, 600), 98.616),
    "grass": ((1, 512, 512), 118.2237),
    "gravel": ((1, 512, 512), 126.545),
}


def test_names() -> None:
    assert embedded_names() == tuple(FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_sizes_and_means(name: str) -> None:
    (c, h, w), mean = FACTS[name]
    x = embedded_image(name, grey=False)
    assert x.shape == (1, 3, h, w)
    assert float(x[:, :c].mean()) * 255 == pytest.approx(mean, abs=1e-3)
    assert embedded_image(name).shape == (1, 1, h, w)


def test_all_at_once_are_the_centres() -> None:
    x = embedded_images()
    assert x.shape == (8, 1, 300, 300)
    assert bool((x[2] == embedded_image("camera")[0, :, 106:406, 106:406]).all())
    assert bool((embedded_images(64) == x[:, :, 118:182, 118:182]).all())
    assert embedded_images(16, grey=False).shape == (8, 3, 16, 16)
    assert x.dtype == torch.float32


def test_bad_input() -> None:
    with pytest.raises(InputError, match="did you mean 'camera'"):
        embedded_image("camrea")
    with pytest.raises(InputError, match="smaller than the crop"):
        embedded_images(301)

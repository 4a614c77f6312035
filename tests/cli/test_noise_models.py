"""Noise of the literature and the fidelities that fit it, from a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

import bilevel as bl
from bilevel.cli.config import parse
from bilevel.cli.settings.base import Unfit
from bilevel.ground.errors import InputError
from cli.tiny import CONFIGURATION

NOISE = 'name = "gaussian"\nsigma = "10/255"\n'
assert NOISE in CONFIGURATION

TABLES = [
    (
        'name = "impulse"\nshare = 0.1\nsigma = 0.05\n',
        'name = "gaussian-impulse"\nlearn = ["gaussian", "impulse"]\n',
    ),
    ('name = "impulse"\nshare = 0.1\nvalues = "random-valued"\n', 'name = "smoothed-l1"\n'),
    ('name = "student-t"\nsigma = 0.05\n', 'name = "student-t"\nlearn = ["scale"]\n'),
    ('name = "rician"\nsigma = 0.05\n', 'name = "rician"\nsigma = 0.05\n'),
    ('name = "speckle"\nlooks = 5.0\nbackground = 0.1\n', 'name = "speckle"\nbackground = 0.1\n'),
    (
        'name = "poisson-gaussian"\ngain = 0.03\nread_noise = 0.05\n',
        'name = "anscombe"\ngain = 0.03\nread_noise = 0.1\n',
    ),
]


@pytest.mark.parametrize(("noise", "fidelity"), TABLES)
def test_data_are_drawn_and_explained(noise: str, fidelity: str) -> None:
    text = CONFIGURATION.replace(NOISE, f"{noise}\n[fidelity]\n{fidelity}")
    configuration = parse(text, Path("some.toml")).configuration
    shape = (1, 16, 16)
    images = bl.data.embedded_images(size=16)[:2]
    drawn = configuration.drawn(shape)
    pairs = bl.data.simulate(images, configuration.forward(shape), drawn)
    objective = configuration.energy(shape).at(pairs.y)
    tol = bl.Tolerance(residual=1e-3)
    found = bl.minimise(objective, bl.solvers.LBFGS(), tol=tol, max_steps=20)
    assert bool((objective.value(found.x) < objective.value(objective.start())).all())


def test_magnitudes_are_not_drawn_of_fourier_data() -> None:
    text = CONFIGURATION.replace(NOISE, 'name = "rician"\nsigma = 0.1\n')
    text = text.replace('name = "gaussian-blur"\nsize = 3\nsigma = 0.7', 'name = "fourier-mask"')
    with pytest.raises((InputError, Unfit), match="such noise needs data that are not negative"):
        parse(text, Path("some.toml"))

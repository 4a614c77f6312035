"""Magnetic resonance from a configuration: complex images, coils, masks drawn, read and learned."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

import bilevel as bl
from bilevel.cli.config import parse
from bilevel.cli.images import Batch
from bilevel.cli.learning import RELAXED
from bilevel.cli.reconstruction import simulated
from bilevel.model.fidelities import SampledL2
from cli.tiny import Run

CONFIGURATION = """\
[data]
images = "slices"
complex = true
count = 2
held_out = 1

[operator]
name = "multi-coil"
acceleration = 2
centre_fraction = 0.25
coils = 3

[noise]
name = "gaussian"
sigma = 0.02

[regulariser]
name = "total-variation"
weight = 0.01
smoothing = 0.05

[ridge]
weight = 0.01

[budget]
steps = 2
"""
SIZE = (16, 20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three slices with smooth phases, two single precision files and one double."""
    slices = tmp_path / "slices"
    slices.mkdir()
    y, x = np.mgrid[-1 : 1 : SIZE[0] * 1j, -1 : 1 : SIZE[1] * 1j]
    for k, dtype in enumerate((np.complex64, np.complex64, np.complex128)):
        size = (np.hypot(x, y) < 0.8) * (0.5 + 0.4 * (x > 0.1 * k))
        np.save(slices / f"{k}.npy", (size * np.exp(1j * (x + k * y))).astype(dtype))
    return tmp_path


def written(folder: Path, *changes: tuple[str, str]) -> Path:
    text = CONFIGURATION
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "mri.toml"
    path.write_text(text)
    return path


EXPERTS = ('name = "total-variation"', 'name = "fields-of-experts"\nsize = 3\ncount = 3')


@pytest.mark.parametrize(
    ("regulariser", "maps"),
    [("total-variation", "birdcage"), ("fields-of-experts", "estimated")],
)
def test_complex_images_are_learned_from_evaluated_and_written(
    regulariser: str, maps: str, run: Run, folder: Path
) -> None:
    changes = [] if regulariser == "total-variation" else [EXPERTS]
    more = ("coils = 3", f'coils = 3\nsensitivities = "{maps}"')
    found = run("learn", written(folder, more, *changes), "--out", folder / "fit")
    assert found.code == found.owed, found.err
    fit = bl.load(folder / "fit")
    assert fit.energy.regulariser.parts[0].coupled
    out = run("evaluate", folder / "fit", "--images", folder / "slices")
    assert out.code == out.owed, out.err
    args = ("reconstruct", folder / "fit", folder / "slices/0.npy", folder / "slices/2.npy")
    out = run(*args, "--simulate", "--out", folder / "out")
    assert out.code == out.owed, out.err
    for name, dtype in (("0", np.complex64), ("2", np.complex128)):
        z, truth = np.load(folder / f"out/{name}.npy"), np.load(folder / f"slices/{name}.npy")
        before = np.load(folder / f"out/{name}-before.npy")
        assert z.shape == SIZE and z.dtype == dtype
        size = [np.abs(np.abs(w) - np.abs(truth)).mean() for w in (z, before)]
        assert size[0] < size[1]


def test_estimated_sensitivities_lose_little_against_the_true_ones(folder: Path) -> None:
    errors: dict[str, float] = {}
    z = [torch.from_numpy(np.load(p)) for p in sorted((folder / "slices").glob("*.npy"))]
    x = torch.stack([torch.stack([w.real, w.imag]).float() for w in z])
    for maps in ("birdcage", "estimated"):
        path = written(folder, ("coils = 3", f'coils = 3\nsensitivities = "{maps}"'))
        configuration = parse(path.read_text(), path).configuration
        pairs = simulated(configuration, Batch(("a", "b", "c"), x))
        energy = configuration.energy((2, *SIZE))
        energy.fidelity.operator = configuration.assumed((2, *SIZE), pairs.y)
        found = bl.minimise(
            energy.at(pairs.y), bl.solvers.LBFGS(), tol=bl.Tolerance(rms=1e-3)
        ).require()
        errors[maps] = float((found.x - pairs.target).square().mean().sqrt())
        size = pairs.target.square().sum(1).sqrt()
        torch.testing.assert_close(size, x.square().sum(1).sqrt(), rtol=0.1, atol=0.05)
    assert errors["estimated"] < 2 * errors["birdcage"]


def test_masks_and_sensitivities_come_from_files(folder: Path) -> None:
    seen = torch.rand(SIZE, generator=torch.Generator().manual_seed(0)) < 0.5
    bl.data.save_image(folder / "mask.png", seen.float()[None])
    maps = torch.randn(5, *SIZE, dtype=torch.complex64)
    np.save(folder / "maps.npy", maps.numpy())
    drawn = "acceleration = 2\ncentre_fraction = 0.25\ncoils = 3"
    for centred in (False, True):
        files = f'mask = "mask.png"\nsensitivities = "maps.npy"\ncentred = {str(centred).lower()}'
        path = written(folder, (drawn, files))
        operator = parse(path.read_text(), path).configuration.forward((2, *SIZE))
        assert isinstance(operator, bl.operators.MultiCoil)
        expected = seen if centred else torch.fft.ifftshift(seen)
        assert torch.equal(operator.mask.bool(), expected)
        assert torch.equal(operator.sensitivities, maps)


def test_what_is_learned_with_files_is_loaded_and_used(run: Run, folder: Path) -> None:
    bl.data.save_image(folder / "mask.png", (torch.rand(1, *SIZE) < 0.7).float())
    np.save(folder / "maps.npy", bl.data.birdcage(SIZE, 5).numpy())
    drawn = "acceleration = 2\ncentre_fraction = 0.25\ncoils = 3"
    path = written(folder, (drawn, 'mask = "mask.png"\nsensitivities = "maps.npy"'))
    found = run("learn", path, "--out", folder / "fit")
    assert found.code == found.owed, found.err
    found = run("evaluate", folder / "fit", "--images", folder / "slices")
    assert found.code == found.owed, found.err


def test_points_are_chosen_within_the_budget_around_the_centre(folder: Path) -> None:
    for centred in ("false", "true"):
        text = f'coils = 3\nlearn = ["mask"]\nby = "points"\ncentred = {centred}'
        path = written(folder, ("coils = 3", text))
        energy = parse(path.read_text(), path).configuration.energy((2, *SIZE))
        term = cast(SampledL2, energy.fidelity)
        assert term.budget == SIZE[0] * SIZE[1] / 2
        assert int(term.kept.sum()) == 8 * 10
        middle = term.operator.arranged(term.kept.float())[5:13, 6:16]  # lines -3 to 4 and -4 to 5
        assert bool(middle.all())


def test_a_mask_is_learned_made_binary_and_the_rest_learned_anew(run: Run, folder: Path) -> None:
    learned = ("coils = 3", 'coils = 3\nlearn = ["mask"]')
    path = written(folder, learned)
    found = run("learn", path, "--out", folder / "fit")
    assert found.code == found.owed, found.err
    relaxed, fit = bl.load(folder / "fit" / RELAXED), bl.load(folder / "fit")
    before, after = (cast(SampledL2, f.energy.fidelity) for f in (relaxed, fit))
    whole = SIZE[1]
    for fidelity in (before, after):
        assert float(fidelity.mask.detach().sum()) == pytest.approx(whole / 2, abs=1e-3)
    assert bool(((after.mask == 0) | (after.mask == 1)).all())
    assert not torch.equal(before.mask, after.mask)
    assert "fidelity.sampling" in relaxed.theta and "fidelity.sampling" not in fit.theta
    assert len(fit.history) > 1
    page = (folder / "fit" / "report.html").read_text()
    assert f"of {whole} lines (50 %)" in page and 'alt="sampling mask"' in page
    out = run("evaluate", folder / "fit", "--images", folder / "slices")
    assert out.code == out.owed, out.err
    again = run("learn", path, "--out", folder / "fit", "--resume")
    assert again.code == again.owed, again.err
    assert torch.equal(cast(SampledL2, bl.load(folder / "fit").energy.fidelity).mask, after.mask)


def test_a_mask_of_real_images_is_learned(run: Run, tmp_path: Path) -> None:
    operator = (
        '[operator]\nname = "fourier-mask"\nacceleration = 2\ncentre_fraction = 0.2\n'
        'learn = ["mask"]\nbinarise = false\n'
    )
    start, end = CONFIGURATION.index("[operator]"), CONFIGURATION.index("[noise]")
    data = '[data]\nimages = "embedded"\nsize = 16\ncount = 2\n\n'
    path = tmp_path / "one.toml"
    path.write_text(data + operator + CONFIGURATION[end:])
    del start
    found = run("learn", path, "--out", tmp_path / "fit")
    assert found.code == found.owed, found.err
    fit = bl.load(tmp_path / "fit")
    assert float(fit.theta["fidelity.sampling"].sum()) == pytest.approx(8 - 3, abs=1e-4)
    assert not (tmp_path / "fit" / RELAXED).exists()


FULL = "acceleration = 2\ncentre_fraction = 0.25\ncoils = 3"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([("complex = true\n", "")], "set complex = true"),
        ([('"slices"', '"embedded"')], "the pictures in the package are real"),
        ([("complex = true", "complex = true\ngrey = false")], "no colours"),
        ([("coils = 3", 'coils = 1\nsensitivities = "estimated"')], "single coil"),
        ([("coils = 3", 'sensitivities = "none.npy"')], "cannot read the array none.npy"),
        ([("coils = 3", 'sensitivities = "real.npy"')], "must hold complex numbers"),
        ([("coils = 3", 'coils = 3\nsensitivities = "maps.npy"')], "leave coils out"),
        ([(FULL, 'mask = "mask.png"\nseed = 1')], "drawn or learned"),
        ([(FULL, 'mask = "mask.png"\nlearn = ["mask"]')], "drawn or learned"),
        ([("coils = 3", 'by = "points"')], "only a learned mask"),
        ([("coils = 3", 'learn = ["mask"]\n[fidelity]\nname = "l1"')], "squared-l2"),
        (
            [("coils = 3", 'learn = ["mask"]'), ("weight = 0.01\nsm", "learn = []\nsm")],
            "nothing to learn anew",
        ),
        ([("0.25", "0.7"), ("coils = 3", 'learn = ["mask"]')], "acceleration"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    changes: list[tuple[str, str]], says: str, run: Run, folder: Path
) -> None:
    np.save(folder / "real.npy", np.ones((2, *SIZE)))
    np.save(folder / "maps.npy", np.ones((2, *SIZE), complex))
    bl.data.save_image(folder / "mask.png", torch.ones(1, *SIZE))
    assert says in run("check", written(folder, *changes)).refused()


def test_files_that_are_not_complex_are_refused_where_they_should_be(
    run: Run, folder: Path
) -> None:
    path = written(folder, ("count = 2", "count = 3"))
    np.save(folder / "slices/real.npy", np.ones(SIZE))
    assert "real.npy holds a real image" in run("check", path).refused()
    np.save(folder / "slices/real.npy", np.full(SIZE, np.nan + 0j))
    assert "real.npy" in run("check", path).refused()
    (folder / "slices/real.npy").write_text("no array")
    assert "cannot read" in run("check", path).refused()


def test_complex_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for dtype in (np.complex64, np.complex128):
        for shape, layout in (((4, 5), None), ((3, 4, 5), "stack")):
            values = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
            np.save(tmp_path / "a.npy", values)
            file = bl.data.load_file(tmp_path / "a.npy", layout=layout)
            assert all(page.shape == (1, 2, 4, 5) for page in file.pages)
            pages = [page[0] for page in file.pages]
            path, _ = bl.data.save_results(tmp_path / "b", pages, file.storage)
            found = np.load(path)
            assert found.dtype == dtype and np.array_equal(found, values)

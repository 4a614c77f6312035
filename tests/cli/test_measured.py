"""Measured data from a configuration: pairs, data alone, complex data, pixels without data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import bilevel as bl
from bilevel.cli.config import read
from bilevel.learn import load
from cli.tiny import Run

PAIRS = """\
[data]
measured = "noisy"
target = "sharp"

[operator]
name = "identity"

[regulariser]
name = "total-variation"
smoothing = 0.05

[ridge]
weight = 0.01

[budget]
steps = 2
"""


def picture(side: int, seed: int = 0) -> np.ndarray:
    """Squares on a ramp."""
    x = np.linspace(0.1, 0.4, side)[None] + np.zeros((side, 1))
    rng = np.random.default_rng(seed)
    for _ in range(4):
        top, left = rng.integers(0, side - side // 3, 2)
        x[top : top + side // 3, left : left + side // 3] = rng.random()
    return x


def noisy(x: np.ndarray, sigma: float = 0.1, seed: int = 1) -> np.ndarray:
    return x + sigma * np.random.default_rng(seed).normal(size=x.shape)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A configuration beside its measurements."""
    for kind in ("noisy", "sharp"):
        (tmp_path / kind).mkdir()
    for k, name in enumerate("abc"):
        x = picture(16, k)
        np.save(tmp_path / "noisy" / f"{name}.npy", noisy(x, seed=k))
        np.save(tmp_path / "sharp" / f"{name}.npy", x)
    (tmp_path / "one.toml").write_text(PAIRS)
    return tmp_path / "one.toml"


def replaced(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_pairs_are_learned_from_evaluated_and_used(run: Run, pairs: Path, tmp_path: Path) -> None:
    replaced(pairs, 'target = "sharp"', 'target = "sharp/*.npy"\nheld_out = 1')
    outcome = run("learn", pairs, "--out", tmp_path / "fit")
    assert outcome.code == outcome.owed, outcome
    assert "2 measured pairs of 16x16" in outcome.err
    fit = load(tmp_path / "fit")
    assert fit.history[-1].value < fit.history[0].value
    outcome = run(
        *("evaluate", tmp_path / "fit", "--measured", tmp_path / "noisy"),
        *("--target", tmp_path / "sharp"),
    )
    assert outcome.code == outcome.owed, outcome
    rows = (tmp_path / "fit" / "evaluation-noisy" / "evaluation.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["image", "a.npy", "b.npy", "c.npy", "mean"]
    x, y = picture(16, 0), np.load(tmp_path / "noisy" / "a.npy")
    before = float(rows[1].split(",")[1])
    assert before == pytest.approx(10 * np.log10(1 / np.mean((x - y) ** 2)), abs=1e-3)
    outcome = run("reconstruct", tmp_path / "fit", tmp_path / "noisy/a.npy", "--out", tmp_path)
    assert outcome.code == 0
    assert np.mean((np.load(tmp_path / "a.npy") - x) ** 2) < np.mean((y - x) ** 2)
    for arguments in (
        ("reconstruct", tmp_path / "fit", tmp_path / "sharp/a.npy", "--simulate", "--out", "o"),
        ("evaluate", tmp_path / "fit", "--images", tmp_path / "sharp"),
    ):
        assert "no [noise] to simulate data with" in run(*arguments).refused()


@pytest.mark.long
def test_a_fit_of_pairs_goes_on_with_these_alone(run: Run, pairs: Path, tmp_path: Path) -> None:
    assert run("learn", pairs, "--out", tmp_path / "fit").code == 0
    assert run("learn", pairs, "--out", tmp_path / "fit", "--resume").code == 0
    y = np.load(tmp_path / "noisy" / "b.npy")
    np.save(tmp_path / "noisy" / "b.npy", y + 0.01)
    outcome = run("learn", pairs, "--out", tmp_path / "fit", "--resume")
    assert outcome.code == 2 and "other samples" in outcome.err


@pytest.mark.long
def test_a_race_and_a_comparison_of_pairs(run: Run, pairs: Path, tmp_path: Path) -> None:
    outcome = run("race", pairs, "--algorithms", "l-bfgs,maid", "--out", tmp_path / "race")
    assert outcome.code == outcome.owed, outcome
    outcome = run("compare", pairs, "--rules", "gcv", "--out", tmp_path / "rules")
    assert outcome.code == outcome.owed, outcome
    assert run("check", pairs).code == 0


@pytest.mark.long
def test_stacks_in_containers_are_pairs_by_number(run: Run, pairs: Path, tmp_path: Path) -> None:
    x = np.stack([picture(16, k) for k in range(4)])
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["scan/noisy"], file["scan/sharp"] = noisy(x), x
    replaced(pairs, '"noisy"', '"all.h5:scan/noisy"')
    replaced(pairs, '"sharp"', '"all.h5:scan/sharp"')
    outcome = run("learn", pairs, "--out", tmp_path / "fit")
    assert outcome.code == outcome.owed
    assert "4 measured pairs of 16x16" in outcome.err


def rename(folder: Path) -> None:
    (folder / "sharp" / "b.npy").rename(folder / "sharp" / "d.npy")


def shrink(folder: Path) -> None:
    np.save(folder / "sharp" / "b.npy", picture(12))


def remove(folder: Path) -> None:
    (folder / "noisy" / "c.npy").unlink()


def make_complex(folder: Path) -> None:
    for name in "abc":
        np.save(folder / "sharp" / f"{name}.npy", picture(16) * (1 + 1j))


def spoil(folder: Path) -> None:
    (folder / "noisy" / "a.npy").write_bytes(b"\x93NUMPY")


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "no partner": (rename, "line 3: data.target: the measurement b.npy has no target"),
    "too many targets": (remove, "line 3: data.target: the target c.npy has no measurement"),
    "another size": (shrink, "the target of b.npy has 12x12 pixels"),
    "complex": (make_complex, "a.npy holds a complex image; set complex = true in [data]"),
    "damaged": (spoil, "line 2: data.measured: cannot read"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_pairs_that_do_not_fit_are_refused_before_any_work(
    kind: str, run: Run, pairs: Path, tmp_path: Path
) -> None:
    change, says = WRONG[kind]
    change(tmp_path)
    assert says in run("learn", pairs, "--out", tmp_path / "fit").refused()
    assert not (tmp_path / "fit").exists()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('target = "sharp"', "", "data.target: measured data alone need a criterion"),
        ('measured = "noisy"\n', "", "data.target: a target is what measured data are of"),
        ('"noisy"', '"gone"', "data.measured: no image is found as 'gone'"),
        ('"noisy"', '"noisy"\nimages = "sharp"', "measured, or simulated from images, not both"),
        ('"sharp"', '"sharp"\ncount = 4', "there are 3 images"),
        ('"sharp"', '"sharp"\nsize = 20', "smaller than the crop"),
        ('"sharp"', '"sharp"\nmask = "gone.png"', "data.mask: there is no folder or file"),
        ('"identity"', '"gaussian-blur"\n[noise]\nname = "none"', ""),
    ],
)
def test_tables_that_do_not_go_together_are_refused(
    old: str, new: str, says: str, run: Run, pairs: Path
) -> None:
    replaced(pairs, old, new)
    outcome = run("check", pairs)
    if says:
        assert says in outcome.refused()
    else:  # noise may be known of data that were measured
        assert outcome.code == 0, outcome


def test_data_alone_are_learned_from_with_a_criterion(
    run: Run, pairs: Path, tmp_path: Path
) -> None:
    replaced(pairs, 'target = "sharp"\n', "")
    replaced(pairs, "[budget]", '[noise]\nname = "gaussian"\nsigma = 0.1\n\n[budget]')
    replaced(pairs, "[budget]", '[criterion]\nname = "sure"\n\n[budget]')
    replaced(pairs, "steps = 2", "steps = 8")
    outcome = run("learn", pairs, "--out", tmp_path / "fit")
    assert outcome.code == outcome.owed, outcome
    assert "3 measurements of 16x16" in outcome.err
    page = (tmp_path / "fit" / "report.html").read_text()
    assert "without ground truth" in page
    fit = load(tmp_path / "fit")
    y = torch.from_numpy(np.stack([np.load(tmp_path / f"noisy/{n}.npy") for n in "abc"]))
    x = torch.from_numpy(np.stack([picture(16, k) for k in range(3)]))
    own = fit.reconstruct(y[:, None].float(), bl.Tolerance(residual=1e-3)).x[:, 0]
    assert float((own - x).square().mean()) < 0.6 * float((y - x).square().mean())
    assert run("check", pairs).code == 0
    said = run("compare", pairs, "--out", tmp_path / "rules").refused()
    assert "criterion" in said


@pytest.mark.long
def test_a_criterion_may_be_judged_by_targets_that_it_does_not_see(
    run: Run, pairs: Path, tmp_path: Path
) -> None:
    replaced(pairs, "[budget]", '[criterion]\nname = "hold-out"\n\n[budget]')
    outcome = run("learn", pairs, "--out", tmp_path / "fit")
    assert outcome.code == outcome.owed, outcome
    assert "PSNR" in outcome.out
    energy = load(tmp_path / "fit").theta
    for name in "abc":
        np.save(tmp_path / "sharp" / f"{name}.npy", np.zeros((16, 16)))
    run("learn", pairs, "--out", tmp_path / "again")
    again = load(tmp_path / "again").theta
    assert all(torch.equal(value, again[name]) for name, value in energy.items())


# --- pixels without data


def damaged(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """A picture with dead pixels, its mask, and the same with NaN in their place."""
    truth, seen = picture(24), np.ones((24, 24), bool)
    seen[[3, 10, 11, 17], [5, 12, 12, 20]] = False
    y = noisy(truth, 0.03)
    np.save(folder / "nan.npy", np.where(seen, y, np.nan))
    np.save(folder / "dead.npy", np.where(seen, y, 1e3))
    Image.fromarray((255 * seen).astype(np.uint8)).save(folder / "mask.png")
    return truth, seen


def test_pixels_without_data_do_not_count(run: Run, tmp_path: Path) -> None:
    truth, seen = damaged(tmp_path)
    quick = ("--sigma", "0.03", "--rule", "discrepancy", "--out", tmp_path / "out")
    outcomes = [
        run("select", tmp_path / "nan.npy", "--missing", *quick),
        run("select", tmp_path / "dead.npy", "--mask", tmp_path / "mask.png", *quick),
    ]
    for outcome in outcomes:
        assert outcome.code == outcome.owed, outcome
        assert "4 pixels hold no data" in outcome.err
    one, other = (np.load(tmp_path / "out" / f"{name}.npy") for name in ("nan", "dead"))
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert np.abs(one - truth)[~seen].max() < 0.25
    assert "must be finite" in run("select", tmp_path / "nan.npy", *quick).refused()


def test_masks_are_one_for_all_or_one_for_each(run: Run, tmp_path: Path) -> None:
    damaged(tmp_path)
    (tmp_path / "masks").mkdir()
    quick = ("--sigma", "0.03", "--rule", "discrepancy", "--out", tmp_path / "out")
    arguments = ("select", tmp_path / "dead.npy", "--mask", tmp_path / "masks", *quick)
    np.save(tmp_path / "masks" / "other.npy", np.ones((24, 24), bool))
    np.save(tmp_path / "masks" / "another.npy", np.ones((24, 24), bool))
    assert "there is no mask for dead.npy" in run(*arguments).refused()
    (tmp_path / "mask.png").rename(tmp_path / "masks" / "dead.png")
    outcome = run(*arguments)
    assert outcome.code == outcome.owed and "4 pixels hold no data" in outcome.err
    np.save(tmp_path / "small.npy", np.ones((5, 5), bool))
    arguments = ("select", tmp_path / "dead.npy", "--mask", tmp_path / "small.npy", *quick)
    assert "is of 5x5 pixels, but got dead.npy of 24x24" in run(*arguments).refused()


@pytest.mark.long
def test_a_fit_of_data_with_dead_pixels_is_learned_and_used(
    run: Run, pairs: Path, tmp_path: Path
) -> None:
    seen = np.ones((16, 16), bool)
    seen[2, 3] = seen[9, 9] = False
    for name in "abc":
        y = np.load(tmp_path / "noisy" / f"{name}.npy")
        np.save(tmp_path / "noisy" / f"{name}.npy", np.where(seen, y, 50.0))
    np.save(tmp_path / "seen.npy", seen)
    replaced(pairs, 'target = "sharp"', 'target = "sharp"\nmask = "seen.npy"')
    outcome = run("learn", pairs, "--out", tmp_path / "fit")
    assert outcome.code == outcome.owed, outcome
    outcome = run("reconstruct", tmp_path / "fit", tmp_path / "noisy/a.npy", "--out", tmp_path)
    assert outcome.code == outcome.owed, outcome
    assert np.abs(np.load(tmp_path / "a.npy")).max() < 1.5
    for name in "abc":
        y = np.load(tmp_path / "noisy" / f"{name}.npy")
        np.save(tmp_path / "noisy" / f"{name}.npy", np.where(seen, y, np.nan))
    replaced(pairs, 'mask = "seen.npy"', 'missing = "nan"')
    outcome = run("learn", pairs, "--out", tmp_path / "nan")
    assert outcome.code == outcome.owed, outcome
    first, second = (load(tmp_path / name).theta for name in ("fit", "nan"))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value)


@pytest.mark.long
def test_a_page_of_a_stack_keeps_its_own_mask(run: Run, pairs: Path, tmp_path: Path) -> None:
    y = np.stack([picture(16), picture(16, 1)]).astype(np.float32)
    y[0, 1, 2] = y[1, 7, 8] = np.nan
    tifffile.imwrite(tmp_path / "y.tif", y)
    assert run("learn", pairs, "--out", tmp_path / "fit").code == 0
    arguments = ("reconstruct", tmp_path / "fit", tmp_path / "y.tif", "--out", tmp_path / "o")
    outcome = run(*arguments, "--missing")
    assert outcome.code == outcome.owed, outcome
    x = tifffile.imread(tmp_path / "o" / "y.tif")
    assert x.shape == y.shape and bool(np.isfinite(x).all())
    assert "2 pixels hold no data" in outcome.err


def test_layouts_are_declared_in_the_configuration(pairs: Path) -> None:
    found = read(replaced(pairs, '"sharp"', '"sharp"\nlayout = "coils"')).configuration.data
    assert (found.layout, found.image_layout) == ("coils", "stack")


def test_samples_may_have_masks_of_their_own(run: Run, pairs: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for name in "abc":
        y = np.load(tmp_path / "noisy" / f"{name}.npy")
        np.save(tmp_path / "noisy" / f"{name}.npy", np.where(rng.random(y.shape) < 0.8, y, np.nan))
    replaced(pairs, 'target = "sharp"', 'target = "sharp"\nmissing = "nan"')
    outcome = run("learn", pairs, "--out", tmp_path / "fit")
    assert outcome.code == outcome.owed, outcome
    fit = load(tmp_path / "fit")
    assert fit.history[-1].value < fit.history[0].value
    outcome = run("reconstruct", tmp_path / "fit", tmp_path / "noisy/a.npy", "--out", tmp_path)
    assert outcome.code == outcome.owed, outcome
    x, y = np.load(tmp_path / "a.npy"), np.load(tmp_path / "noisy" / "a.npy")
    truth = picture(16, 0)
    assert np.mean((x - truth) ** 2) < np.nanmean((y - truth) ** 2)
    replaced(pairs, "[budget]", '[criterion]\nname = "gcv"\n\n[budget]')
    assert "unknown criterion" in run("learn", pairs, "--out", tmp_path / "fit").refused()
    replaced(pairs, '"gcv"', '"hold-out"')
    said = run("learn", pairs, "--out", tmp_path / "fit").refused()
    assert "at the same places in all samples" in said

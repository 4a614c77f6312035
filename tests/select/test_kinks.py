"""Rules for energies with a box or exact total variation: degrees of freedom counted by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.select import Outcome, Path, Point
from bilevel.select.degrees import Degrees
from bilevel.select.rule import Rule
from bilevel.select.select import span_of
from contracts import situations
from contracts.dense import FORWARD, INNER, H, W

R, F = bl.regularisers, bl.fidelities
SIGMA, DRAWS = 0.2, 200
EXACT = Degrees("exact")
WEIGHTS = torch.tensor([0.02, 0.1, 0.4], dtype=torch.float64)


def point_of(energy: bl.Variational, y: Tensor, weight: Tensor, accuracy: float = 1e-9) -> Point:
    return Path(energy, y, accuracy=accuracy, rtol=1e-9, max_steps=100_000).at(weight)


def noise(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return SIGMA * torch.randn(shape, generator=random, dtype=torch.float64)


def positive(operator: bl.operators.Operator, inner: bl.operators.Operator) -> bl.Variational:
    return bl.Variational(F.SquaredL2(operator), R.Tikhonov(1.0, inner) + R.Box(0.0)).double()


@pytest.mark.parametrize("forward", ["denoise", "blur", "matrix", "mask"])
def test_degrees_in_a_box_are_the_trace_over_the_free_pixels(forward: str) -> None:
    (operator, a), (inner, b) = FORWARD[forward], INNER["differences"]
    clean = operator(
        torch.linspace(-0.4, 0.8, H * W).double().view(1, 1, H, W).expand(3, -1, -1, -1)
    )
    energy = positive(operator, inner)
    point = point_of(energy, clean + noise(*clean.shape), WEIGHTS)
    assert bool(point.solution.converged.all())
    found, square = EXACT.moments(point)
    for k, weight in enumerate(WEIGHTS):
        free = (point.x[k].flatten() > 0).numpy()
        assert 3 < free.sum() < H * W - 3
        gram = a.T @ a + float(weight) * b.T @ b
        response = np.zeros_like(a.T)
        response[free] = np.linalg.solve(gram[np.ix_(free, free)], a.T[free])
        p = a @ response
        assert float(found[k]) == pytest.approx(np.trace(p), rel=1e-6)
        assert float(square[k]) == pytest.approx(np.sum(p**2), rel=1e-6)


def regions(x: Tensor, tol: float = 1e-5) -> int:
    """Connected sets of equal grey values of an image (h, w), by flooding."""
    h, w = x.shape
    seen, count = torch.zeros(h, w, dtype=torch.bool), 0
    for start in range(h * w):
        if seen[start // w, start % w]:
            continue
        count, left = count + 1, [(start // w, start % w)]
        while left:
            i, j = left.pop()
            if seen[i, j]:
                continue
            seen[i, j] = True
            for m, n in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                if 0 <= m < h and 0 <= n < w and abs(float(x[m, n] - x[i, j])) < tol:
                    left.append((m, n))
    return count


@pytest.mark.parametrize("shape", [(1, 24), (7, 6)], ids=["line", "image"])
def test_degrees_of_exact_total_variation_count_its_flat_regions(shape: tuple[int, int]) -> None:
    """Tibshirani and Taylor 2011, Dossal et al. 2013: one for each connected region."""
    truth = torch.linspace(0, 1, shape[1]).round().double().expand(3, 1, *shape)
    y = truth + noise(3, 1, *shape)
    energy = bl.Variational(F.SquaredL2(), R.ExactTotalVariation(1.0, isotropic=False)).double()
    point = point_of(energy, y, WEIGHTS, accuracy=1e-7)
    counts = [regions(image[0]) for image in point.x]
    assert 1 < min(counts) < max(counts) < y[0].numel()
    assert EXACT.of(point).tolist() == pytest.approx(counts, rel=1e-6)


def test_positivity_beside_exact_total_variation_takes_the_regions_at_zero_away() -> None:
    y = torch.linspace(-0.5, 0.8, 24).double().expand(3, 1, 1, 24) + noise(3, 1, 1, 24)
    tv = R.ExactTotalVariation(1.0, isotropic=False)
    energy = bl.Variational(F.SquaredL2(), tv + R.Box(0.0)).double()
    point = point_of(energy, y, WEIGHTS, accuracy=1e-7)
    for k, degrees in enumerate(EXACT.of(point).tolist()):
        x = point.x[k, 0]
        flooded = torch.where(x > 1e-9, x, -torch.ones_like(x))
        empty = regions(flooded) - sum(1 for part in runs(flooded[0]) if part > 0)
        assert empty >= 1
        assert degrees == pytest.approx(regions(flooded) - empty, rel=1e-6)


def runs(line: Tensor) -> list[float]:
    """The grey values of the flat pieces of a line."""
    new = [True, *(bool(step.abs() > 1e-5) for step in line.diff())]
    return [float(value) for value, starts in zip(line, new, strict=True) if starts]


ENERGIES: dict[str, Callable[[], bl.Variational]] = {
    "box": lambda: bl.Variational(F.SquaredL2(), R.TotalVariation(1.0, 0.1) + R.Box(0.0)),
    "exact": lambda: bl.Variational(F.SquaredL2(), R.ExactTotalVariation(1.0)),
    "exact, box": lambda: bl.Variational(F.SquaredL2(), R.ExactTotalVariation(1.0) + R.Box(0.0)),
    "exact, sparse": lambda: bl.Variational(
        F.SquaredL2(), R.ExactTotalVariation(1.0) + R.Sparsity(0.5)
    ),
    "smoothed, sparse": lambda: bl.Variational(
        F.SquaredL2(), R.TotalVariation(1.0, 0.1) + R.Sparsity(0.5) + R.Box(None, 0.7)
    ),
}


def truth_of(size: int = 6) -> Tensor:
    image = torch.zeros(1, 1, size, size).double()
    image[..., size // 2 :] = 0.8
    image[..., 1, 1] = 0.5
    return image


@pytest.mark.parametrize("name", ENERGIES)
def test_sure_is_unbiased(name: str) -> None:
    truth = truth_of()
    energy, y = ENERGIES[name]().double(), truth + noise(DRAWS, 1, 6, 6, seed=3)
    point = point_of(energy, y, torch.full((DRAWS,), 0.15).double(), accuracy=1e-4)
    error = (point.x - truth).square().mean((1, 2, 3))
    away = bl.rules.SURE(SIGMA, EXACT).value(point) - error
    standard_error = float(away.std()) / DRAWS**0.5
    assert 0 < standard_error < 0.1 * float(error.mean())
    assert abs(float(away.mean())) < 3 * standard_error


@pytest.mark.parametrize("name", ["box", "exact"])
def test_differences_agree_with_the_exact_trace_on_average(name: str) -> None:
    energy, y = ENERGIES[name]().double(), truth_of() + noise(1, 1, 6, 6)
    weight = torch.tensor([0.1]).double()
    point = Path(energy, y, accuracy=1e-6, rtol=1e-3, max_steps=100_000).at(weight)
    exact = float(EXACT.of(point))
    ways = [Degrees("monte carlo", seed=seed, step=1e-2) for seed in range(12)]
    each = torch.cat([way.of(point) for way in ways])
    assert abs(float(each.mean()) - exact) < 3 * float(each.std()) / len(each) ** 0.5
    probes = torch.cat([Degrees(seed=seed).of(point) for seed in range(12)])
    assert float((each - probes).abs().median()) < 0.02 * exact


@pytest.mark.parametrize("name", ENERGIES)
def test_slopes_are_those_of_the_path(name: str) -> None:
    """Of x, of the residual and of R; kinks that hold a pixel or a difference hold it nearby."""
    energy, y, step = ENERGIES[name]().double(), truth_of() + noise(2, 1, 6, 6), 1e-4
    log = torch.tensor([0.08, 0.25]).double().log()
    path = Path(energy, y, accuracy=1e-9, rtol=1e-10, max_steps=100_000)
    ahead, here, behind = (path.at((log + t).exp()) for t in (step, 0, -step))
    for part in ("x", "misfit", "penalty"):
        slope = here.slope if part == "x" else getattr(here, f"{part}_slope")
        known = (getattr(ahead, part) - getattr(behind, part)) / (2 * step)
        torch.testing.assert_close(slope, known, rtol=1e-3, atol=2e-4)
        assert float(slope.abs().max()) > 1e-2


ALL: dict[str, Rule] = {
    "a priori": bl.rules.APriori(SIGMA),
    "discrepancy": bl.rules.Discrepancy(SIGMA),
    "corrected": bl.rules.Discrepancy(SIGMA, corrected=True),
    "gaussianity": bl.rules.Gaussianity(SIGMA),
    "sure": bl.rules.SURE(SIGMA),
    "differences": bl.rules.SURE(SIGMA, Degrees("monte carlo")),
    "predicted risk": bl.rules.PredictedRisk(SIGMA),
    "gsure": bl.rules.GSURE(SIGMA),
    "gcv": bl.rules.GCV(),
    "whiteness": bl.rules.Whiteness(),
    "hold-out": bl.rules.HoldOut(),
    "l-curve": bl.rules.LCurve(),
    "triangle": bl.rules.LCurve("triangle"),
    "quasi-optimality": bl.rules.QuasiOptimality(),
    "oracle": bl.rules.Oracle(truth_of(16)),
}


QUICK = ("sure", "quasi-optimality", "oracle")
ANSWERS = (Outcome.FOUND, Outcome.EDGE, Outcome.DOUBTFUL, Outcome.NO_ROOT)
BEST = {"box": 0.0682, "exact": 0.0422}
"""The rms error at the best weight for the data below, by the oracle."""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "box") for name in ALL),
        *(pytest.param(n, "exact", marks=() if n in QUICK else pytest.mark.long) for n in ALL),
    ],
)
def test_every_rule_answers(name: str, kind: str) -> None:
    energy, y = ENERGIES[kind]().double(), truth_of(16) + noise(1, 1, 16, 16, seed=1)
    choice = bl.select(energy, y, ALL[name], width=0.3, accuracy=1e-3)
    assert choice.outcome[0] in ANSWERS
    assert float(choice.certificate.rms) <= 1e-3
    if kind == "box":
        assert float(choice.x.min()) == 0
    reached = float((choice.x - truth_of(16)).square().mean().sqrt())
    if name == "oracle":
        assert reached == pytest.approx(BEST[kind], rel=0.1)
    if choice.outcome[0] is Outcome.FOUND:
        assert reached < 2 * BEST[kind]


def test_counts_of_an_image_that_is_not_negative() -> None:
    peak, background, span = 30.0, 0.1, (5e-3, 0.3)
    truth, noisy = truth_of(12), bl.data.PoissonNoise(peak, background)
    blur = bl.operators.GaussianBlur(0.6, 3).double()
    y = bl.data.simulate(truth, blur, noisy).y
    fidelity = F.KullbackLeibler(blur, background=background)
    energy = bl.Variational(fidelity, R.TotalVariation(1.0, 0.05) + R.Box(0.0)).double()
    errors: dict[str, float] = {}
    for rule in (bl.rules.PURE(peak), bl.rules.PoissonDiscrepancy(peak), bl.rules.Oracle(truth)):
        choice = bl.select(energy, y, rule, width=0.5, accuracy=5e-3, span=span)
        assert choice.outcome[0] is not Outcome.UNSOLVED
        assert float(choice.x.min()) == 0
        errors[type(rule).__name__] = float((choice.x - truth).square().mean())
    assert errors["Oracle"] <= 1.05 * min(errors.values())
    assert errors["PURE"] < 1.5 * errors["Oracle"]


def test_a_box_that_leaves_the_start_out_still_has_a_range_of_weights() -> None:
    y = truth_of(8) - 0.3 + noise(1, 1, 8, 8)
    low, high = span_of(ENERGIES["box"]().double(), y)
    plain = bl.Variational(F.SquaredL2(), R.TotalVariation(1.0, 0.1)).double()
    start = y.clamp_min(0)
    with torch.no_grad():
        scale = float(plain.fidelity(start.mean().expand_as(y), y) / plain.regulariser(start))
    assert float(low) == pytest.approx(3e-5 * scale)
    assert float(high) == pytest.approx(15 * scale)


def test_a_fidelity_without_a_gradient_is_for_the_oracle_alone() -> None:
    energy = bl.Variational(F.L1(), R.TotalVariation(1.0, 0.1) + R.Tikhonov(0.01)).double()
    truth = truth_of(8)
    y = truth.clone()
    y[..., ::5, ::3] = 1.0
    choice = bl.select(energy, y, bl.rules.Oracle(truth), span=(0.05, 5.0), width=0.3)
    assert (choice.x - truth).square().mean() < (y - truth).square().mean()
    with pytest.raises(bl.InputError, match="a fidelity with a gradient"):
        bl.select(energy, y, bl.rules.QuasiOptimality())


@pytest.mark.parametrize("kind", ["box", "exact"])
def test_what_contradicts_a_weight_is_still_seen(kind: str) -> None:
    """Ordinary noise is believed, correlated noise and a wrong level are not."""
    truth = situations.picture("camera", 32)
    white = situations.white(truth, 0)
    tv = R.TotalVariation(1.0, 0.01) + R.Box(0.0) if kind == "box" else R.ExactTotalVariation(1.0)
    energy = bl.Variational(F.SquaredL2(), tv)
    cases = {
        "ordinary": (truth + 0.1 * white, 0.1),
        "correlated": (truth + 0.1 * situations.blurred(white, 1.5), 0.1),
        "too small": (truth + 0.1 * white, 0.04),
    }
    found = {
        name: bl.select(energy, y, bl.rules.SURE(sigma), width=0.1)
        for name, (y, sigma) in cases.items()
    }
    assert found["ordinary"].outcome == (Outcome.FOUND,)
    assert found["correlated"].outcome == (Outcome.DOUBTFUL,)
    assert found["too small"].outcome == (Outcome.DOUBTFUL,)
    assert "sigma = 0.04" in found["too small"].advice[0]


@pytest.mark.parametrize("kind", ["box", "exact"])
def test_rows_are_chosen_as_if_they_were_alone(kind: str) -> None:
    y = truth_of(12) + torch.cat([noise(1, 1, 12, 12), 2 * noise(1, 1, 12, 12, seed=1)])
    sigma = torch.tensor([SIGMA, 2 * SIGMA], dtype=torch.float64)
    energy = ENERGIES[kind]().double()
    both = bl.select(energy, y, bl.rules.SURE(sigma), width=0.05, accuracy=1e-5)
    for k in range(2):
        alone = bl.select(
            energy, y[k : k + 1], bl.rules.SURE(float(sigma[k])), width=0.05, accuracy=1e-5
        )
        assert math.log(float(both.weight[k] / alone.weight)) == pytest.approx(0, abs=0.1)

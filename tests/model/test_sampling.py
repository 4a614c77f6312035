"""Learned sampling: the budget is kept exactly, derivatives and bounds of the mask are true."""

from __future__ import annotations

import copy

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

import bilevel as bl
from bilevel.ground import rows
from bilevel.ground.theta import bind, learnable
from bilevel.model.fidelities import SampledL2, SquaredL2
from bilevel.model.operators import Convolution, FourierMask, MultiCoil, Operator
from bilevel.model.part import space_of, unaccounted
from bilevel.model.sets import CappedSimplex

SIZE = (6, 8)
RNG = torch.Generator().manual_seed(7)
MAPS = torch.complex(*torch.randn(2, 2, *SIZE, generator=RNG, dtype=torch.float64))
KEPT = torch.tensor([[True, True, False, False, False, False, False, True]])


def operator(name: str) -> Operator:
    full = torch.ones(SIZE, dtype=torch.float64)
    return FourierMask(full) if name == "real" else MultiCoil(full, MAPS / 2)


def fidelity(name: str = "real", by: str = "lines", seed: int = 0) -> SampledL2:
    rng = torch.Generator().manual_seed(seed)
    size = (1, SIZE[1]) if by == "lines" else SIZE
    mask = torch.rand(size, generator=rng, dtype=torch.float64)
    kept = KEPT.expand(size) & (torch.arange(size[0]) < 2)[:, None]
    budget = int(kept.sum()) + 0.4 * int((~kept).sum())
    return SampledL2(operator(name), mask, kept, budget, 1.3, learn=("mask", "weight")).double()


# ------------------------------------------------------------------------------ the set


@pytest.mark.parametrize("seed", range(4))
def test_the_projection_is_the_nearest_point_of_the_set(seed: int) -> None:
    """Against a quadratic programme solved by sequential least squares."""
    rng = torch.Generator().manual_seed(seed)
    n = 3 + seed
    total = 0.3 + (n - 0.5) * float(torch.rand((), generator=rng))
    v = 2 * torch.randn(n, generator=rng, dtype=torch.float64)
    found = CappedSimplex(total).project(v)
    best = minimize(
        lambda x: 0.5 * ((x - v.numpy()) ** 2).sum(),
        torch.full((n,), total / n).numpy(),
        jac=lambda x: x - v.numpy(),
        bounds=[(0, 1)] * n,
        constraints={"type": "eq", "fun": lambda x: x.sum() - total},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert best.success
    torch.testing.assert_close(found, torch.from_numpy(best.x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 2, 7, 5000])
def test_the_projection_is_within_the_set_and_obtuse(n: int, dtype: torch.dtype) -> None:
    """⟨v - p, z - p⟩ <= 0 for every z of the set: what only the nearest point does."""
    rng = torch.Generator().manual_seed(n)
    for scale in (0.1, 1.0, 1e4):
        total = max(0.5, round(0.3 * n))
        v = scale * torch.randn(n, generator=rng, dtype=dtype)
        p = CappedSimplex(total).project(v)
        assert float(p.min()) >= 0 and float(p.max()) <= 1
        slack = 8 * n * torch.finfo(dtype).eps
        assert float(p.double().sum()) == pytest.approx(total, abs=slack)
        for _ in range(20):
            z = CappedSimplex(total).project(torch.randn(n, generator=rng, dtype=dtype))
            angle = float((v - p).double() @ (z - p).double())
            assert angle <= slack * scale * n
        again = CappedSimplex(total).project(p)
        rounding = (4 + n**0.5) * torch.finfo(dtype).eps  # of a sum
        torch.testing.assert_close(again, p, rtol=0, atol=rounding)


def test_ties_are_shared_and_whole_budgets_fill_the_set() -> None:
    same = CappedSimplex(2.0).project(torch.full((8,), -3.0))
    torch.testing.assert_close(same, torch.full((8,), 0.25))
    torch.testing.assert_close(CappedSimplex(3.0).project(torch.randn(3)), torch.ones(3))
    with pytest.raises(bl.InputError, match="cannot sum to 4"):
        CappedSimplex(4.0).project(torch.zeros(3))
    with pytest.raises(bl.InputError, match="total"):
        CappedSimplex(0.0)


# ------------------------------------------------------------------------------ the term


@pytest.mark.parametrize("by", ["lines", "points"])
@pytest.mark.parametrize("name", ["real", "coils"])
def test_a_binary_mask_is_the_masked_operator(name: str, by: str) -> None:
    term = fidelity(name, by).binarised()
    mask = term.mask.expand(SIZE)
    seen = FourierMask(mask) if name == "real" else MultiCoil(mask, MAPS / 2)
    plain = SquaredL2(seen, float(term.weight.detach())).double()
    shape = (2, 1 if name == "real" else 2, *SIZE)
    x = torch.randn(shape, generator=RNG, dtype=torch.float64)
    full = torch.randn(term.operator(x).shape, generator=RNG, dtype=torch.float64)
    # what is not measured changes the value by a constant, and nothing else
    torch.testing.assert_close(term.grad(x, full), plain.grad(x, mask * full))
    shift = term(x, full) - plain(x, mask * full)
    torch.testing.assert_close(shift, torch.zeros_like(shift), rtol=0, atol=1e-10)


@pytest.mark.parametrize("by", ["lines", "points"])
def test_binarising_takes_the_largest_and_exactly_the_budget(by: str) -> None:
    term = fidelity("real", by, seed=3)
    found = term.binarised()
    mask = found.mask.detach()
    assert bool(((mask == 0) | (mask == 1)).all())
    assert int(mask.sum()) == int(term.budget + 1e-9)
    assert bool((mask[term.kept] == 1).all())
    free, before = mask[~term.kept] == 1, term.mask.detach()[~term.kept]
    assert float(before[free].min()) >= float(before[~free].max())
    assert list(learnable(found)) == ["log_weight"]
    assert float(found.weight.detach()) == pytest.approx(float(term.weight.detach()), rel=1e-12)


@pytest.mark.parametrize("by", ["lines", "points"])
@pytest.mark.parametrize("name", ["real", "coils"])
def test_variation_bounds_what_the_mask_does(name: str, by: str) -> None:
    rng = torch.Generator().manual_seed(5)
    shape = (1, 1 if name == "real" else 2, *SIZE)
    for seed in range(8):
        term = fidelity(name, by, seed)
        x = torch.randn(shape, generator=rng, dtype=torch.float64)
        q = torch.randn(shape, generator=rng, dtype=torch.float64)
        y = torch.randn(term.operator(x).shape, generator=rng, dtype=torch.float64)
        radius = 10 ** (-2 * torch.rand(1, generator=rng, dtype=torch.float64))
        bound, here = term.variation(x, y, q, radius), jacobian(term, x, y)
        aimed = [q, (here @ (here.T @ q.flatten())).view_as(x), x]
        worst = 0.0
        for shift in [torch.randn(shape, generator=rng, dtype=x.dtype), *aimed]:
            other = x + rows.expand(radius / rows.norm(shift), x) * shift
            there = jacobian(term, other, y)
            change = float(((there - here).T @ q.flatten()).norm())
            assert change <= float(bound.cross) * (1 + 1e-9)
            assert float(torch.linalg.matrix_norm(there, 2)) <= float(bound.cross_norm) * (1 + 1e-9)
            worst = max(worst, change / float(bound.cross))
        assert worst > 1e-3  # the bound is of the size of what it bounds


def jacobian(term: SampledL2, x: Tensor, y: Tensor) -> Tensor:
    """∂∇Ψ/∂(log w, m), (pixels, numbers)."""
    theta = learnable(term)
    sizes = [value.numel() for value in theta.values()]

    def grad(flat: Tensor) -> Tensor:
        parts = zip(theta.items(), torch.split(flat, sizes), strict=True)
        return bind(term, {k: part.view_as(v) for (k, v), part in parts}).grad(x, y).flatten()

    flat = torch.cat([value.flatten() for value in theta.values()])
    found = torch.autograd.functional.jacobian(grad, flat)
    return found.detach()  # pyright: ignore


def problem(by: str = "lines") -> bl.BilevelProblem:
    x = torch.rand(3, 1, *SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    term = fidelity("real", by)
    y = bl.data.simulate(x, term.operator, bl.data.GaussianNoise(0.05)).y
    tv = bl.regularisers.TotalVariation(0.02, 0.1) + bl.regularisers.Tikhonov(0.02, learn=())
    energy = bl.Variational(term, tv).double()
    pairs = bl.data.Pairs(y, x, ("a", "b", "c"))
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


@pytest.mark.parametrize("by", ["lines", "points"])
def test_the_hypergradient_is_that_of_differences_and_within_its_bound(by: str) -> None:
    p = problem(by)
    assert not unaccounted(p.energy)
    assert bl.check_hypergradient(p).passed
    loose = problem(by).value_and_grad(p.theta, tol=1e-3)
    exact = p.value_and_grad(p.theta, tol=1e-11)
    off = torch.cat([(loose.grad[k] - exact.grad[k]).flatten() for k in exact.grad]).norm()
    assert 0 < float(off) <= loose.error < torch.inf


def test_learning_stays_within_the_budget_and_lowers_the_loss() -> None:
    p = problem()
    first = p.value(p.theta, tol=1e-6)
    fit = bl.learn(p, budget=bl.Budget(steps=6))
    term = fit.energy.fidelity
    assert isinstance(term, SampledL2)
    assert float(term.mask.detach().sum()) == pytest.approx(term.budget, abs=1e-9)
    assert float(term.mask.detach().min()) >= 0 and float(term.mask.detach().max()) <= 1
    assert p.value(fit.theta, tol=1e-6) < first
    torch.testing.assert_close(space_of(fit.energy).project(fit.theta), fit.theta)


def test_a_learned_mask_is_saved_and_found_again(tmp_path) -> None:
    p = problem()
    fit = bl.learn(p, budget=bl.Budget(steps=3))
    again = bl.load(fit.save(tmp_path))
    batch = p.samples.batch(torch.arange(2))
    tol = bl.Tolerance(rms=1e-9)
    torch.testing.assert_close(
        again.reconstruct(batch.y, tol).x, fit.reconstruct(batch.y, tol).x, rtol=0, atol=1e-12
    )
    assert again.energy.fidelity.budget == p.energy.fidelity.budget


def test_of_an_operator_with_parameters_nothing_is_claimed() -> None:
    kernel = torch.full((3, 3), 1 / 9)
    blur = Convolution(kernel, learn=("kernel",))
    term = SampledL2(blur, torch.full(SIZE, 0.5), learn=("mask",))
    assert unaccounted(term) == ["operator.kernel"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mask": torch.ones(8)}, "2 dimensions"),
        ({"mask": torch.ones(1, 8), "kept": torch.ones(8, 1)}, "one shape"),
        ({"mask": torch.ones(1, 8), "kept": 3 * torch.ones(1, 8)}, "booleans"),
        ({"mask": torch.ones(1, 8), "budget": 9.0}, "between the 0 kept and all 8"),
        ({"mask": torch.ones(1, 8), "kept": KEPT, "budget": 2.0}, "between the 3 kept"),
        ({"mask": torch.ones(1, 8), "kept": KEPT, "budget": 3.0}, "no weight to learn"),
        ({"mask": torch.ones(1, 8), "learn": ("masks",)}, "mask"),
    ],
)
def test_bad_masks_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(bl.InputError, match=said):
        SampledL2(FourierMask(torch.ones(SIZE)), **options)  # type: ignore[arg-type]


def test_a_mask_of_another_size_is_refused_at_the_data() -> None:
    term = SampledL2(FourierMask(torch.ones(SIZE)), torch.full((1, 7), 0.5))
    energy = bl.Variational(term, bl.regularisers.Tikhonov(1.0))
    with pytest.raises(bl.InputError, match="does not fit the data"):
        energy.at(torch.zeros(1, 2, *SIZE))


def test_the_mask_is_shown_with_frequency_zero_in_the_middle() -> None:
    lines = KEPT.float()
    term = SampledL2(FourierMask(torch.ones(SIZE)), lines, learn=())
    shown = term.operator.arranged(term.mask.detach())
    assert shown.flatten().tolist() == [0, 0, 0, 1, 1, 1, 0, 0]
    centred = MultiCoil(torch.ones(SIZE), centred=True)
    assert torch.equal(centred.arranged(lines), lines)
    assert copy.deepcopy(term).mask.equal(term.mask)

"""Problems whose samples are made when they are needed, differ in size, or are kept elsewhere."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.data import Batch, InMemory, Joined, Nowhere, OnDisk, Pairs, Samples, Simulated, Store
from bilevel.ground.errors import InputError
from bilevel.learn import Status

NOISE = bl.data.GaussianNoise(0.1)
IMAGES = bl.data.embedded_images(size=64).double()


def problem(samples: Samples, **options: Any) -> bl.BilevelProblem:
    tv = bl.regularisers.TotalVariation(0.05, 0.05)
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
    return bl.BilevelProblem(energy, bl.losses.PSNR(), samples, **options)


def pairs(name: str, count: int, h: int, w: int) -> Pairs:
    ids = tuple(f"{name}{k}" for k in range(count))
    return bl.data.simulate(IMAGES[:count, :, :h, :w], bl.operators.Identity(), NOISE, ids=ids)


def test_samples_made_when_needed_are_learned_from_like_those_in_memory() -> None:
    named = [(str(k), x[None]) for k, x in enumerate(IMAGES[:3])]
    made = Simulated(named, bl.operators.Identity(), NOISE, size=16, count=6)
    held = Pairs(*(getattr(made.batch(torch.arange(6)), n) for n in ("y", "target")), made.ids)
    fits = [bl.learn(problem(s), budget=bl.Budget(steps=4)) for s in (made, held)]
    assert fits[0].history[-1].value == pytest.approx(fits[1].history[-1].value, rel=1e-9)
    for name, value in fits[0].theta.items():
        torch.testing.assert_close(value, fits[1].theta[name], rtol=1e-9, atol=0.0)


def test_images_of_several_sizes_have_one_mean() -> None:
    small, wide = pairs("s", 3, 16, 16), pairs("w", 2, 12, 24)
    both = problem(Joined([small, wide]), chunk=2)
    parts = [problem(s) for s in (small, wide)]
    peak = bl.losses.PSNR(peak=1.0)
    assert both.loss == parts[0].loss.fitted(small.target) == peak
    theta = both.theta
    found = both.value_and_grad(theta, tol=1e-9, estimate=True)
    apart = [p.value_and_grad(theta, tol=1e-9) for p in parts]
    assert found.value == pytest.approx((3 * apart[0].value + 2 * apart[1].value) / 5, rel=1e-9)
    for name in theta:
        mean = (3 * apart[0].grad[name] + 2 * apart[1].grad[name]) / 5
        torch.testing.assert_close(found.grad[name], mean, rtol=1e-6, atol=1e-12)
    mixed = torch.tensor([4, 0, 3, 1])
    losses = both.values(theta, tol=1e-9, ids=mixed)
    alone = [both.values(theta, tol=1e-9, ids=k[None]) for k in mixed]
    torch.testing.assert_close(losses, torch.cat(alone), rtol=1e-6, atol=0.0)


def test_images_of_several_sizes_are_learned_from_and_resumed_bit_for_bit(tmp_path: Path) -> None:
    def both() -> bl.BilevelProblem:
        return problem(Joined([pairs("s", 3, 16, 16), pairs("w", 2, 12, 24)]))

    whole = bl.learn(both(), bl.algorithms.MAID(), budget=bl.Budget(steps=6))
    assert whole.history[-1].value < whole.history[0].value
    bl.learn(both(), bl.algorithms.MAID(), budget=bl.Budget(steps=3), checkpoint=tmp_path)
    again = bl.learn(
        both(), bl.algorithms.MAID(), budget=bl.Budget(steps=3), resume=bl.load(tmp_path)
    )
    for name, value in whole.theta.items():
        assert torch.equal(value, again.theta[name])


def test_single_loops_say_that_they_need_one_size() -> None:
    both = problem(Joined([pairs("s", 3, 16, 16), pairs("w", 2, 12, 24)]))
    with pytest.raises(InputError, match="one size"):
        bl.learn(both, bl.algorithms.SOBA(), budget=bl.Budget(steps=1))


def test_a_target_of_any_size_must_fit_its_data() -> None:
    small, wide = pairs("s", 1, 16, 16), pairs("w", 1, 12, 24)
    crossed = Pairs(wide.y, wide.target[..., :20], wide.ids)
    with pytest.raises(InputError, match="targets must have shape"):
        problem(Joined([small, crossed]))


@pytest.mark.parametrize("name", ["memory", "disk", "half", "nowhere"])
def test_where_reconstructions_are_kept_changes_work_and_not_answers(
    name: str, tmp_path: Path
) -> None:
    stores: dict[str, Store] = {
        "memory": InMemory(),
        "disk": OnDisk(tmp_path),
        "half": OnDisk(tmp_path, half=True),
        "nowhere": Nowhere(),
    }
    p, usual = (problem(pairs("s", 3, 16, 16), store=s) for s in (stores[name], None))
    near = {k: v + 1e-3 for k, v in p.theta.items()}
    spent: list[int] = []
    for q in (p, usual):
        q.value_and_grad(q.theta, tol=1e-6)
        before = q.cost.gradient_evaluations
        found = q.value_and_grad(near, tol=1e-6)
        spent.append(q.cost.gradient_evaluations - before)
        again = problem(pairs("s", 3, 16, 16)).value_and_grad(near, tol=1e-8)
        assert abs(found.corrected - again.corrected) <= found.interval + again.interval
    if name in ("memory", "disk"):
        assert spent[0] == spent[1]
    elif name == "nowhere":
        assert spent[0] > 1.2 * spent[1]


def test_a_fit_whose_reconstructions_are_on_disk_goes_on(tmp_path: Path) -> None:
    def on_disk() -> bl.BilevelProblem:
        return problem(pairs("s", 3, 16, 16), store=OnDisk(tmp_path / "kept"))

    fit = bl.learn(on_disk(), budget=bl.Budget(steps=2), checkpoint=tmp_path / "fit")
    budget = bl.Budget(steps=200)
    more = bl.learn(on_disk(), budget=budget, resume=bl.load(tmp_path / "fit"))
    usual = bl.learn(problem(pairs("s", 3, 16, 16)), budget=budget)
    assert len(more.history) > len(fit.history)
    assert {more.status, usual.status} <= {Status.CONVERGED, Status.STATIONARY}
    assert more.history[-1].value == pytest.approx(usual.history[-1].value, abs=0.02)


def test_a_stream_is_learned_from_without_memory_of_it() -> None:
    named = [(str(k), x[None]) for k, x in enumerate(IMAGES[:3])]
    stream = Simulated(named, bl.operators.Identity(), NOISE, size=16, count=10**6)
    p = problem(stream, store=Nowhere())
    fit = bl.learn(p, bl.algorithms.ISGD(batch_size=8), budget=bl.Budget(steps=10))
    assert fit.status is Status.BUDGET
    assert p.memory.x == p.memory.q == ()
    assert fit.theta["regulariser.log_weight"] != p.theta["regulariser.log_weight"]


def test_parts_of_one_size_are_learned_from_by_single_loops() -> None:
    both = Joined([pairs("a", 3, 16, 16), pairs("b", 2, 16, 16)])
    held = Pairs(*(getattr(both.batch(torch.arange(5)), n) for n in ("y", "target")), both.ids)
    fits = [
        bl.learn(problem(s), bl.algorithms.SOBA(), budget=bl.Budget(steps=2)) for s in (both, held)
    ]
    assert fits[0].theta == fits[1].theta


def test_a_fit_goes_on_where_a_size_was_not_seen_yet(tmp_path: Path) -> None:
    def both() -> bl.BilevelProblem:
        return problem(Joined([pairs("a", 8, 16, 16), pairs("b", 2, 12, 20)]))

    isgd = bl.algorithms.ISGD(batch_size=1)
    at_once = bl.learn(both(), isgd, budget=bl.Budget(steps=4))
    bl.learn(both(), isgd, budget=bl.Budget(steps=1)).save(tmp_path)
    again = bl.learn(both(), isgd, budget=bl.Budget(steps=3), resume=bl.load(tmp_path))
    assert again.theta == at_once.theta


def test_problems_can_be_pickled() -> None:
    p = problem(pairs("a", 2, 16, 16))
    p.value(p.theta, tol=1e-4)
    again = pickle.loads(pickle.dumps(p))
    assert again.value(p.theta, tol=1e-6) == pytest.approx(p.value(p.theta, tol=1e-6), rel=1e-6)


class Own(Samples):
    """Samples of one's own, wrong in one way."""

    def __init__(self, ids: tuple[Any, ...], give: Any) -> None:
        self.ids, self.give = ids, give

    def batch(self, index: Tensor) -> Batch:
        return self.give(index)


def right(index: Tensor) -> Batch:
    return Batch(IMAGES[index, :, :16, :16], IMAGES[index, :, :16, :16])


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (Own((1, 2), right), "strings"),
        (Own(("a", "a"), right), "different"),
        (Own((), right), "at least one"),
        (Own(("a", "b"), lambda index: (index, index)), "Batch"),
        (Own(("a", "b"), lambda index: right(index[:1])), "rows"),
        (IMAGES, "Samples"),
    ],
)
def test_samples_of_ones_own_that_are_wrong_are_refused(samples: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        problem(samples)


def test_a_target_that_is_not_finite_is_found_when_it_is_read() -> None:
    def give(index: Tensor) -> Batch:
        batch = right(index % 8)
        batch.target[index == 70] = torch.nan
        return batch

    p = problem(Own(tuple(map(str, range(80))), give))
    with pytest.raises(InputError, match="target"):
        p.value(p.theta, tol=1e-3)


@pytest.mark.parametrize("store", ["x", OnDisk])
def test_what_is_no_store_is_refused_at_once(store: Any) -> None:
    with pytest.raises(InputError, match="store"):
        problem(pairs("a", 1, 16, 16), store=store)

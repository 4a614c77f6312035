"""Training without the lower level, and the fit of a few numbers after it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.data.crops import turned
from bilevel.ground.theta import learnable
from bilevel.learn import Status
from bilevel.learn.loops.moments import Moments
from bilevel.learn.pretraining.surrogate import SurrogateProblem
from bilevel.learn.restricted import restricted
from bilevel.model.regularisers.cascade import random_cascade
from bilevel.model.smooth import Smooth

P = bl.pretraining
DOUBLE = torch.float64
BUDGET = bl.Budget(steps=3)
TINY = {"batch_size": 4, "size": 12}
METHODS: dict[str, Callable[..., P.Surrogate]] = {
    "score": P.ScoreMatching,
    "adversarial": P.AdversarialRegularisation,
    "proximal": P.ProximalTraining,
}


def tv(**options: object) -> bl.regularisers.TotalVariation:
    return bl.regularisers.TotalVariation(0.05, 0.02, **options)  # type: ignore[arg-type]


def problem(
    regulariser: bl.regularisers.ImageTerm | None = None,
    *,
    unit: float = 1.0,
    dtype: torch.dtype = torch.float32,
    operator: bl.operators.Operator | None = None,
) -> bl.BilevelProblem:
    blur = bl.operators.Identity() if operator is None else operator
    images = unit * bl.data.embedded_images(size=16).to(dtype)
    pairs = bl.data.simulate(images, blur.to(dtype), bl.data.GaussianNoise(0.1 * unit))
    prior = bl.networks.InputConvexNetwork(3, 3) if regulariser is None else regulariser
    energy = bl.Variational(bl.fidelities.SquaredL2(blur), prior).to(dtype)
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


def view(whole: bl.BilevelProblem, method: P.Surrogate) -> SurrogateProblem:
    return method.problem(whole, {}, 0)


@pytest.mark.parametrize("name", METHODS)
def test_gradients_are_those_of_the_values(name: str) -> None:
    """Along a random direction, of everything that is learned."""
    network = bl.networks.LocalNetwork((3,), weight=2.0, scale=1.0)
    whole = problem(network + tv(), dtype=DOUBLE)
    seen = view(whole, METHODS[name](**TINY))
    rng = torch.Generator().manual_seed(1)
    theta = {k: v + 0.05 * torch.randn(v.shape, generator=rng) for k, v in seen.theta.items()}
    move = {k: torch.randn(v.shape, generator=rng, dtype=DOUBLE) for k, v in theta.items()}
    at = seen.value_and_grad(theta, tol=1.0)
    ends = [
        seen.value({k: v + s * 1e-6 * move[k] for k, v in theta.items()}, tol=1.0) for s in (1, -1)
    ]
    slope = sum(float((at.grad[k] * move[k]).sum()) for k in theta)
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)
    losses = seen.values(theta, tol=1.0)
    assert len(losses) == len(seen) == 8
    assert at.value == pytest.approx(float(losses.mean()), rel=1e-12)
    alone = seen.values(theta, tol=1.0, ids=torch.tensor([5, 2]))
    torch.testing.assert_close(alone, losses[[5, 2]])
    assert not math.isfinite(at.error)


def test_losses_are_their_formulas() -> None:
    whole = problem(tv(), dtype=DOUBLE)
    prior = whole.energy.regulariser.at(torch.zeros(1, 1, 8, 8))[0]
    assert isinstance(prior, Smooth)
    x, start, n = (torch.rand(2, 1, 8, 8, dtype=DOUBLE) for _ in range(3))
    share = torch.tensor([0.25, 0.75], dtype=DOUBLE).view(2, 1, 1, 1)
    draw = P.Draw(x, start, n, share)
    y = x + 0.03 * n
    error = (y - prior.grad(y) - x)[..., 2:-2, 2:-2].square().mean((1, 2, 3))
    found = P.ScoreMatching(noise=0.03, border=2).losses(prior, draw, 0.5)
    torch.testing.assert_close(found, error)
    matched = P.ProximalTraining(noise=0.03, border=2, first=4.0, last=1.0)
    for progress, times in ((0.0, 4.0), (0.5, 2.0), (1.0, 1.0)):
        square = (times * 0.03) ** 2
        expected = square * (1 - (-error / square).exp())
        torch.testing.assert_close(matched.losses(prior, draw, progress), expected)
    middle = x + share * (start - x)
    steep = (prior.grad(middle).flatten(1).norm(dim=1) / 0.2 - 1).clamp_min(0).square()
    assert bool((steep > 0).all())
    expected = (prior.value(x) - prior.value(start)) / 0.04 + 5 * steep
    critic = P.AdversarialRegularisation(penalty=5.0, peak=0.2)
    torch.testing.assert_close(critic.losses(prior, draw, 0.0), expected)


@pytest.mark.parametrize("name", METHODS)
def test_training_lowers_the_loss_within_the_sets(name: str) -> None:
    network = bl.networks.InputConvexNetwork(3, 3)
    method = METHODS[name](rate=0.1, **TINY)
    whole = problem(network, operator=bl.operators.Convolution(torch.ones(3, 3) / 9))
    fit = bl.pretrain(whole, method, budget=bl.Budget(steps=25))
    seen = view(whole, method)
    before, after = (seen.value(theta, tol=1.0) for theta in (seen.theta, fit.theta))
    assert after < before
    assert fit.status is Status.BUDGET
    core = fit.energy.regulariser.network  # type: ignore[union-attr]
    assert bool((core.w_z >= 0).all())
    assert float(core.w_x.detach().mean((2, 3)).abs().max()) < 1e-6
    assert fit.theta.keys() == whole.theta.keys()
    assert len(fit.history) == 26
    assert fit.history[-1].step_size == pytest.approx(0.1 * 0.1)
    assert fit.cost.gradient_evaluations == 26 * 4
    assert fit.algorithm.startswith(type(method).__name__)
    assert math.isnan(fit.history[0].psnr) == (name == "adversarial")


@pytest.mark.parametrize("unit", [255.0, 1e-3])
@pytest.mark.parametrize("name", METHODS)
def test_any_unit_is_alike(name: str, unit: float) -> None:
    found = []
    for scale in (1.0, unit):
        whole = problem(bl.networks.LocalNetwork((3,)), unit=scale, dtype=DOUBLE)
        found.append(bl.pretrain(whole, METHODS[name](peak=scale, **TINY), budget=BUDGET))
    for key, value in found[0].theta.items():
        if "log" not in key:
            torch.testing.assert_close(found[1].theta[key], value, rtol=1e-5, atol=1e-7)


def test_seeds_and_going_on() -> None:
    """Bit for bit where the rate stays the same; draws depend on the step alone."""
    method = P.ScoreMatching(decay=1.0, **TINY)
    at_once = bl.pretrain(problem(), method, budget=bl.Budget(steps=4))
    first = bl.pretrain(problem(), method, budget=bl.Budget(steps=3))
    again = bl.pretrain(problem(), method, budget=bl.Budget(steps=1), resume=first)
    other = bl.pretrain(problem(), method, budget=bl.Budget(steps=4), seed=1)
    for key, value in at_once.theta.items():
        assert torch.equal(value, again.theta[key])
    assert [r.value for r in at_once.history] == [r.value for r in again.history]
    assert at_once.history[0].value != other.history[0].value
    with pytest.raises(bl.InputError, match="seed"):
        bl.pretrain(problem(), method, budget=BUDGET, seed=1, resume=first)
    with pytest.raises(bl.InputError, match="noise"):
        bl.pretrain(problem(), P.ScoreMatching(noise=0.05, decay=1.0, **TINY), budget=BUDGET,
                    resume=first)  # fmt: skip


def test_an_interrupt_keeps_what_is_done(tmp_path: Path) -> None:
    def record(line: bl.Record) -> None:
        if line.step == 2:
            raise KeyboardInterrupt

    method = P.ScoreMatching(**TINY)
    fit = bl.pretrain(
        problem(), method, budget=bl.Budget(steps=9), record=record, checkpoint=tmp_path / "fit"
    )
    assert fit.status is Status.INTERRUPTED
    assert len(fit.history) == 3
    saved = bl.load(tmp_path / "fit")
    for key, value in fit.theta.items():
        assert torch.equal(saved.theta[key], value)
    whole = bl.pretrain(problem(), method, budget=bl.Budget(steps=2), resume=saved)
    assert len(whole.history) == 5


class Spied(P.ScoreMatching):
    """Remembers the shapes that it sees, and compares."""

    seen: list[tuple[int, ...]] = []  # noqa: RUF012

    @property
    def compares(self) -> bool:
        return True

    def losses(self, prior: Smooth, draw: P.Draw, progress: float) -> Tensor:
        torch.testing.assert_close(draw.degraded, draw.clean)  # of the same place, turned alike
        self.seen.append(tuple(draw.clean.shape))
        return super().losses(prior, draw, progress)


def test_crops_of_images_of_any_size() -> None:
    parts = [
        bl.data.simulate(torch.rand(2, 1, *sides), bl.operators.Identity(), bl.data.NoNoise(),
                         ids=[f"{sides}{k}" for k in range(2)])
        for sides in ((9, 20), (20, 30))
    ]  # fmt: skip
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv())
    whole = bl.BilevelProblem(energy, bl.losses.SquaredError(), bl.data.Joined(parts))
    Spied.seen.clear()
    bl.pretrain(whole, Spied(batch_size=8, size=12), budget=bl.Budget(steps=1))
    assert {shape[2:] for shape in Spied.seen} == {(9, 12), (12, 12)}
    assert sum(shape[0] for shape in Spied.seen[:2]) == 8
    x = torch.arange(4.0).view(1, 1, 2, 2)
    assert len({tuple(turned(x, k).flatten().tolist()) for k in range(8)}) == 8
    assert turned(torch.zeros(1, 1, 2, 3), 7).shape == (1, 1, 2, 3)


def test_what_only_the_data_term_has_stays() -> None:
    blur = bl.operators.GaussianBlur(1.0, size=5, learn=("sigma",))
    whole = problem(tv(), operator=blur)
    fit = bl.pretrain(whole, P.ScoreMatching(**TINY), budget=BUDGET)
    kept = [name for name in whole.theta if name.startswith("fidelity")]
    assert kept
    for name, value in whole.theta.items():
        assert torch.equal(fit.theta[name], value) == (name in kept)


def ridge() -> bl.regularisers.RidgeRegulariser:
    bank = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    return bl.regularisers.RidgeRegulariser([bank], 0.1, 20.0, 5.0)


def test_a_fit_of_scalars_leaves_the_rest_and_is_proved(tmp_path: Path) -> None:
    whole = problem(ridge(), dtype=DOUBLE)
    first = bl.pretrain(whole, P.ScoreMatching(**TINY), budget=BUDGET)
    method = P.ScalarFit(["log_weight", "log_sharpness"], images=2)
    folder = tmp_path / "fit"
    fit = bl.pretrain(whole, method, first.theta, budget=bl.Budget(steps=2), checkpoint=folder)
    assert fit.history[-1].value < fit.history[0].value
    assert all(math.isfinite(line.error) for line in fit.history if line.whole)
    for name, value in first.theta.items():
        fitted = name.endswith(("log_weight", "log_sharpness"))
        assert torch.equal(fit.theta[name], value) != fitted
    assert list(fit.theta) == list(whole.theta)
    assert bl.load(folder).theta.keys() == whole.theta.keys()
    further = bl.learn(whole, theta0=fit.theta, budget=bl.Budget(steps=1))
    assert further.history[0].value == pytest.approx(whole.value(fit.theta, tol=1e-6), rel=0.05)


def test_a_restricted_problem_is_the_same_where_it_is_left() -> None:
    whole = problem(ridge(), dtype=DOUBLE)
    shifted = {name: value + 0.1 for name, value in whole.theta.items()}
    left = restricted(whole, ["regulariser.log_scaling", "log_weight"], shifted)
    assert list(left.theta) == ["regulariser.log_weight", "regulariser.log_scaling"]
    found = left.value_and_grad(left.theta, tol=1e-6)
    full = whole.value_and_grad({**shifted, **left.theta}, tol=1e-6)
    for name, slope in found.grad.items():
        torch.testing.assert_close(slope, full.grad[name], rtol=1e-4, atol=1e-8)
    assert found.error <= full.error < math.inf
    assert learnable(whole.energy).keys() == whole.theta.keys()


class OfLabels(bl.losses.SquaredError):
    """What it compares with are no images."""

    def images(self, target: Tensor) -> None:
        del target


def test_what_the_parameters_cost_stays() -> None:
    energy = problem(ridge(), dtype=DOUBLE)
    priced = bl.BilevelProblem(
        energy.energy, energy.loss, energy.samples, penalty=0.1 * bl.penalties.Distance()
    )
    away = {name: value + 0.1 for name, value in priced.theta.items()}
    left = restricted(priced, ["log_weight"], away)
    assert left.price(left.theta) == pytest.approx(priced.price(away))
    fit = bl.pretrain(priced, P.ScoreMatching(**TINY), budget=BUDGET)
    assert fit.history[-1].penalty == 0


def test_problems_that_cannot_be_pretrained_are_refused() -> None:
    whole = problem()
    score = P.ScoreMatching(**TINY)
    y = whole.samples.data(torch.arange(2))
    blind = bl.UnsupervisedProblem(whole.energy, y, bl.criteria.SURE(0.1))
    for method in (score, P.ScalarFit()):
        with pytest.raises(bl.InputError, match="must be a BilevelProblem"):
            bl.pretrain(blind, method, budget=BUDGET)  # type: ignore[arg-type]
    exact = bl.regularisers.ExactTotalVariation(0.1)
    with pytest.raises(bl.InputError, match="∇R of the image"):
        bl.pretrain(problem(exact), score, budget=BUDGET)
    labels = bl.BilevelProblem(whole.energy, OfLabels(), whole.samples)
    with pytest.raises(bl.InputError, match="no images"):
        bl.pretrain(labels, score, budget=BUDGET)
    blur = bl.operators.GaussianBlur(1.0, size=5, learn=("sigma",))
    with pytest.raises(bl.InputError, match="nothing of the regulariser"):
        bl.pretrain(problem(tv(learn=()), operator=blur), score, budget=BUDGET)
    with pytest.raises(bl.InputError, match="a target"):
        bl.pretrain(whole, P.ScoreMatching(border=8, **TINY), budget=BUDGET)
    with pytest.raises(bl.InputError, match="log_weight"):
        bl.pretrain(whole, P.ScalarFit(["log_weigth"]), budget=BUDGET)
    with pytest.raises(bl.InputError, match="must be a Method"):
        bl.pretrain(whole, bl.algorithms.ISGD(), budget=BUDGET)  # type: ignore[arg-type]
    with pytest.raises(bl.InputError, match="no parameter"):
        bl.pretrain(whole, score, {"nothing": torch.zeros(())}, budget=BUDGET)
    with pytest.raises(bl.InputError, match="draws"):
        bl.learn(whole, score.solver(), budget=BUDGET)


@pytest.mark.parametrize(
    "make",
    [
        lambda: P.ScoreMatching(batch_size=0),
        lambda: P.ScoreMatching(size=0),
        lambda: P.ScoreMatching(rate=0.0),
        lambda: P.ScoreMatching(decay=0.0),
        lambda: P.ScoreMatching(decay=1.5),
        lambda: P.ScoreMatching(momentum=1.0),
        lambda: P.ScoreMatching(memory=1.0),
        lambda: P.ScoreMatching(noise=-0.1),
        lambda: P.ScoreMatching(border=-1),
        lambda: P.AdversarialRegularisation(penalty=0.0),
        lambda: P.ProximalTraining(first=0.5),
        lambda: P.ScalarFit(images=0),
        lambda: P.ScalarFit("log_weight"),
    ],
)
def test_numbers_outside_their_ranges_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(bl.InputError):
        make()


@pytest.mark.parametrize("group", [None, 2], ids=["ridge", "grouped"])
def test_the_norm_of_a_cascade_stays(group: int | None) -> None:
    """And losses do not depend on it, so that gradients agree with differences of them."""
    banks = [bank.double() for bank in random_cascade((2, 4), 3)]
    prior = (
        bl.regularisers.RidgeRegulariser(banks, 1.0, 20.0, 10.0, learn=("filters", "scaling"))
        if group is None
        else bl.regularisers.GroupedExperts(
            banks, 10.0, 0.1, group=group, learn=("filters", "scale")
        )
    )
    whole = problem(prior, dtype=DOUBLE)
    seen = view(whole, P.ScoreMatching(**TINY))
    names = [f"regulariser.filters.{k}" for k in range(2)]
    at = seen.value_and_grad(seen.theta, tol=1.0)
    way = seen.space.tangent({name: torch.randn_like(v) for name, v in seen.theta.items()})
    ends = [
        seen.look({n: v + step * way[n] for n, v in seen.theta.items()}, tol=1.0)[0].value
        for step in (-1e-5, 1e-5)
    ]
    slope = sum(float((at.grad[n] * way[n]).sum()) for n in way)
    assert (ends[1] - ends[0]) / 2e-5 == pytest.approx(slope, rel=1e-4)
    longer = seen.theta | {names[0]: 3 * seen.theta[names[0]]}
    assert seen.look(longer, tol=1.0)[0].value == pytest.approx(at.value, rel=1e-9)
    fit = bl.pretrain(whole, P.ScoreMatching(**TINY), budget=BUDGET)
    norms = [bl.regularisers.estimated_norm([t[n] for n in names]) for t in (seen.theta, fit.theta)]
    torch.testing.assert_close(norms[1], norms[0])
    assert not torch.equal(fit.theta[names[0]], seen.theta[names[0]])


@pytest.mark.parametrize("outer", [True, False])
def test_a_norm_that_nothing_else_stands_for_is_learned(outer: bool) -> None:
    """A sharpness says nothing of the size of responses; a weight around the cascade does."""
    banks = [bank.double() for bank in random_cascade((2, 4), 3)]
    prior: Any = bl.regularisers.RidgeRegulariser(
        banks, 1.0, 20.0, 10.0, learn=("filters", "sharpness")
    )
    if outer:
        prior = bl.regularisers.Rescaled(prior, learn=("weight",))
    whole = problem(prior, dtype=DOUBLE)
    fit = bl.pretrain(whole, P.ScoreMatching(**TINY), budget=BUDGET)
    names = [n for n in whole.theta if "filters" in n]
    before, after = (
        float(bl.regularisers.estimated_norm([theta[n] for n in names]))
        for theta in (whole.theta, fit.theta)
    )
    assert (after == pytest.approx(before, rel=1e-9)) == outer


def test_squares_are_kept_as_long_as_asked_for() -> None:
    moments = Moments.zeros({"w": torch.zeros((), dtype=DOUBLE)})
    slopes = [torch.tensor(s, dtype=DOUBLE) for s in (100.0, 1.0, -2.0)]
    for slope in slopes:
        direction, moments = moments.scaled({"w": slope}, kept=0.5, memory=0.25)
    first = (0.25 * 100 + 0.5 * 1 - 2) / (1 + 0.5 + 0.25)
    second = (0.0625 * 100**2 + 0.25 * 1 + 4) / (1 + 0.25 + 0.0625)
    assert float(direction["w"]) == pytest.approx(first / math.sqrt(second), rel=1e-12)


def test_the_memory_reaches_the_steps() -> None:
    ends = [
        bl.pretrain(problem(tv()), P.ScoreMatching(memory=m, **TINY), budget=BUDGET).theta
        for m in (0.1, 0.999)
    ]
    assert any(not torch.equal(ends[0][n], ends[1][n]) for n in ends[0])

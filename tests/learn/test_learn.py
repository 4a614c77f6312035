"""Algorithms on a scalar problem whose minimiser a dense search finds; fits on disk."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path

import pytest
import scipy.sparse
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.learn import Status
from bilevel.learn.algorithms import (
    HOAG,
    LBFGS,
    MAID,
    GaussNewton,
    ProjectedGradient,
    TorchOptimiser,
    TrustRegion,
)
from bilevel.learn.schedules import Adaptive, Constant, Geometric, Polynomial

NAME = "regulariser.log_weight"


def problem(weight: float = 0.05, dtype: torch.dtype = torch.float64) -> bl.BilevelProblem:
    images = bl.data.embedded_images(size=24).to(dtype)
    noise = bl.data.GaussianNoise(0.1)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise, seed=0)
    tv = bl.regularisers.TotalVariation(weight, 0.02, learn=("weight",))
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).to(dtype)
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


@pytest.fixture(scope="module")
def best() -> float:
    """log of the best weight, by golden-section search on tight solves."""
    p = problem()
    low, high = math.log(1e-3), math.log(1.0)
    ratio = (math.sqrt(5) - 1) / 2
    loss = lambda t: p.value({NAME: torch.tensor(t, dtype=torch.float64)}, tol=1e-9)  # noqa: E731
    for _ in range(45):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return (low + high) / 2


ALGORITHMS = {
    "geometric": ProjectedGradient(),
    "polynomial": ProjectedGradient(Polynomial(2.0)),
    "adaptive": ProjectedGradient(Adaptive()),
    "momentum": ProjectedGradient(accelerated=True),
    "growing batches": ProjectedGradient(batch_size=2, growth=1.5),
    "MAID": MAID(),
    "accelerated MAID": MAID(accelerated=True),
    "L-BFGS": LBFGS(),
    "HOAG": HOAG(),
    "Gauss-Newton": GaussNewton(),
    "Rprop": TorchOptimiser("Rprop", lr=0.3),
    "trust region": TrustRegion(),
}


@pytest.mark.parametrize("decades", [-2, 2])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_lands_at_the_dense_search_from_two_decades_away(
    name: str, decades: int, best: float
) -> None:
    p = problem(math.exp(best) * 10**decades)
    fit = bl.learn(p, ALGORITHMS[name], budget=bl.Budget(steps=80))
    assert fit.status in (Status.CONVERGED, Status.STATIONARY, Status.FLOOR)
    assert abs(float(fit.theta[NAME]) - best) <= 0.01


def test_fixed_step_and_minibatches(best: float) -> None:
    whole = ProjectedGradient(Geometric(0.7), step_size=300.0)
    fit = bl.learn(problem(math.exp(best) * 1.5), whole, budget=bl.Budget(steps=40))
    assert abs(float(fit.theta[NAME]) - best) <= 0.02
    batches = ProjectedGradient(Constant(1e-4), step_size=100.0, batch_size=3)
    fit = bl.learn(problem(math.exp(best) * 1.5), batches, budget=bl.Budget(steps=60))
    assert fit.status is Status.BUDGET
    assert abs(float(fit.theta[NAME]) - best) <= 0.15


@pytest.mark.parametrize("accelerated", [False, True])
def test_certified_maid_proves_every_decrease(accelerated: bool) -> None:
    p = problem(0.01)
    certified = MAID(certified=True, accelerated=accelerated, tol=0.2)
    fit = bl.learn(p, certified, budget=bl.Budget(steps=6))
    accepted = [r for r in fit.history if r.accepted]
    assert len(accepted) >= 3
    for before, after in itertools.pairwise(accepted):
        assert after.corrected + after.interval <= before.corrected - before.interval


def test_broken_adjoint_systems_are_told() -> None:
    foe = bl.regularisers.FieldsOfExperts(weight=5.0, smoothing=0.05, potential="student-t")
    energy = bl.Variational(bl.fidelities.SquaredL2(), foe)
    target = torch.rand(4, 1, 12, 12)
    pairs = bl.data.simulate(target, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    cg = bl.hypergradients.Implicit("cg")
    p = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs, hypergradient=cg, max_steps=0)
    fit = bl.learn(p, budget=bl.Budget(steps=3))
    assert fit.status is Status.BROKEN


def test_theta_stays_in_its_set() -> None:
    p = problem()
    theta = {NAME: torch.tensor(50.0, dtype=torch.float64)}
    fit = bl.learn(p, ProjectedGradient(Constant(1e-2)), theta, budget=bl.Budget(steps=1))
    assert float(fit.history[0].scalars[NAME]) == pytest.approx(
        float(p.theta[NAME]) + math.log(1e6)
    )


def test_interrupt_ends_a_fit_that_can_be_used() -> None:
    def stop(record: bl.Record) -> None:
        if record.step == 2:
            raise KeyboardInterrupt

    p = problem()
    fit = bl.learn(p, budget=bl.Budget(steps=50), record=stop)
    assert fit.status is Status.INTERRUPTED
    assert len(fit.history) == 3
    assert float(fit.theta[NAME]) == fit.history[-1].scalars[NAME]


def test_the_energy_given_is_left_alone() -> None:
    p = problem(0.3)
    fit = bl.learn(p, budget=bl.Budget(steps=2))
    assert p.energy.regulariser.weight.item() == pytest.approx(0.3)
    assert fit.energy.regulariser.weight.item() != pytest.approx(0.3)


def test_saved_and_loaded(tmp_path: Path) -> None:
    p = problem(dtype=torch.float32)
    fit = bl.learn(p, budget=bl.Budget(steps=3), checkpoint=tmp_path / "running")
    running = bl.load(tmp_path / "running")
    assert running.status is fit.status
    fit.save(tmp_path / "a" / "b")
    again = bl.load(tmp_path / "a" / "b")
    assert again.theta == fit.theta
    assert list(map(str, again.history)) == list(map(str, fit.history))
    assert (again.status, again.cost) == (fit.status, fit.cost)
    y = p.samples.y
    assert torch.equal(again.reconstruct(y).x, fit.reconstruct(y).x)
    assert sorted(f.name for f in (tmp_path / "a" / "b").iterdir()) == [
        "fit.json",
        "fit.safetensors",
        "state.safetensors",
    ]


OPERATORS = [
    bl.operators.Identity(),
    bl.operators.Mask(torch.rand(8, 8) > 0.5),
    bl.operators.FourierMask(torch.rand(8, 8) > 0.3),
    bl.operators.Convolution(torch.rand(3, 3) + 0.1, boundary="reflecting"),
    bl.operators.Downsampling(2),
    bl.operators.Matrix(torch.rand(5, 64), (1, 8, 8)),
    bl.operators.Matrix(scipy.sparse.eye(64, format="csr", dtype="float32"), (1, 8, 8)),
    bl.operators.Downsampling(2) @ bl.operators.Convolution(torch.rand(3, 3)),
]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("weight", [0.1, torch.full((8, 8), 0.1)], ids=["scalar", "map"])
def test_every_operator_survives_saving(operator, weight, tmp_path: Path) -> None:
    regulariser = bl.regularisers.TotalVariation(weight) + bl.regularisers.Tikhonov(0.1)
    energy = bl.Variational(bl.fidelities.SquaredL2(operator), regulariser)
    target = torch.rand(1, 1, 8, 8)
    pairs = bl.data.simulate(target, operator, bl.data.NoNoise())
    p = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    fit = bl.learn(p, budget=bl.Budget(steps=1))
    again = bl.load(fit.save(tmp_path))
    assert torch.equal(again.energy(target, pairs.y), fit.energy(target, pairs.y))


def damage(folder: Path, how: str) -> Path:
    plain, tensors = folder / "fit.json", folder / "fit.safetensors"
    about = json.loads(plain.read_text())
    if how == "no tensors":
        tensors.unlink()
    elif how == "truncated tensors":
        tensors.write_bytes(tensors.read_bytes()[:40])
    elif how == "not json":
        plain.write_text("{")
    elif how == "foreign json":
        plain.write_text("[1, 2]")
    elif how == "other format":
        plain.write_text(json.dumps({**about, "format": "other"}))
    elif how == "unknown class":
        about["energy"]["options"]["regulariser"]["type"] = "TotalVariatoin"
        plain.write_text(json.dumps(about))
    elif how == "no history":
        del about["history"]
        plain.write_text(json.dumps(about))
    elif how == "bad record":
        about["history"][0]["extra"] = 1
        plain.write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no tensors", "damaged"),
        ("truncated tensors", "damaged"),
        ("not json", "damaged"),
        ("foreign json", "damaged"),
        ("other format", "was not written by bilevel"),
        ("unknown class", "did you mean 'TotalVariation'"),
        ("no history", "damaged"),
        ("bad record", "damaged"),
    ],
)
def test_damaged_fits_are_told(how: str, message: str, tmp_path: Path) -> None:
    fit = bl.learn(problem(), budget=bl.Budget(steps=1))
    folder = damage(fit.save(tmp_path), how)
    with pytest.raises(InputError, match=message):
        bl.load(folder)


def test_an_empty_or_missing_folder_holds_no_fit(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"holds no fit\.json"):
            bl.load(folder)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    fit = bl.learn(problem(), budget=bl.Budget(steps=1))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot save into"):
        fit.save(tmp_path / "file" / "fit")


def test_an_energy_of_ones_own_cannot_be_saved_silently() -> None:
    class Own(bl.Energy):
        """No description."""

        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

        def forward(self, x, y):
            return ((x - y).square() + self.w * x.square()).flatten(1).sum(1)

    p = bl.BilevelProblem(Own(), bl.losses.SquaredError(), problem().samples)
    fit = bl.learn(p, budget=bl.Budget(steps=1))
    with pytest.raises(InputError, match="cannot be described"):
        fit.save("unused")


def test_colour_images(tmp_path: Path) -> None:
    images = bl.data.embedded_images(size=16, grey=False)[:2]
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(0.01))
    fit = bl.learn(
        bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs), budget=bl.Budget(steps=5)
    )
    assert fit.history[-1].value < fit.history[0].value


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (bl.Budget, "finite limit"),
        (lambda: MAID(shrink=2.0), "shrink must lie"),
        (lambda: MAID(tol=-1.0), "tol must be"),
        (lambda: MAID(accuracy=bl.Accuracy(first=0.0)), "first accuracy"),
        (lambda: LBFGS(memory=0), "L-BFGS needs"),
        (lambda: LBFGS(accuracy=bl.Accuracy(floor=0.0)), "floor accuracy"),
        (lambda: ProjectedGradient(batch_size=4), "step_size"),
        (lambda: ProjectedGradient(step_size=-1.0), "step_size"),
        (lambda: Geometric(1.5), "factor"),
        (lambda: Polynomial(0), "power"),
        (lambda: Constant(0), "epsilon"),
        (lambda: start({"regulariser.log_wieght": torch.tensor(0.0)}), "did you mean"),
        (lambda: start({NAME: torch.tensor(math.nan, dtype=torch.float64)}), "finite"),
        (lambda: start({NAME: torch.zeros(3, dtype=torch.float64)}), "shape"),
        (lambda: start({NAME: torch.tensor(0.0)}), "float32"),
        (lambda: start({"fidelity.log_weight": torch.tensor(0.0)}), "no learnable parameter"),
        (lambda: batches_of(99), "batch_size must be at most"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def batches_of(size: int) -> bl.Fit:
    algorithm = ProjectedGradient(step_size=1.0, batch_size=size)
    return bl.learn(problem(), algorithm, budget=bl.Budget(steps=1))


def start(theta0: bl.Theta) -> bl.Fit:
    return bl.learn(problem(), theta0=theta0, budget=bl.Budget(steps=1))


CONTINUED = {
    **ALGORITHMS,
    "minibatches": ProjectedGradient(Constant(1e-4), step_size=100.0, batch_size=3),
}


@pytest.mark.parametrize("name", CONTINUED)
def test_steps_in_two_parts_equal_those_at_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same process, and from the disk on a problem made anew."""
    monkeypatch.setenv("BILEVEL_COMPILE", "never")  # not from some step on
    algorithm, first, later = CONTINUED[name], bl.Budget(steps=3), bl.Budget(steps=4)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = bl.learn(problem(0.3), algorithm, budget=bl.Budget(steps=7))
    p = problem(0.3)
    half = bl.learn(p, algorithm, budget=first)
    half.save(tmp_path)
    same = bl.learn(p, algorithm, budget=later, resume=half)
    again = bl.learn(problem(0.3), algorithm, budget=later, resume=bl.load(tmp_path))
    torch.set_num_threads(threads)
    for fit in (same, again):
        assert fit.theta == whole.theta
        assert fit.status is whole.status
        assert [spent(r) for r in fit.history] == [spent(r) for r in whole.history]


def spent(record: bl.Record) -> tuple[object, ...]:
    """All of a record but the seconds."""
    cost = record.cost
    return (*repr(record).partition("cost=")[0], cost.gradient_evaluations, cost.hvps)


def test_a_fit_is_continued_only_by_what_made_it() -> None:
    p = problem()
    fit = bl.learn(p, budget=bl.Budget(steps=1))
    cases = [
        ({"algorithm": LBFGS()}, "was made by"),
        ({"theta0": fit.theta}, "not both"),
    ]
    for options, message in cases:
        with pytest.raises(InputError, match=message):
            bl.learn(p, budget=bl.Budget(steps=1), resume=fit, **options)
    with pytest.raises(InputError, match="no state"):
        bl.learn(p, budget=bl.Budget(steps=1), resume=dataclasses.replace(fit, snapshot=None))
    with pytest.raises(InputError, match="samples"):
        bl.learn(few(p, 2), budget=bl.Budget(steps=1), resume=fit)


def few(p: bl.BilevelProblem, count: int) -> bl.BilevelProblem:
    return bl.BilevelProblem(p.energy, p.loss, p.samples[:count])


def test_other_images_are_not_continued_on() -> None:
    p = problem()
    fit = bl.learn(p, budget=bl.Budget(steps=1))
    other = bl.BilevelProblem(
        p.energy, p.loss, bl.data.Pairs(p.samples.y + 0.01, p.samples.target, p.samples.ids)
    )
    with pytest.raises(InputError, match="other samples"):
        bl.learn(other, budget=bl.Budget(steps=1), resume=fit)


def test_a_batch_proves_nothing_of_the_mean() -> None:
    batches = ProjectedGradient(Constant(1e-4), step_size=100.0, batch_size=3)
    fit = bl.learn(problem(), batches, budget=bl.Budget(steps=2))
    assert not any(r.whole for r in fit.history)
    assert all(math.isinf(r.interval) and math.isinf(r.error) for r in fit.history)


def test_the_checkpoint_is_the_fit_returned(tmp_path: Path) -> None:
    fit = bl.learn(problem(), budget=bl.Budget(steps=4), checkpoint=tmp_path)
    saved = bl.load(tmp_path)
    assert saved.status is fit.status
    assert saved.snapshot is not None
    assert saved.snapshot.records == len(saved.history) == len(fit.history)

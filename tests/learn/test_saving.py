"""Fits on disk: the same energy again or nothing, whatever happened to the files."""

from __future__ import annotations

import copy
import json
import math
import random
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import bilevel as bl
from bilevel.learn import checkpoint
from bilevel.learn.learn import Writer
from bilevel.model.group_norm import GroupNorm
from bilevel.model.operators import Operator
from bilevel.model.operators.operator import Interval

BUDGET = bl.Budget(steps=2)
MAID = bl.algorithms.MAID()


class Phase(Operator):
    """x -> Re(m x), with a complex buffer and an option that is complex."""

    def __init__(self, m: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("m", m)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.m * x).real + (self.m * x).imag

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return (self.m.real + self.m.imag) * y

    def data_shape(self, image_shape: Any) -> Any:
        return image_shape

    def gram_bounds(self, image_shape: Any) -> Interval:
        return Interval(0.0, 2.0)

    def options(self) -> dict[str, object]:
        return {"m": self.m}


class Forgetful(Phase):
    """Comes back as another operator than it was: options() leaves a number out."""

    def __init__(self, m: torch.Tensor, factor: float = 1.0) -> None:
        super().__init__(m)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * super().forward(x)

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self.factor * super().adjoint(y)


def problem(operator: Operator | None = None, dtype=torch.float64, **tv) -> bl.BilevelProblem:
    images = bl.data.embedded_images(size=8).to(dtype)[:2]
    seen = bl.operators.Identity() if operator is None else operator
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1), seed=0)
    regulariser = bl.regularisers.TotalVariation(0.005, 0.05, **tv)
    energy = bl.Variational(bl.fidelities.SquaredL2(seen), regulariser)
    for parameter in energy.parameters():
        parameter.data = parameter.data.to(dtype)
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


def phase(dtype: torch.dtype) -> torch.Tensor:
    angles = torch.linspace(0.1, 0.5, 64, dtype=torch.float64).view(8, 8)
    return torch.polar(torch.ones_like(angles), angles).to(dtype)


@pytest.mark.parametrize(
    ("dtype", "pair"), [(torch.float32, torch.complex64), (torch.float64, torch.complex128)]
)
def test_complex_buffers_keep_their_imaginary_part(dtype, pair, tmp_path: Path) -> None:
    p = problem(Phase(phase(pair)), dtype)
    fit = bl.learn(p, MAID, budget=BUDGET, checkpoint=tmp_path)
    again = bl.load(tmp_path)
    assert torch.equal(again.reconstruct(p.samples.y).x, fit.reconstruct(p.samples.y).x)


def test_a_class_of_the_same_name_is_not_taken_for_the_librarys(tmp_path: Path) -> None:
    fit = bl.learn(problem(), MAID, budget=BUDGET)
    fit.save(tmp_path)

    class TotalVariation(bl.regularisers.TotalVariation):
        """Of the same bare name."""

        def grad(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().grad(x)

    assert type(bl.load(tmp_path).energy.regulariser) is bl.regularisers.TotalVariation
    own = bl.Variational(bl.fidelities.SquaredL2(), TotalVariation(0.1))
    assert type(checkpoint._energy(*checkpoint.describe(own)).regulariser) is TotalVariation


def test_what_cannot_be_saved_is_said_before_learning(tmp_path: Path) -> None:
    class Own(bl.Energy):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return ((x - y).square() + self.w * x.square()).flatten(1).sum(1)

    own = bl.BilevelProblem(Own(), bl.losses.SquaredError(), problem().samples)
    for p, message in ((own, "cannot be described"), (forgetful(), "would change its gradient")):
        with pytest.raises(bl.InputError, match=message):
            bl.learn(p, MAID, budget=BUDGET, checkpoint=tmp_path / "fit")
        assert p.cost.gradient_evaluations == 0
        assert not (tmp_path / "fit").exists()
    with pytest.raises(bl.InputError, match="would change its gradient"):
        bl.learn(forgetful(), MAID, budget=BUDGET).save(tmp_path / "fit")


def forgetful() -> bl.BilevelProblem:
    return problem(Forgetful(phase(torch.complex128), 0.5))


OTHERS = {
    "isotropic = True": lambda p: problem(isotropic=False),
    "potential = 'charbonnier'": lambda p: problem(potential="huber"),
    "loss = SquaredError": lambda p: bl.BilevelProblem(p.energy, bl.losses.PSNR(), p.samples),
    "operator = Identity": lambda p: problem(bl.operators.Mask(torch.ones(8, 8)).double()),
    "other samples": lambda p: bl.BilevelProblem(p.energy, p.loss, p.samples[[1, 0]]),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_problem_is_not_continued_on(what: str) -> None:
    p = problem()
    fit = bl.learn(p, MAID, budget=BUDGET)
    with pytest.raises(bl.InputError, match=what):
        bl.learn(OTHERS[what](p), MAID, budget=BUDGET, resume=fit)


def test_nor_are_other_sums() -> None:
    def shared(centre: float) -> bl.SharedProblem:
        lower = bl.FiniteSum(2, lambda x, theta, ids: 0.5 * (x - theta["w"]).square().sum())
        upper = bl.FiniteSum(2, lambda x, theta, ids: 0.5 * (x - centre).square().sum())
        zero = torch.zeros(2, dtype=torch.float64)
        return bl.SharedProblem(lower, upper, {"w": zero}, zero)

    fit = bl.learn(shared(1.0), MAID, budget=bl.Budget(steps=1))
    with pytest.raises(bl.InputError, match="value of the upper level"):
        bl.learn(shared(2.0), MAID, budget=bl.Budget(steps=1), resume=fit)


def test_a_fit_says_in_short_what_it_is() -> None:
    text = str(bl.learn(problem(), MAID, budget=BUDGET))
    assert len(text) < 600
    for part in ("BUDGET", "2 steps", "MAID", "regulariser.log_weight = ", "gradients"):
        assert part in text


def test_loading_while_another_writes(tmp_path: Path) -> None:
    fits = [bl.learn(problem(), MAID, budget=bl.Budget(steps=k)) for k in (1, 3)]
    fits[0].save(tmp_path)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for fit in fits:
                fit.write(tmp_path, state=False)

    writer = threading.Thread(target=write)
    (tmp_path / "state.safetensors").unlink()
    writer.start()
    try:
        for _ in range(20):
            assert len(bl.load(tmp_path).history) in (2, 4)
    finally:
        stop.set()
        writer.join()


CONTENT = (None, True, -1, 0, 1.5, 10**400, "", "nan", "x", [], [[1]], {}, {"type": 1}, math.nan)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside."""
    inside = list(value.items()) if isinstance(value, dict) else []
    inside = list(enumerate(value)) if isinstance(value, list) else inside
    return [(value, key) for key, _ in inside] + [p for _, v in inside for p in places(v)]


def mutated(value: Any, rng: random.Random) -> Any:
    value = copy.deepcopy(value)
    where, key = rng.choice(places(value))
    how = rng.randrange(4)
    if how == 0:
        del where[key]
    elif how == 1 and isinstance(where, dict):
        where["extra"] = rng.choice(CONTENT)
    elif how == 2:
        where[key] = [where[key]]
    else:
        where[key] = rng.choice(CONTENT)
    return value


def spoiled(tensors: dict[str, torch.Tensor], rng: random.Random) -> dict[str, torch.Tensor]:
    tensors = {name: value.clone() for name, value in tensors.items()}
    name, how = rng.choice(list(tensors)), rng.randrange(4)
    value = tensors.pop(name)
    if how == 0 and value.is_floating_point():
        tensors[name] = torch.full_like(value, math.nan)
    elif how == 1:
        tensors[name] = torch.stack([value, value])
    elif how == 2:
        tensors[name] = value.to(torch.int64)
    return tensors


def fuzz(folder: Path, count: int) -> None:
    """No error but InputError, and nothing accepted with NaN, also when continued."""
    p = problem()
    bl.learn(p, MAID, budget=BUDGET).save(folder)
    plain, fit, state = (folder / name for name in ("fit.json", "fit.safetensors", STATE))
    before = {path: path.read_bytes() for path in (plain, fit, state)}
    about, tensors = json.loads(before[plain]), safetensors.torch.load(before[fit])
    with safetensors.safe_open(state, "pt") as file:
        inside = json.loads(file.metadata()["plain"])
    memory, rng = safetensors.torch.load(before[state]), random.Random(0)
    for k in range(count):
        for path, content in before.items():
            path.write_bytes(content)
        if k % 4 == 0:
            content = safetensors.torch.save(spoiled(tensors, rng))
            fit.write_bytes(content)
            digest = {"tensors": checkpoint.hashlib.sha256(content).hexdigest()}
            plain.write_text(json.dumps({**about, **digest}))
        elif k % 4 == 1:
            changed = {"plain": json.dumps(mutated(inside, rng))}
            state.write_bytes(safetensors.torch.save(memory, changed))
        elif k % 4 == 2:
            unchanged = {"plain": json.dumps(inside)}
            state.write_bytes(safetensors.torch.save(spoiled(memory, rng), unchanged))
        else:
            plain.write_text(json.dumps(mutated(about, rng)))
        try:
            again = bl.load(folder)
        except bl.InputError:
            continue
        assert all(bool(v.isfinite().all()) for v in again.theta.values())
        assert all(math.isfinite(r.value) for r in again.history)
        print(again)
        if again.snapshot is not None and k % 4 in (1, 2):
            try:
                again.snapshot.restore(MAID, p)
            except bl.InputError:
                continue
            assert p.memory.finite


STATE = "state.safetensors"


def test_damage_of_any_kind_is_told(tmp_path: Path) -> None:
    fuzz(tmp_path, 200)


@pytest.mark.long
def test_much_damage_of_any_kind_is_told(tmp_path: Path) -> None:
    fuzz(tmp_path, 1600)


class Multiplied(bl.regularisers.ExactTotalVariation):
    """Total variation times a factor that options() forgets."""

    def __init__(self, weight: float = 0.05, factor: float = 1.0) -> None:
        super().__init__(weight)
        self.factor = factor

    def term(self) -> GroupNorm:
        found = super().term()
        return replace(found, weight=self.factor * found.weight)

    def options(self) -> dict[str, object]:
        return {}


def test_what_would_come_back_as_another_non_smooth_energy_is_not_saved(tmp_path: Path) -> None:
    x = bl.data.embedded_images(size=12)[:1]
    pairs = bl.data.simulate(x, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    energy = bl.Variational(bl.fidelities.SquaredL2(), Multiplied(factor=4.0))
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    fit = bl.learn(problem, budget=bl.Budget(steps=1))
    with pytest.raises(bl.InputError, match="would change its value"):
        fit.save(tmp_path)


def test_a_box_that_the_data_leave_is_saved(tmp_path: Path) -> None:
    """J of the data themselves is infinite: nothing differs for that."""
    x = bl.data.embedded_images(size=12)[:1]
    pairs = bl.data.simulate(x, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    box = bl.regularisers.Box(0.4, 0.5)
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(0.1) + box)
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    fit = bl.load(bl.learn(problem, budget=bl.Budget(steps=1)).save(tmp_path))
    found = fit.reconstruct(pairs.y).x
    assert 0.4 <= float(found.min()) <= float(found.max()) <= 0.5


def test_a_fit_does_not_doubt_what_it_was_learned_from() -> None:
    """Pixels that are missing count as zeros, in learning as later."""
    rng = torch.Generator().manual_seed(0)
    x = 1000 + 10 * torch.rand(2, 1, 12, 12, generator=rng)
    mask = torch.rand(12, 12, generator=rng) > 0.3
    pairs = bl.data.simulate(x, bl.operators.Mask(mask), bl.data.GaussianNoise(1.0))
    fidelity = bl.fidelities.SquaredL2(bl.operators.Mask(mask))
    energy = bl.Variational(fidelity, bl.regularisers.TotalVariation() + bl.regularisers.Tikhonov())
    fit = bl.learn(
        bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs), budget=bl.Budget(steps=1)
    )
    assert fit.doubts(pairs.y) is None
    assert fit.doubts(0 * pairs.y) is None
    assert fit.doubts(1e-3 * pairs.y) is not None


@pytest.mark.parametrize("scale", [1 / 100, 255.0])
def test_a_fit_for_images_of_another_unit_warns(scale: float, tmp_path: Path) -> None:
    own = problem()
    fit = bl.learn(own, budget=bl.Budget(steps=1))
    again = bl.load(fit.save(tmp_path))
    y = own.samples.batch(torch.arange(1)).y
    assert again.contrast == fit.contrast
    again.reconstruct(0.3 * y)
    with pytest.warns(bl.BilevelWarning, match="bring the data to that scale"):
        again.reconstruct(scale * y)


@pytest.mark.parametrize("first", [checkpoint.PLAIN, checkpoint.TENSORS])
def test_a_writer_killed_between_its_two_files_leaves_a_whole_fit(
    first: str, tmp_path: Path
) -> None:
    x = bl.data.embedded_images(size=12)[:1]
    pairs = bl.data.simulate(x, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    fits = []
    for weight in (0.05, 0.08):
        tv = bl.regularisers.TotalVariation(weight, 0.05)
        energy = bl.Variational(bl.fidelities.SquaredL2(), tv)
        problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        fits.append(bl.learn(problem, budget=bl.Budget(steps=1)))
    old, new = tmp_path / "old", tmp_path / "new"
    fits[0].save(old)
    fits[1].save(new)
    waiting = old / ".saving-abc"
    waiting.mkdir()
    other = {checkpoint.PLAIN: checkpoint.TENSORS, checkpoint.TENSORS: checkpoint.PLAIN}[first]
    (new / checkpoint.STATE).replace(old / checkpoint.STATE)
    (new / first).replace(old / first)
    (new / other).replace(waiting / other)
    assert bl.load(old).theta.keys() == fits[1].theta.keys()
    for name, value in bl.load(old).theta.items():
        assert torch.equal(value, fits[1].theta[name])


def test_saving_takes_a_fifth_of_the_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However short the steps are and however long the history is."""
    now, spent = 0.0, 0.0

    class Slow:
        def write(self, folder: Path, *, state: bool) -> None:
            nonlocal now, spent
            took = 1.0 + 4.0 * state
            now, spent = now + took, spent + took

    def fit() -> Any:
        return Slow()

    monkeypatch.setattr(time, "monotonic", lambda: now)
    writer = Writer(tmp_path)
    for _ in range(2000):
        now += 0.3
        writer(fit)
    assert 0.1 < spent / now < 0.2

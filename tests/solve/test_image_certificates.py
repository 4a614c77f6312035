"""What is proved of the image where the state has further channels that nothing is proved of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.model import Reach
from bilevel.model.regularisers import ImageTerm, dct_filters
from bilevel.model.term import parts_of
from bilevel.solve import Claim, Status, Tolerance, certify
from bilevel.solve.policy import LEARNING, RECONSTRUCTING
from contracts.zoo import kernel, log_uniform, normal, slope

R, F, S = bl.regularisers, bl.fidelities, bl.solvers
SHAPE = (4, 5)
SCALES = (1.0, 1e-6, 65535.0)
DOUBLE = torch.float64
Random = torch.Generator


@dataclass(frozen=True)
class Problem:
    """At scale 1, with the minimising image and the minimum."""

    energy: bl.Variational
    y: Tensor
    image: Tensor
    lowest: float


def smooth(kind: type, **options: object) -> Callable[[Random], ImageTerm]:
    return lambda rng: kind(
        log_uniform(rng, -1.5, -0.5),
        log_uniform(rng, -0.7, 0.7),
        log_uniform(rng, -2, -0.7),
        **options,
    )


def exact(kind: type, **options: object) -> Callable[[Random], ImageTerm]:
    return lambda rng: kind(log_uniform(rng, -1.5, -0.5), log_uniform(rng, -0.7, 0.7), **options)


SMOOTH = {
    "tgv": smooth(R.TotalGeneralisedVariation),
    "tgv charbonnier": smooth(R.TotalGeneralisedVariation, potential="charbonnier"),
    "ictv": smooth(R.InfimalConvolutionTV),
    "ictv charbonnier": smooth(R.InfimalConvolutionTV, potential="charbonnier"),
    "tgv of two channels": smooth(R.TotalGeneralisedVariation, coupled=True),
    "ictv of two channels": smooth(R.InfimalConvolutionTV, coupled=True),
    "both": lambda rng: SMOOTH["tgv"](rng) + SMOOTH["ictv"](rng),
}
ROUGH = {
    "exact tgv": exact(R.ExactTotalGeneralisedVariation),
    "exact ictv": exact(R.ExactInfimalConvolutionTV),
    "exact tgv of two channels": exact(R.ExactTotalGeneralisedVariation, coupled=True),
}


def of(name: str, rng: Random) -> tuple[bl.Variational, Tensor]:
    """Denoising, or a blur with a ridge of the image; an edge and a ramp."""
    regulariser = {**SMOOTH, **ROUGH}[name](rng)
    images = 2 if "two" in name else 1
    fidelity = F.SquaredL2(weight=log_uniform(rng, -0.5, 0.5))
    if torch.rand((), generator=rng) < 0.5:
        fidelity = F.SquaredL2(bl.operators.Convolution(kernel(rng, 3, 3)))
        regulariser = regulariser + R.Tikhonov(log_uniform(rng, -1.5, 0))
    ramp = torch.linspace(0, 1, SHAPE[1]) + (torch.arange(SHAPE[0]) > 1)[:, None]
    y = ramp.expand(1, images, *SHAPE) + 0.2 * normal(rng, 1, images, *SHAPE)
    return bl.Variational(fidelity, regulariser).double(), y.float().double()


def newton(energy: bl.Variational, y: Tensor) -> Tensor:
    """A minimising state: the gradient that autograd finds of the value vanishes there."""
    objective, x = energy.at(y), None
    for solver, residual in ((S.LBFGS(), 1e-4), (S.NewtonCG(forcing=0.1), 1e-11)):
        tol = Tolerance(residual=residual)
        x = bl.minimise(objective, solver, x, tol=tol, max_steps=200).x
    assert isinstance(x, Tensor)
    assert float(slope(energy, x, y).norm()) < 1e-9
    return x


def admm(energy: bl.Variational, y: Tensor, steps: int = 4000) -> Tensor:
    """A minimising state by the alternating direction method on dense matrices."""
    start = energy.start(y)
    split = energy.split(y)
    units = torch.eye(start.numel(), dtype=DOUBLE).reshape(-1, *start.shape[1:])
    zero = torch.zeros_like(start)
    with torch.no_grad():
        hessian = split.smooth.hessian(zero.expand_as(units))(units).flatten(1)
        pull = split.smooth.grad(zero).flatten()
        matrices = [term.forward(units).flatten(1).T for term in split.dual]
    inverse = torch.linalg.pinv(hessian + sum(m.T @ m for m in matrices), hermitian=True)
    splits = [m @ zero.flatten() for m in matrices]
    duals = [torch.zeros_like(z) for z in splits]
    x = zero.flatten()
    for _ in range(steps):
        back = [m.T @ (z - u) for m, z, u in zip(matrices, splits, duals, strict=True)]
        x = inverse @ (sum(back) - pull)
        for k, (m, term) in enumerate(zip(matrices, split.dual, strict=True)):
            moved = m @ x + duals[k]
            parts = len(moved) // start[0, 0].numel() if term.group is None else term.group
            vectors = moved.reshape(parts, -1)
            size = vectors.norm(dim=0).clamp_min(1e-300)
            shrunk = vectors * (1 - term.weight.detach() / size).clamp_min(0.0)
            splits[k] = shrunk.flatten()
            duals[k] = moved - splits[k]
    return x.reshape(start.shape)


@cache
def problem(name: str, seed: int) -> Problem:
    energy, y = of(name, generator(seed, "image", name))
    state = newton(energy, y) if name in SMOOTH else admm(energy, y)
    with torch.no_grad():
        return Problem(energy, y, energy.image(state), float(energy.forward(state, y)))


def in_unit(energy: bl.Variational, scale: float) -> bl.Variational:
    """The same problem for data times the scale: weights of grey values and smoothings grow."""
    twin = copy.deepcopy(energy)
    with torch.no_grad():
        for part in parts_of(twin.regulariser):
            if part.further:
                part.log_weight += torch.tensor(scale).log()
                if hasattr(part, "log_smoothing"):
                    part.log_smoothing += torch.tensor(scale).log()
    return twin


CASES = [
    (name, dtype, scale)
    for (name, dtype), scale in zip(
        product((*SMOOTH, *ROUGH), (torch.float32, DOUBLE)), 7 * SCALES, strict=False
    )
]
QUICK = ("tgv", "ictv charbonnier", "ictv of two channels", "exact tgv", "exact ictv")


@pytest.mark.parametrize(
    ("name", "dtype", "scale", "seeds"),
    [
        *[(*case, 1) for case in CASES if case[0] in QUICK],
        *[pytest.param(*case, 6, marks=pytest.mark.long) for case in CASES],
    ],
)
def test_distance_and_gap_of_the_image_are_never_violated(
    name: str, dtype: torch.dtype, scale: float, seeds: int
) -> None:
    solver, proved = S.LBFGS() if name in SMOOTH else S.PDHG(), 0
    for seed in range(seeds):
        known = problem(name, seed)
        energy = in_unit(known.energy, scale)
        fine = energy.at(scale * known.y)
        objective = copy.deepcopy(energy).to(dtype).at((scale * known.y).to(dtype))
        best, room = scale * known.image, 1e-7 if dtype == DOUBLE else 1e-6
        state, done = solver.init(objective, objective.start()), 0
        for steps in (0, 3, 10, 30, 100, 300):
            with torch.no_grad():
                for _ in range(steps - done):
                    state = solver.step(objective, state)
            done, tol = steps, Tolerance(rms=1e-9 * scale)
            for proof in (
                certify(objective, state.x, tol, dual=solver.dual(state)),
                certify(objective, state.x, dual=solver.dual(state)),
            ):
                image = objective.image(state.x).double()
                assert int(proof.claim[0]) in (Claim.IMAGE, Claim.STATIONARY)
                off = float((image - best).square().mean().sqrt())
                assert off <= float(proof.rms) + room * scale
                above = float(fine.value(state.x.double())) - scale**2 * known.lowest
                assert above <= float(proof.gap) + room * scale**2 * (1 + known.lowest)
                assert bool((proof.curvature == 0).all())
                assert bool(proof.distance(image).isinf().all())
                proved += float(proof.rms) < 0.3 * scale
    assert proved >= seeds


@pytest.mark.parametrize(
    ("kind", "dtype", "scales"),
    [
        (R.TotalGeneralisedVariation, torch.float32, SCALES[1:2]),
        pytest.param(R.TotalGeneralisedVariation, torch.float32, SCALES, marks=pytest.mark.long),
        pytest.param(R.TotalGeneralisedVariation, DOUBLE, SCALES, marks=pytest.mark.long),
        pytest.param(R.InfimalConvolutionTV, torch.float32, SCALES, marks=pytest.mark.long),
        pytest.param(R.InfimalConvolutionTV, DOUBLE, SCALES, marks=pytest.mark.long),
    ],
)
def test_default_accuracy_is_that_of_the_image(
    kind: type, dtype: torch.dtype, scales: tuple[float, ...]
) -> None:
    """And met in float32 too, whose rounding would hide it: the solve goes on in float64."""
    for scale in scales:
        y = (scale * problem("tgv", 1).y).to(dtype)
        energy = bl.Variational(F.SquaredL2(), kind(0.1 * scale, 1.0, 1e-2 * scale)).to(dtype)
        objective, accuracy = energy.at(y), 1e-4 * scale
        asked = LEARNING.tolerance(objective, accuracy, dtype=dtype)
        assert asked == Tolerance(residual=max(asked.residual, accuracy))
        tol = RECONSTRUCTING.tolerance(objective, accuracy, dtype=dtype)
        assert tol == Tolerance(rms=accuracy)
        found = bl.minimise(objective, S.LBFGS(), tol=tol).require()
        assert found.x.dtype == dtype
        assert int(found.certificate.claim[0]) == Claim.IMAGE
        twin, fine = energy.double().at(y.double()), Tolerance(rms=1e-5 * scale)
        best = bl.minimise(twin, S.LBFGS(), found.x.double(), tol=fine).require()
        off = objective.image(found.x).double() - objective.image(best.x)
        bound = found.certificate.rms + best.certificate.rms
        assert float(off.square().mean().sqrt()) <= float(bound)


def test_accuracies_below_the_rounding_of_the_image_are_missed() -> None:
    y = problem("tgv", 1).y.float()
    lower = bl.Variational(F.SquaredL2(), R.TotalGeneralisedVariation(0.1, 1.0, 0.1)).at(y)
    found = bl.minimise(lower, S.LBFGS(), tol=Tolerance(rms=1e-8))
    assert found.status.tolist() == [Status.STALLED]


@pytest.mark.parametrize(
    "name",
    [
        "tgv",
        "exact tgv",
        pytest.param("ictv", marks=pytest.mark.long),
        pytest.param("exact ictv", marks=pytest.mark.long),
    ],
)
def test_usual_reconstructions_converge(name: str) -> None:
    kinds = {
        "tgv": R.TotalGeneralisedVariation,
        "ictv": R.InfimalConvolutionTV,
        "exact tgv": R.ExactTotalGeneralisedVariation,
        "exact ictv": R.ExactInfimalConvolutionTV,
    }
    image = bl.data.embedded_images(size=8)[:1]
    y = bl.data.simulate(image, bl.operators.Identity(), bl.data.GaussianNoise(0.1)).y
    for scale in SCALES[2:]:
        energy = bl.Variational(F.SquaredL2(), kinds[name](0.1 * scale))
        x = bl.reconstruct((scale * y).numpy(), energy)  # raises if not
        assert x.shape == y.shape


@pytest.mark.parametrize("name", ["tgv", "exact ictv"])
def test_nothing_is_proved_where_the_fidelity_is_not_strongly_convex(name: str) -> None:
    rng = generator(0, name)
    term, y = {**SMOOTH, **ROUGH}[name](rng), torch.rand(1, 1, *SHAPE, generator=rng).double()
    seen = F.SquaredL2(bl.operators.Mask(torch.rand(SHAPE, generator=rng) > 0.4))
    lower = bl.Variational(seen, term).double().at(y)
    proof = certify(lower, lower.start())
    assert bool(proof.rms.isinf().all())
    assert bool((proof.claim == Claim.STATIONARY).all())
    ridge = bl.Variational(seen, term + R.Tikhonov(0.01)).double().at(y)
    assert bool((certify(ridge, ridge.start()).claim == Claim.IMAGE).all())


def test_further_channels_without_a_reach_or_convexity_prove_nothing() -> None:
    class Silent(R.TotalGeneralisedVariation):
        def reach(self, x: Tensor, slope: Tensor) -> Reach:
            return Reach.unknown(x)

    y = torch.rand(1, 1, *SHAPE)
    lower = bl.Variational(F.SquaredL2(), Silent(0.1)).at(y)
    assert bool(certify(lower, lower.start()).rms.isinf().all())
    foe = R.FieldsOfExperts(dct_filters(3), weight=0.01, potential="student-t")
    energy = bl.Variational(F.SquaredL2(), foe + R.TotalGeneralisedVariation(0.1))
    lower = energy.at(y)
    weak = float(energy.image_bounds(y).mu)
    assert 0 < weak < 1
    assert float(lower.image_mu) == pytest.approx(weak)


@pytest.mark.parametrize("name", ["tgv", "exact tgv", "exact ictv"])
def test_boxes_hold_the_image_alone(name: str) -> None:
    known = problem(name, 1)
    low, high = 0.2, 1.1
    regulariser = known.energy.regulariser + R.Box(low, high)
    energy = bl.Variational(known.energy.fidelity, regulariser)
    objective = energy.at(known.y)
    solver = S.FISTA() if name in SMOOTH else S.PDHG()
    found = bl.minimise(objective, solver, tol=Tolerance(rms=2e-3)).require()
    image = objective.image(found.x)
    assert bool(((image >= low) & (image <= high)).all())
    assert float(found.x.min()) < low
    penalised = known.energy.at(known.y)
    inside = penalised.value(found.x)
    assert float(objective.value(found.x)) == pytest.approx(float(inside))
    outside = torch.cat([2 + image, found.x[:, image.shape[1] :]], 1)
    assert bool(objective.value(outside).isinf().all())
    assert bool((objective.value(objective.project(outside)).isfinite()).all())
    for seed in range(20):
        shift = 0.05 * normal(generator(seed), *found.x.shape).double()
        other = objective.project(found.x + shift)
        assert float(objective.value(other)) >= float(inside) - float(found.certificate.gap)


def test_a_solution_that_misses_the_image_says_so() -> None:
    known = problem("tgv", 0)
    found = bl.minimise(known.energy.at(known.y), S.LBFGS(), tol=Tolerance(rms=1e-9), max_steps=3)
    assert found.status.tolist() == [Status.MAX_STEPS]
    with pytest.raises(bl.NotCertified, match="raise max_steps"):
        found.require()

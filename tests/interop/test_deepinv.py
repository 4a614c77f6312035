"""Physics, noises and optimisers of deepinv, run for real where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import bilevel as bl
from contracts.operators import Case, OperatorContract, dense, images
from interop.foreign import imported

deepinv = imported("deepinv")
physics = deepinv.physics

SHAPE, PAIR = (1, 8, 10), (2, 8, 10)
KERNEL = torch.tensor([[0.05, 0.1, 0.0], [0.1, 0.4, 0.2], [0.0, 0.05, 0.1]], dtype=torch.float64)
SEEN = torch.rand(8, 10, generator=torch.Generator().manual_seed(0)) < 0.6
LINES = (torch.rand(10, generator=torch.Generator().manual_seed(1)) < 0.6).double().expand(8, 10)


def maps() -> Tensor:
    return bl.data.birdcage((8, 10), 3, dtype=torch.complex128)


def blur(padding: str) -> Any:
    return physics.Blur(filter=KERNEL[None, None].float(), padding=padding)


Pair = tuple[Callable[[], Any], Callable[[], bl.operators.Operator], tuple[int, int, int]]
PAIRS: dict[str, Pair] = {
    "blur": (
        lambda: blur("circular"),
        lambda: bl.operators.Convolution(KERNEL.float(), "circular"),
        SHAPE,
    ),
    "valid blur": (
        lambda: blur("valid"),
        lambda: bl.operators.Convolution(KERNEL.float(), "valid"),
        SHAPE,
    ),
    "inpainting": (
        lambda: physics.Inpainting(img_size=SHAPE, mask=SEEN[None].float()),
        lambda: bl.operators.Mask(SEEN),
        SHAPE,
    ),
    "downsampling": (
        lambda: physics.Downsampling(
            img_size=SHAPE, filter=KERNEL[None, None].float(), factor=2, padding="circular"
        ),
        lambda: bl.operators.Downsampling(2, KERNEL.float()),
        SHAPE,
    ),
    "MRI": (
        lambda: physics.MRI(mask=LINES.float()),
        lambda: bl.operators.MultiCoil(LINES.float(), centred=True),
        PAIR,
    ),
    "coils": (
        lambda: physics.MultiCoilMRI(mask=LINES.float(), coil_maps=maps()[None].cfloat()),
        lambda: bl.operators.MultiCoil(LINES.float(), maps().cfloat(), centred=True),
        PAIR,
    ),
}


def adapted(name: str) -> bl.operators.Operator:
    theirs, _, shape = PAIRS[name]
    return bl.interop.from_deepinv(theirs(), shape)


class TestPhysics(OperatorContract):
    cases = tuple(
        Case(name, lambda name=name: adapted(name), PAIRS[name][2], loose=1.0 + 1e-9)
        for name in ("valid blur", "inpainting", "coils")
    )


def energy(operator: bl.operators.Operator) -> bl.Variational:
    tv = bl.regularisers.TotalVariation(0.02, 0.05)
    ridge = bl.regularisers.Tikhonov(1e-3)
    return bl.Variational(bl.fidelities.SquaredL2(operator), tv + ridge).double()


@pytest.mark.parametrize("name", PAIRS)
def test_the_same_reconstruction_as_by_our_own_operator(name: str) -> None:
    _, ours, shape = PAIRS[name]
    x = images(shape, batch=2)
    found: list[Tensor] = []
    for operator in (adapted(name), ours()):
        whole = energy(operator)
        y = whole.fidelity.operator(x).detach()
        tol = bl.Tolerance(rms=1e-8)
        found.append(bl.minimise(whole.at(y), bl.solvers.LBFGS(), tol=tol).require().x)
    assert float((found[0] - found[1]).norm()) <= 1e-5 * float(found[1].norm())


@pytest.mark.parametrize("normalize", [False, True])
def test_tomography_is_its_own_dense_matrix(normalize: bool) -> None:
    theirs = physics.Tomography(angles=7, img_width=8, normalize=normalize)
    y = theirs(torch.rand(2, 1, 8, 8))
    theirs.A_adjoint(y)  # which it keeps in the precision of y
    operator = bl.interop.from_deepinv(theirs, (1, 8, 8))
    matrix = dense(operator, (1, 8, 8))
    x = images((1, 8, 8))
    assert float((operator(x).flatten(1) - x.flatten(1) @ matrix.T).abs().max()) <= 1e-12
    data = operator(x)
    back = (data.flatten(1) @ matrix).view_as(x)
    torch.testing.assert_close(operator.adjoint(data), back, rtol=1e-12, atol=1e-12)
    single = operator(x.float()).double()
    assert float((single - data).abs().max()) <= 1e-5 * float(data.abs().max())


def test_a_stack_is_its_parts_side_by_side() -> None:
    both = physics.stack(PAIRS["inpainting"][0](), PAIRS["valid blur"][0]())
    operator = bl.interop.from_deepinv(both, SHAPE)
    x = images(SHAPE, torch.float32)
    y = bl.interop.data_from_deepinv(both.A(x))
    torch.testing.assert_close(operator(x), y)
    torch.testing.assert_close(operator.adjoint(y), both.A_adjoint(both.A(x)))
    assert bl.check_adjoint(operator, SHAPE).passed
    with pytest.raises(bl.InputError, match="stack"):
        bl.interop.from_deepinv(both, SHAPE, norm=1.0)


class Unflipped(physics.LinearPhysics):  # type: ignore[misc, name-defined]
    def A(self, x: Tensor, **kwargs: object) -> Tensor:
        return x.roll(1, 3)

    def A_adjoint(self, y: Tensor, **kwargs: object) -> Tensor:
        return y.roll(1, 3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: bl.interop.from_deepinv(Unflipped(), SHAPE), "NOT"),
        (lambda: bl.interop.from_deepinv(physics.Physics(), SHAPE), "LinearPhysics"),
        (lambda: bl.interop.from_deepinv(PAIRS["inpainting"][0](), (1, 2, 2)), "apply failed"),
        (lambda: bl.interop.data_from_deepinv([torch.ones(1, 1, 2, 2), 3]), "TensorList"),
        (lambda: bl.interop.data_from_deepinv(3), "TensorList"),
    ],
)
def test_what_is_no_physics_is_refused(make, said: str) -> None:
    with pytest.raises(bl.InputError, match=said):
        make()


def tv() -> bl.regularisers.ImageTerm:
    return bl.regularisers.TotalVariation(0.3, 0.05).double()


PRIORS = {
    "smooth": tv,
    "sum": lambda: tv() + bl.regularisers.Tikhonov(0.1).double(),
    "exact TV": lambda: bl.regularisers.ExactTotalVariation(0.1).double(),
}


@pytest.mark.parametrize("gamma", [0.1, 3.0])
@pytest.mark.parametrize("name", PRIORS)
def test_proximal_points_are_what_their_definition_says(name: str, gamma: float) -> None:
    regulariser = PRIORS[name]()
    prior = bl.interop.to_deepinv_prior(regulariser, accuracy=1e-7)
    z = images(SHAPE, batch=2)
    found = prior.prox(z, None, gamma=gamma).detach()

    def defined(x: Tensor) -> Tensor:
        distance = (x - z).square().flatten(1).sum(1) / 2
        return gamma * regulariser(x).detach() + distance

    rng = torch.Generator().manual_seed(0)
    for size in (1e-1, 1e-2, 1e-3):
        for _ in range(5):
            other = found + size * torch.randn(z.shape, generator=rng, dtype=z.dtype)
            assert bool((defined(other) > defined(found)).all())


def test_gradient_and_value_are_those_of_the_regulariser() -> None:
    prior, x = bl.interop.to_deepinv_prior(tv()), images(SHAPE)
    assert prior.explicit_prior
    point = x.clone().requires_grad_()
    value = prior(point, None)
    assert value.shape == (3,)
    (slope,) = torch.autograd.grad(value.sum(), point)
    torch.testing.assert_close(prior.grad(x, None).detach(), slope)
    assert not x.requires_grad


def test_a_term_without_a_gradient_says_so() -> None:
    prior = bl.interop.to_deepinv_prior(bl.regularisers.ExactTotalVariation(0.1))
    with pytest.raises(bl.InputError, match="not smooth"):
        prior.grad(torch.ones(SHAPE)[None])


def test_proximal_points_are_differentiable_by_all_that_they_depend_on() -> None:
    prior = bl.interop.to_deepinv_prior(tv(), accuracy=1e-10)
    z, gamma = images(SHAPE, batch=1), torch.tensor(0.7, dtype=torch.float64)
    log = prior.energy.regulariser.log_weight

    def value(shift: float, name: str) -> Tensor:
        with torch.no_grad():
            log.add_(shift if name == "weight" else 0.0)
            step = gamma + (shift if name == "gamma" else 0.0)
            found = prior.prox(z, None, gamma=step).square().sum()
            log.sub_(shift if name == "weight" else 0.0)
        return found

    step = gamma.clone().requires_grad_()
    prior.prox(z, None, gamma=step).square().sum().backward()
    for name, found in (("weight", log.grad), ("gamma", step.grad)):
        expected = (value(1e-4, name) - value(-1e-4, name)) / 2e-4
        assert found is not None
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: bl.interop.to_deepinv_prior(bl.regularisers.TotalVariation()), "left to data"),
        (lambda: bl.interop.to_deepinv_prior(bl.fidelities.SquaredL2()), "regulariser"),
        (lambda: bl.interop.to_deepinv_prior(tv()).prox(images(SHAPE), gamma=0.0), "gamma"),
        (
            lambda: bl.interop.to_deepinv_prior(tv()).prox(
                images(SHAPE), gamma=torch.tensor([1.0, 2.0, 3.0])
            ),
            "gamma",
        ),
        (lambda: bl.interop.to_deepinv_reconstructor(tv()), "energy"),
    ],
)
def test_what_makes_no_prior_is_refused(make, said: str) -> None:
    with pytest.raises(bl.InputError, match=said):
        make()


OPTIMISERS = {
    "PGD": {"stepsize": 1.0},
    "FISTA": {"stepsize": 1.0},
    "ADMM": {"stepsize": 1.0},
    "GD": {"stepsize": 0.02},
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_of_deepinv_find_our_minimiser(name: str) -> None:
    theirs, ours, _ = PAIRS["blur"]
    forward = theirs().to(torch.float64)
    regulariser = tv() + bl.regularisers.Tikhonov(0.1).double()
    y = forward.A(images(SHAPE, batch=2))
    whole = bl.Variational(bl.fidelities.SquaredL2(ours()), regulariser).double()
    tol = bl.Tolerance(rms=1e-9)
    expected = bl.minimise(whole.at(y), bl.solvers.LBFGS(), tol=tol).require().x
    optimiser = getattr(deepinv.optim, name)(
        data_fidelity=deepinv.optim.data_fidelity.L2(),
        prior=bl.interop.to_deepinv_prior(regulariser, accuracy=1e-8),
        max_iter=800 if name == "GD" else 80,
        **OPTIMISERS[name],
    )
    found = optimiser(y, forward)
    assert float((found - expected).norm()) <= 1e-4 * float(expected.norm())


def learned() -> bl.Fit:
    operator = PAIRS["blur"][1]().double()
    pairs = bl.data.simulate(images(SHAPE), operator, bl.data.GaussianNoise(0.02))
    problem = bl.BilevelProblem(energy(operator), bl.losses.SquaredError(), pairs)
    return bl.learn(problem, budget=bl.Budget(steps=2))


def test_a_fit_is_a_reconstructor_with_or_without_a_physics() -> None:
    fit, forward = learned(), PAIRS["blur"][0]().to(torch.float64)
    y = forward.A(images(SHAPE, batch=2))
    expected = fit.reconstruct(y, bl.Tolerance(rms=1e-8)).require().x
    model = bl.interop.to_deepinv_reconstructor(fit.energy, accuracy=1e-8)
    assert isinstance(model, deepinv.models.Reconstructor)
    for found in (model(y), model(y, forward)):
        torch.testing.assert_close(found.detach(), expected, rtol=0.0, atol=1e-6)
    model(y, forward).sum().backward()
    named = dict(model.named_parameters())
    assert any(p.grad is not None and float(p.grad.abs().max()) > 0 for p in named.values())


def in_double(t: Tensor) -> Tensor:
    """As ``to(torch.float64)``, which makes complex buffers real."""
    if t.is_complex():
        return t.to(torch.complex128)
    return t.double() if t.is_floating_point() else t


@pytest.mark.parametrize("name", ["inpainting", "downsampling", "stack"])
def test_another_physics_takes_the_place_of_the_operator(name: str) -> None:
    fit = learned()
    if name == "stack":
        forward = physics.stack(PAIRS["inpainting"][0](), PAIRS["valid blur"][0]())
    else:
        forward = PAIRS[name][0]()
    for part in getattr(forward, "physics_list", [forward]):
        part._apply(in_double)
    y = forward.A(images(SHAPE, batch=2))
    found = bl.interop.to_deepinv_reconstructor(fit.energy, accuracy=1e-8)(y, forward).detach()
    regulariser = fit.energy.regulariser
    operator = bl.interop.from_deepinv(forward, SHAPE)
    own = bl.Variational(bl.fidelities.SquaredL2(operator), regulariser).double()
    data = bl.interop.data_from_deepinv(y)
    expected = bl.minimise(own.at(data), bl.solvers.LBFGS(), tol=bl.Tolerance(rms=1e-9)).require()
    torch.testing.assert_close(found, expected.x, rtol=0.0, atol=1e-6)


def test_it_can_be_saved_and_moved_like_any_module() -> None:
    fit = learned()
    model, twin = (bl.interop.to_deepinv_reconstructor(fit.energy) for _ in range(2))
    twin.load_state_dict(model.state_dict())
    y = images(SHAPE, torch.float32, batch=1)
    assert model.float()(y).dtype == torch.float32
    assert torch.equal(twin.float()(y), model(y))

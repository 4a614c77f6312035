"""Operators are parts: what is learned in them is learned rightly, and bounded or not claimed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import bilevel as bl
from bilevel.differentiate import EquilibriumPropagation, Hypergradient, Implicit, ValueFunction
from bilevel.ground import rows
from bilevel.ground.theta import bind, learnable
from bilevel.model.fidelities import Fidelity, KullbackLeibler, SquaredL2
from bilevel.model.operators import Convolution, Downsampling, Interval, Mask, Matrix, Operator
from bilevel.model.operators.boundary import Boundary
from bilevel.model.part import Part, space_of
from bilevel.model.sets import Box, Set

SHAPE = (1, 6, 8)
KERNEL = torch.tensor([[0.1, 0.2, 0.0], [0.3, 0.2, 0.2]])
LEARN = ("kernel",)


class Gain(Operator):
    """A x = g x, and nothing is said of g."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.8))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.gain * y

    def gram_bounds(self, image_shape: tuple[int, int, int]) -> Interval:
        square = float(self.gain.detach().double().square())
        return Interval(square * (1 - 1e-6), square * (1 + 1e-6))

    def sets(self) -> dict[str, Set]:
        return {"gain": Box(0.1, 2.0)}


class Gained(Convolution):
    """A blur that inherits what is said of kernels, with a gain that it forgets."""

    def __init__(self) -> None:
        super().__init__(KERNEL)
        self.gain = nn.Parameter(torch.tensor(0.8))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * super().forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.gain * super().adjoint(y)

    def gram_bounds(self, image_shape: tuple[int, int, int]) -> Interval:
        bounds, square = super().gram_bounds(image_shape), float(self.gain.detach()) ** 2
        return Interval(bounds.lower * square, bounds.upper * square * (1 + 1e-6))

    def gram_spectrum(self, image_shape: tuple[int, int, int]) -> None:
        """Not that of the blur."""


class Shifted(bl.regularisers.Tikhonov):
    """w/2 ‖x‖² + s Σ x²: a parameter that the inherited bounds forget."""

    def __init__(self) -> None:
        super().__init__(0.5)
        self.shift = nn.Parameter(torch.tensor(0.1))

    def bounds(self, image_shape: tuple[int, int, int]) -> bl.model.Bounds:
        extra = 2 * self.shift.detach().double()
        return super().bounds(image_shape) + bl.model.Bounds.of(extra, extra)

    def summands(self) -> None:
        """No pure functions."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.shift * x.square().flatten(1).sum(1)

    def grad(self, x: Tensor) -> Tensor:
        return super().grad(x) + 2 * self.shift * x


class Forgetful(bl.Energy):
    """½‖x - y‖² + s/2 ‖x‖² with bounds, and a variation that does not know s."""

    def __init__(self) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return 0.5 * ((x - y).square() + self.s * x.square()).flatten(1).sum(1)

    def bounds(self, y: Tensor) -> bl.model.Bounds:
        return bl.model.Bounds.of(1.0, 2.0)

    def variation(
        self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor
    ) -> bl.model.bounds.Variation:
        return bl.model.bounds.Variation.zero(x)


def fidelity(operator: Operator, kind: str) -> Fidelity:
    found = {"squared": SquaredL2(operator), "counts": KullbackLeibler(operator, 0.2)}
    return found[kind]


ENERGIES = {
    "operator": lambda: bl.Variational(SquaredL2(Gain()), bl.regularisers.Tikhonov(0.1)),
    "inherited": lambda: bl.Variational(SquaredL2(Gained()), bl.regularisers.Tikhonov(0.1)),
    "inherited in a sum": lambda: bl.Variational(
        SquaredL2(2.0 * (Gained() + Convolution(KERNEL))), bl.regularisers.Tikhonov(0.1)
    ),
    "composed": lambda: bl.Variational(
        SquaredL2(Convolution(KERNEL) @ Gain()), bl.regularisers.Tikhonov(0.1)
    ),
    "of counts": lambda: bl.Variational(
        KullbackLeibler(Gain(), 0.2), bl.regularisers.Tikhonov(0.1)
    ),
    "of a regulariser": lambda: bl.Variational(SquaredL2(), bl.regularisers.Tikhonov(0.1, Gain())),
    "regulariser": lambda: bl.Variational(SquaredL2(), Shifted()),
    "in a sum": lambda: bl.Variational(SquaredL2(), bl.regularisers.Tikhonov(0.1) + Shifted()),
    "beside a box": lambda: bl.Variational(SquaredL2(), Shifted() + bl.regularisers.Box(0.0, 1.0)),
    "energy": Forgetful,
}
METHODS = {"implicit": Implicit(), "chord": EquilibriumPropagation(), "penalty": ValueFunction()}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ENERGIES)
def test_nothing_is_claimed_of_a_parameter_that_no_bound_knows(name: str, method: str) -> None:
    energy = ENERGIES[name]().double()
    x = torch.rand(2, *SHAPE, dtype=torch.float64)
    y, way = x + 0.1, METHODS[method]
    lower, upper = energy.at(y), bl.Upper(bl.losses.SquaredError(), x)
    solver = bl.solve.solvers.accelerated(lower)
    found = bl.minimise(lower, solver, tol=bl.Tolerance(rms=1e-3))
    claimed: Hypergradient = way
    assert claimed(lower, upper, found.require()).bound == torch.inf


def test_learning_what_no_bound_knows_ends_without_a_proof() -> None:
    energy = bl.Variational(SquaredL2(Gain()), bl.regularisers.Tikhonov(0.1, learn=())).double()
    x = torch.rand(2, *SHAPE, dtype=torch.float64)
    pairs = bl.data.Pairs(0.7 * x, x, ("a", "b"))
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    assert problem.value_and_grad(problem.theta, tol=1e-3).error == torch.inf
    fit = bl.learn(problem, budget=bl.Budget(gradient_evaluations=2000))
    assert fit.status.name != "CONVERGED"
    name = "fidelity.operator.gain"
    assert float(space_of(energy).project({name: torch.tensor(9.0)})[name]) == 2.0


@pytest.mark.parametrize("kind", ["squared", "counts"])
@pytest.mark.parametrize("boundary", ["circular", "zero", "reflecting"])
def test_variation_of_a_learned_kernel_bounds_every_change(boundary: Boundary, kind: str) -> None:
    rng = torch.Generator().manual_seed(1)
    for _ in range(10):
        kernel = torch.randn(3, 2, generator=rng)
        term = fidelity(Convolution(kernel, boundary, learn=LEARN), kind).double()
        x = torch.rand(1, *SHAPE, generator=rng, dtype=torch.float64)
        y = torch.rand(1, *SHAPE, generator=rng, dtype=torch.float64)
        q = torch.randn(1, *SHAPE, generator=rng, dtype=torch.float64)
        radius = 10 ** (-2 * torch.rand(1, generator=rng, dtype=torch.float64))
        bound = term.variation(x, y, q, radius)
        here = jacobian(term, x, y)
        aimed = [q, (here @ (here.T @ q.flatten())).view_as(x), x]
        for shift in [torch.randn(x.shape, generator=rng, dtype=x.dtype), *aimed]:
            other = x + rows.expand(radius / rows.norm(shift), x) * shift
            there = jacobian(term, other, y)
            change = float(((there - here).T @ q.flatten()).norm())
            assert change <= float(bound.cross) * (1 + 1e-9)
            assert float(torch.linalg.matrix_norm(there, 2)) <= float(bound.cross_norm) * (1 + 1e-9)


def jacobian(term: Fidelity, x: Tensor, y: Tensor) -> Tensor:
    """∂∇Ψ/∂kernel, (pixels, taps)."""
    (name, value), *_ = learnable(term).items()

    def grad(kernel: Tensor) -> Tensor:
        return bind(term, {name: kernel}).grad(x, y).flatten()

    found = torch.autograd.functional.jacobian(grad, value)
    return found.detach().flatten(1)  # pyright: ignore


@pytest.mark.parametrize("boundary", ["circular", "zero", "reflecting"])
def test_a_kernel_is_learned(boundary: Boundary) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(2, *SHAPE, generator=rng, dtype=torch.float64)
    y = Convolution(KERNEL, boundary).double()(x)
    guess = Convolution(torch.ones(2, 3) / 6, boundary, learn=LEARN)
    energy = bl.Variational(SquaredL2(guess), bl.regularisers.Tikhonov(0.01, learn=())).double()
    pairs = bl.data.Pairs(y, x, ("a", "b"))
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    found = problem.value_and_grad(problem.theta, tol=1e-4)
    exact = problem.value_and_grad(problem.theta, tol=1e-11)
    (grad,), (truth,) = found.grad.values(), exact.grad.values()
    assert float((grad - truth).norm()) <= found.error < torch.inf
    assert bl.check_hypergradient(problem).passed


def test_bounds_are_those_of_the_kernel_bound() -> None:
    energy = bl.Variational(
        SquaredL2(Downsampling(2, KERNEL, learn=LEARN)), bl.regularisers.Tikhonov(0.1)
    ).double()
    y, theta = torch.rand(1, 1, 3, 4, dtype=torch.float64), learnable(energy)
    first = energy.at(y).bounds
    doubled = {k: 2 * v if "kernel" in k else v for k, v in theta.items()}
    again, twice = energy.at(y, theta).bounds, energy.at(y, doubled).bounds
    assert float(again.lipschitz) == float(first.lipschitz)
    rest = 0.1
    expected = 4 * (float(first.lipschitz) - rest) + rest
    assert float(twice.lipschitz) == pytest.approx(expected)


def test_a_gradient_that_would_be_lost_is_refused() -> None:
    kernel = KERNEL.clone().requires_grad_()
    with pytest.raises(bl.InputError, match=r"learn=\('kernel',\)"):
        Convolution(kernel)
    for make in (Mask, lambda k: Matrix(k, (1, 1, 3)), bl.regularisers.TotalVariation):
        with pytest.raises(bl.InputError, match="requires a gradient; give its detach"):
            make(kernel)
    with pytest.raises(bl.InputError, match="filters"):
        bl.regularisers.FieldsOfExperts(kernel[None, None])


def test_a_kernel_from_elsewhere_gets_its_gradient() -> None:
    energy = bl.Variational(SquaredL2(Convolution(KERNEL)), bl.regularisers.Tikhonov(0.1)).double()
    kernel, y = KERNEL.double().requires_grad_(), torch.rand(1, *SHAPE, dtype=torch.float64)
    theta = {"fidelity.operator.kernel": kernel}
    bl.argmin(energy, y, tol=bl.Tolerance(rms=1e-9), theta=theta).sum().backward()
    assert kernel.grad is not None
    assert float(kernel.grad.norm()) > 1e-3


@pytest.mark.parametrize("operator", [lambda x: x, nn.Identity(), object(), torch.ones(2, 2)])
def test_what_is_no_operator_is_refused(operator: object) -> None:
    for make in (SquaredL2, bl.fidelities.L1, KullbackLeibler):
        with pytest.raises(bl.InputError, match=r"must be an Operator.*derive a class"):
            make(operator)  # type: ignore[arg-type]
    with pytest.raises(bl.InputError, match="must be an Operator"):
        bl.regularisers.Tikhonov(0.1, operator)  # type: ignore[arg-type]


def test_an_operator_that_float64_does_not_reach_is_told_in_one_sentence() -> None:
    class Hidden(Operator):
        def __init__(self) -> None:
            super().__init__()
            self.banks = (torch.full((1, 1, 1, 1), 0.5),)

        def forward(self, x: Tensor) -> Tensor:
            return torch.conv2d(x, self.banks[0])

        def adjoint(self, y: Tensor) -> Tensor:
            return torch.conv2d(y, self.banks[0])

        def gram_bounds(self, image_shape: tuple[int, int, int]) -> Interval:
            return Interval(0.25 * (1 - 1e-6), 0.25 * (1 + 1e-6))

    assert issubclass(Hidden, Part)
    energy = bl.Variational(SquaredL2(Hidden()), bl.regularisers.Tikhonov(0.1))
    with pytest.raises(bl.InputError, match=r"float64.*\.double\(\) reaches them"):
        energy.at(torch.rand(1, *SHAPE)).double()


@pytest.mark.parametrize("boundary", ["circular", "zero", "reflecting", "valid"])
def test_bounds_of_a_width_are_the_same_in_both_types(boundary: Boundary) -> None:
    """What float32 says of curvature holds where float64 looks at its points again."""
    for width in (0.51, 0.9, 1.7):
        blur = bl.operators.GaussianBlur(width, 5, boundary, learn=("sigma",))
        single = blur.gram_bounds(SHAPE)
        assert single == blur.double().gram_bounds(SHAPE)

"""Certificates against exact minimisers, on every operator x regulariser."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import bilevel as bl
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Variation
from bilevel.model.group_norm import GroupNorm
from bilevel.model.operators.operator import Shape
from bilevel.model.regularisers.regulariser import ImageTerm
from bilevel.model.smooth import Smooth
from bilevel.solve import Tolerance, minimise
from bilevel.solve.certificate import certify
from bilevel.solve.solvers import Nesterov
from contracts.rows import rows
from contracts.zoo import OPERATORS, REGULARISERS, make, reference, slope

DTYPES = {"float64": torch.float64, "float32": torch.float32}


@pytest.mark.parametrize(
    ("operator", "regulariser", "dtype", "seed"), rows(OPERATORS, REGULARISERS, DTYPES, range(3))
)
def test_no_certificate_is_ever_too_small(
    operator: str, regulariser: str, dtype: str, seed: int
) -> None:
    case = make(operator, regulariser, seed, DTYPES[dtype])
    objective = case.energy.at(case.y)
    tol = Tolerance(rms=10.0 ** -(1 + 2 * seed))
    solution = minimise(objective, Nesterov(), tol=tol, max_steps=2000)
    exact = reference(case.energy, solution.x, case.y)
    distance = (solution.x.double() - exact).square().mean().sqrt()
    double = copy.deepcopy(case.energy).double()
    y = case.y.double()
    gap = double(solution.x.double(), y) - double(exact, y)
    certificate = solution.certificate
    assert bool(certificate.rms.isfinite()), "every energy of the zoo is strongly convex"
    assert float(distance) <= float(certificate.rms)
    assert float(gap.detach()) <= float(certificate.gap) + 1e-13
    if solution.converged:
        assert float(certificate.rms) <= tol.rms
        solution.require()


@pytest.mark.parametrize(
    ("operator", "regulariser", "seed"), rows(OPERATORS, REGULARISERS, range(100, 105))
)
def test_rounding_allowance_covers_the_rounding_of_a_gradient(
    operator: str, regulariser: str, seed: int
) -> None:
    case = make(operator, regulariser, seed, torch.float32)
    for x in (case.target, 1e3 * case.target, 1e-3 * case.target + 1):
        objective = case.energy.at(case.y)
        double = copy.deepcopy(case.energy).double()
        exact = slope(double, x.double(), case.y.double())
        error = (objective.grad(x).double() - exact).norm()
        assert float(error) <= float(objective.rounding(x))


@pytest.mark.parametrize("count", [400, 4000])
@pytest.mark.parametrize("noise", [1e1, 1e3, 1e5])
def test_large_data_that_the_operator_cannot_explain(count: int, noise: float) -> None:
    """Aᵀ(A x - y) is then a sum of large terms that cancel: the certificate must know."""
    a = torch.randn(count, 16, dtype=torch.float64)
    basis = torch.linalg.qr(a).Q
    apart = torch.randn(count, dtype=torch.float64)
    y = a @ torch.rand(16, dtype=torch.float64) + noise * (apart - basis @ (basis.T @ apart))
    operator = bl.operators.Matrix(a.float(), (1, 4, 4))
    energy = bl.Variational(bl.fidelities.SquaredL2(operator), bl.regularisers.Tikhonov(1e-3))
    data = y.float()[None, None, None]
    solution = minimise(energy.at(data), Nesterov(), tol=Tolerance(rms=1e-12), max_steps=500)
    exact = reference(energy, solution.x, data)
    distance = (solution.x.double() - exact).square().mean().sqrt()
    assert float(distance) <= float(solution.certificate.rms)


@pytest.mark.parametrize("operator", OPERATORS)
def test_declared_bounds_contain_the_spectrum(operator: str) -> None:
    from contracts.zoo import dense_hessian

    for regulariser in REGULARISERS:
        case = make(operator, regulariser, 7, torch.float64)
        for parameter in case.energy.parameters():
            parameter.requires_grad_(False)
        bounds = case.energy.bounds(case.y)
        eigenvalues = torch.linalg.eigvalsh(dense_hessian(case.energy, case.target, case.y))
        assert float(eigenvalues[0]) >= float(bounds.mu) - 1e-9
        assert float(eigenvalues[-1]) <= float(bounds.lipschitz) + 1e-9


def test_what_float64_says_of_a_row_leaves_the_floor_of_float32() -> None:
    """The allowance becomes that of float64, the floor stays; they were one tensor once."""
    y = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    tv = bl.regularisers.TotalVariation(0.05, 0.01)
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv)
    objective = energy.at(y)
    found = bl.minimise(objective, bl.solvers.Nesterov(), tol=bl.Tolerance(rms=1e-5))
    exact = certify(objective.double(), found.x.double())
    plain = certify(objective, found.x)
    torch.testing.assert_close(found.certificate.allowance, exact.allowance, rtol=0.1, atol=0.0)
    torch.testing.assert_close(found.certificate.floor, plain.floor, rtol=0.1, atol=0.0)
    assert bool((found.certificate.computed >= 0).all())


@dataclass(frozen=True)
class _Ridge(Smooth):
    """½ ‖x‖² of all channels."""

    def value(self, x: Tensor) -> Tensor:
        return 0.5 * x.square().flatten(1).sum(1)

    def grad(self, x: Tensor) -> Tensor:
        return x.clone()

    def hessian(self, x: Tensor) -> LinearMap:
        return LinearMap.shared(lambda v: v)

    def bounds(self, image_shape: Shape) -> Bounds:
        return Bounds.of(1.0, 1.0)

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        return Variation.zero(x)

    def magnitude(self, image_shape: Shape) -> Magnitude:
        return Magnitude(torch.ones(()).double(), torch.zeros(()).double())

    def rows(self, index: Tensor) -> _Ridge:
        return self


class _Wide(ImageTerm):
    """Total variation and a ridge of an image and one further channel."""

    further = 1

    def __init__(self) -> None:
        super().__init__()
        self.log_weight = nn.Parameter(torch.tensor(0.01).log())

    def at(self, y: Tensor | None) -> tuple[_Ridge, GroupNorm]:
        return _Ridge(), GroupNorm(bl.operators.Differences(), self.log_weight.exp(), group=2)

    def forward(self, x: Tensor) -> Tensor:
        ridge, norm = self.at(None)
        return ridge.value(x) + norm.value(norm.forward(x))


def test_distances_of_states_wider_than_the_image_speak_of_the_image() -> None:
    rng = torch.Generator().manual_seed(0)
    y = 1e6 * (1 + 1e-3 * torch.rand(1, 1, 16, 16, generator=rng))
    energy = bl.Variational(bl.fidelities.SquaredL2(weight=1e-3), _Wide())
    fine = copy.deepcopy(energy).double().at(y.double())
    exact = minimise(fine, bl.solvers.PDHG(), tol=Tolerance(rms=1e-4)).require()
    objective = energy.at(y)
    for rms in (8e-3, 3e-2):
        found = minimise(objective, bl.solvers.PDHG(), tol=Tolerance(rms=rms), max_steps=5000)
        off = objective.image(found.x).double() - fine.image(exact.x)
        distance = float(off.square().mean().sqrt()) - float(exact.certificate.rms)
        assert distance <= float(found.certificate.rms)

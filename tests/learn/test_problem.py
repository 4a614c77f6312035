from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

import bilevel as bl
from bilevel.ground import theta as algebra
from bilevel.ground.errors import InputError


def pairs(count: int = 4, size: int = 16, dtype: torch.dtype = torch.float64) -> bl.data.Pairs:
    images = bl.data.embedded_images(size=64)[:count, :, 20 : 20 + size, 20 : 20 + size].to(dtype)
    return bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1), seed=0)


def problem(weight: float = 0.05, count: int = 4, **options: object) -> bl.BilevelProblem:
    tv = bl.regularisers.TotalVariation(weight, 0.05)
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs(count), **options)  # type: ignore[arg-type]


def test_mean_over_samples_does_not_depend_on_chunks() -> None:
    whole, split = problem(), problem(chunk=3)
    a = whole.value_and_grad(whole.theta, tol=1e-8)
    b = split.value_and_grad(split.theta, tol=1e-8)
    assert a.value == pytest.approx(b.value, rel=1e-7)
    assert a.samples == b.samples == 4
    for name in a.grad:
        torch.testing.assert_close(a.grad[name], b.grad[name], rtol=1e-5, atol=1e-12)


def test_subsets_by_id_average_to_the_whole() -> None:
    p = problem()
    parts = [p.value_and_grad(p.theta, tol=1e-9, ids=torch.tensor([k])) for k in range(4)]
    whole = p.value_and_grad(p.theta, tol=1e-9)
    assert sum(e.value for e in parts) / 4 == pytest.approx(whole.value, rel=1e-7)


def test_warm_starts_save_work_and_change_nothing() -> None:
    p = problem()
    first = p.value_and_grad(p.theta, tol=1e-7)
    cold = p.cost.gradient_evaluations
    nearby = {k: v + 1e-3 for k, v in p.theta.items()}
    warm = p.value_and_grad(nearby, tol=1e-7)
    assert p.cost.gradient_evaluations - cold < 0.7 * cold
    fresh = problem()
    again = fresh.value_and_grad(nearby, tol=1e-7)
    assert abs(warm.corrected - again.corrected) <= warm.interval + again.interval
    assert first.uncertified == 0


def test_ledger_counts_what_was_done() -> None:
    p = problem(count=1)
    p.value(p.theta, tol=1e-6)
    cost = p.cost
    assert cost.gradient_evaluations > 10
    assert cost.hvps == 0
    assert cost.operator_applications == 2 * cost.gradient_evaluations
    assert cost.seconds > 0


@pytest.mark.parametrize("tol", [1e-2, 1e-4])
def test_mean_bounds_hold(tol: float) -> None:
    p = problem()
    truth = problem().value_and_grad(p.theta, tol=1e-12)
    found = p.value_and_grad(p.theta, tol=tol, estimate=True)
    assert abs(found.corrected - truth.corrected) <= found.interval
    assert algebra.norm(algebra.add(found.grad, truth.grad, -1.0)) <= found.error
    assert found.estimate <= found.error
    assert found.doubt == found.estimate
    assert found.proved


def test_a_parameter_shared_by_two_terms_stays_shared() -> None:
    tv = bl.regularisers.TotalVariation(0.05, 0.05)
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv + tv).double()
    p = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs(2))
    fit = bl.learn(p, budget=bl.Budget(steps=4))
    loss = bl.BilevelProblem(fit.energy, bl.losses.SquaredError(), pairs(2))
    at = loss.value_and_grad(fit.theta, tol=1e-6)
    last = fit.history[-1]
    assert abs(last.corrected - at.corrected) <= last.interval + at.interval
    assert bl.check_hypergradient(p).passed


def test_an_ill_conditioned_energy_without_constants_is_not_given_up() -> None:
    scales = torch.logspace(-4, 0, 64, dtype=torch.float64).reshape(1, 8, 8)

    class Stiff(bl.Energy):
        """Nothing declared; condition number 1e4."""

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return 0.5 * (scales * (x - y).square()).flatten(1).sum(1)

    y = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    tol = bl.Tolerance(residual=1e-10)
    bl.minimise(Stiff().at(y), bl.solvers.Nesterov(), torch.zeros_like(y), tol=tol).require()


def test_taylor_test_sees_a_wrong_sign_in_many_parameters() -> None:
    weight = torch.full((16, 16), 0.05)
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(weight, 0.05))
    p = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs(2, dtype=torch.float32))
    right = bl.check_hypergradient(p, tol=1e-5)
    assert right.passed, str(right)
    original = p.level.hypergradient

    class Opposite(bl.hypergradients.Implicit):
        """The negative of what it should be."""

        def __call__(self, *arguments, **options):
            found = original(*arguments, **options)
            return dataclasses.replace(found, grad={k: -v for k, v in found.grad.items()})

    p.level.hypergradient = Opposite()
    assert not bl.check_hypergradient(p, tol=1e-5).passed


def test_taylor_test_on_an_energy_of_ones_own() -> None:
    class Sharpened(bl.Energy):
        """log cosh on differences, by autograd; nothing declared."""

        def __init__(self) -> None:
            super().__init__()
            self.strength = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            bend = torch.log(torch.cosh(5 * (x[..., 1:] - x[..., :-1]))).flatten(1).sum(1)
            return 0.5 * (x - y).square().flatten(1).sum(1) + self.strength.square() * bend

    p = bl.BilevelProblem(Sharpened(), bl.losses.SquaredError(), pairs(2, 8))
    report = bl.check_hypergradient(p, tol=1e-10)
    assert report.passed, str(report)
    assert report.order == pytest.approx(2, abs=0.2)

    class Wrong(Sharpened):
        """A gradient that forgets half of θ's influence."""

        def grad(self, x: Tensor, y: Tensor) -> Tensor:
            true = super().grad(x, y)
            return true if not torch.is_grad_enabled() else true + 0.1 * self.strength * x

    p = bl.BilevelProblem(Wrong(), bl.losses.SquaredError(), pairs(2, 8))
    wrong = bl.check_hypergradient(p, tol=1e-10)
    assert not wrong.passed
    assert "DIFFERS" in str(wrong)


def test_taylor_test_passes_for_the_built_in_energies() -> None:
    assert bl.check_hypergradient(problem()).passed


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: problem(chunk=0), "chunk must be at least 1"),
        (
            lambda: bl.BilevelProblem(
                bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(learn=())),
                bl.losses.SquaredError(),
                pairs(dtype=torch.float32),
            ),
            "no learnable parameter",
        ),
        (
            lambda: bl.BilevelProblem(
                bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov()),
                bl.losses.SquaredError(),
                pairs(),
            ),
            "float64",
        ),
        (
            lambda: bl.BilevelProblem(
                bl.Variational(
                    bl.fidelities.SquaredL2(bl.operators.Downsampling(2)),
                    bl.regularisers.Tikhonov(),
                ),
                bl.losses.SquaredError(),
                pairs(dtype=torch.float32),
            ),
            r"targets must have shape \(c, h, w\) = \(1, 32, 32\)",
        ),
    ],
)
def test_bad_problems_are_refused(build, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()

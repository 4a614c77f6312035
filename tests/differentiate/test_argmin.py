from __future__ import annotations

import pytest
import torch
from torch import nn

import bilevel as bl
from bilevel.ground.errors import InputError, NotCertified
from bilevel.ground.theta import learnable
from contracts.saddles import accurate, saddle

TOL = bl.Tolerance(rms=1e-11)


def energy(**options: object) -> bl.Variational:
    tv = bl.regularisers.TotalVariation(0.2, 0.1, **options)  # type: ignore[arg-type]
    blur = bl.operators.Convolution(torch.ones(3, 3) / 9)
    ridge = bl.regularisers.Tikhonov(0.1, learn=())
    fidelity = bl.fidelities.SquaredL2(blur, learn=("weight",))
    return bl.Variational(fidelity, tv + ridge).double()


def layer(model: bl.Variational, y: torch.Tensor) -> torch.Tensor:
    return bl.argmin(model, y, tol=TOL, adjoint_rtol=1e-11)


def test_gradcheck_in_y() -> None:
    model = energy()
    y = torch.rand(2, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: layer(model, y), y, eps=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["fidelity.log_weight", "regulariser.terms.0.log_weight"])
def test_gradients_of_parameters_with_upstream_weights(name: str) -> None:
    model, y = energy(), torch.rand(2, 1, 4, 5, dtype=torch.float64)
    upstream = torch.randn(2, 1, 4, 5, dtype=torch.float64)
    (layer(model, y) * upstream).sum().backward()
    parameter = dict(model.named_parameters())[name]
    found = float(parameter.grad)

    def value(step: float) -> float:
        with torch.no_grad():
            parameter.add_(step)
            total = float((layer(model, y) * upstream).sum())
            parameter.sub_(step)
        return total

    assert found == pytest.approx((value(1e-4) - value(-1e-4)) / 2e-4, rel=1e-5)


def test_inside_a_network_trained_end_to_end() -> None:
    class Network(nn.Module):
        """A learned filter before the layer and a gain behind it."""

        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Conv2d(1, 1, 3, padding=1)
            self.energy = bl.Variational(
                bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(0.1, 0.1)
            )
            self.gain = nn.Parameter(torch.tensor(1.0))

        def forward(self, y: torch.Tensor) -> torch.Tensor:
            return self.gain * bl.argmin(self.energy, self.before(y), tol=bl.Tolerance(rms=1e-4))

    network, target = Network(), torch.rand(4, 1, 8, 8)
    y = target + 0.2 * torch.randn_like(target)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = (network(y) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    assert losses[-1] < 0.6 * losses[0]


def test_twice_in_one_graph_adds_up() -> None:
    model, y = energy(), torch.rand(1, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    (layer(model, y).sum() + layer(model, y).sum()).backward()
    twice = y.grad.clone()
    y.grad = None
    layer(model, y).sum().backward()
    torch.testing.assert_close(twice, 2 * y.grad)


def test_frozen_parameters_get_no_gradient() -> None:
    model = energy(learn=())
    y = torch.rand(1, 1, 4, 5, dtype=torch.float64)
    layer(model, y).sum().backward()
    assert model.regulariser.parts[0].log_weight.grad is None
    assert model.fidelity.log_weight.grad is not None


def test_without_anything_to_differentiate_it_is_a_solve() -> None:
    model = energy(learn=())
    model.fidelity.log_weight.requires_grad_(False)
    y = torch.rand(1, 1, 4, 5, dtype=torch.float64)
    assert not layer(model, y).requires_grad


def test_failures_are_loud() -> None:
    model, y = energy(), torch.rand(1, 1, 4, 5, dtype=torch.float64)
    with pytest.raises(NotCertified, match="MAX_STEPS"):
        bl.argmin(model, y, tol=TOL, max_steps=3)
    with pytest.raises(InputError, match="x0"):
        bl.argmin(model, y, tol=TOL, x0=y[..., 1:])
    with pytest.raises(InputError, match="float"):
        bl.argmin(model, y.float(), tol=TOL)
    foe = bl.regularisers.FieldsOfExperts(weight=5.0, smoothing=0.05, potential="student-t")
    wild = bl.Variational(bl.fidelities.SquaredL2(), foe).double()
    y = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    loose, conjugate = bl.Tolerance(residual=1e6), bl.hypergradients.Implicit("cg")
    x = bl.argmin(wild, y, tol=loose, x0=y, hypergradient=conjugate)
    with pytest.raises(NotCertified, match="minres"):
        (x * torch.randn_like(x)).sum().backward()


def test_parameters_computed_by_a_network() -> None:
    """A weight that is no leaf: its gradient reaches what it was computed from."""
    model, y = energy(learn=()), torch.rand(2, 1, 4, 5, dtype=torch.float64)
    source = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 1, 4, 5, dtype=torch.float64)

    def total(s: torch.Tensor) -> torch.Tensor:
        theta = {"regulariser.terms.0.log_weight": s.sin() - 1}
        x = bl.argmin(model, y, tol=TOL, theta=theta, adjoint_rtol=1e-11)
        return (x * upstream).sum()

    assert torch.autograd.gradcheck(total, source, eps=1e-4, atol=1e-6)


def test_autocast_leaves_the_layer_in_full_precision() -> None:
    """The network before it computes in bfloat16; solution and gradients are those in float32."""
    model = energy().float()
    y = torch.rand(1, 1, 6, 7)
    mix = torch.rand(6, 7, 6, 7).flatten(2).flatten(0, 1).requires_grad_()
    tol = bl.Tolerance(rms=1e-4)

    def forward() -> torch.Tensor:
        mixed = (y.flatten(1) @ mix / 20).reshape(1, 1, 6, 7)
        x = bl.argmin(model, mixed, tol=tol, adjoint_rtol=1e-5)
        return (x * torch.arange(7.0)).sum()

    (plain,) = torch.autograd.grad(forward(), mix)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = forward()
    assert value.dtype == torch.float32
    (mixed,) = torch.autograd.grad(value, mix)
    assert float((mixed - plain).norm() / plain.norm()) < 0.02
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = bl.minimise(model.at(y), bl.solvers.Nesterov(), tol=tol)
    outside = bl.minimise(model.at(y), bl.solvers.Nesterov(), tol=tol)
    torch.testing.assert_close(inside.require().x, outside.x, rtol=0, atol=0)


def test_wrong_input_is_named() -> None:
    y = torch.rand(1, 1, 4, 5, dtype=torch.float64)
    with pytest.raises(InputError, match="did you mean"):
        bl.argmin(energy(), y, tol=TOL, theta={"fidelity.log_wieght": torch.tensor(0.0)})
    with pytest.raises(InputError, match="float32 or float64"):
        bl.argmin(energy(), y.bfloat16(), tol=TOL)


@pytest.mark.parametrize("name", ["anisotropic", "isotropic map", "box", "two", "pixels"])
def test_energies_with_dual_terms(name: str) -> None:
    case = saddle(name)
    learned = {k: v.requires_grad_() for k, v in learnable(case.energy).items()}
    y = case.y.clone().requires_grad_()
    tol = bl.Tolerance(rms=1e-6)
    x = bl.argmin(case.energy, y, tol=tol, theta=learned, max_steps=50_000, adjoint_rtol=1e-8)
    case.upper.value(x).mean().backward()
    random = torch.Generator().manual_seed(5)
    direction = {k: torch.randn(v.shape, generator=random).double() for k, v in learned.items()}
    along = sum(float((learned[k].grad * d).sum()) for k, d in direction.items())  # pyright: ignore
    assert along == pytest.approx(case.slope(direction), rel=2e-3)
    push = torch.randn(y.shape, generator=random, dtype=torch.float64)
    ends = [accurate(case.energy, case.y + s * push, case.solution).x for s in (1e-4, -1e-4)]
    above, below = (float(case.upper.value(end).mean()) for end in ends)
    assert y.grad is not None
    assert float((y.grad * push).sum()) == pytest.approx((above - below) / 2e-4, rel=2e-3)


def test_dual_terms_need_their_solver() -> None:
    case = saddle("anisotropic")
    with pytest.raises(InputError, match=r"solvers\.PDHG"):
        bl.argmin(case.energy, case.y, tol=bl.Tolerance(rms=1e-3), solver=bl.solvers.Nesterov())

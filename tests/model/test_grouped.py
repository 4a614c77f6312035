"""Grouped experts: the formula written out, the envelope by its definition, bad groups."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.model.l1_ball import envelope, projection, threshold
from bilevel.model.regularisers import GroupedExperts
from bilevel.model.regularisers.cascade import layer_norm
from contracts.zoo import grouped


def smallest(u: Tensor, limit: Tensor) -> Tensor:
    """½‖u - v‖² + max |v_i| with v = u cut off at ``limit``: the best v has that form."""
    v = torch.minimum(torch.maximum(u, -limit), limit)
    return 0.5 * (u - v).square().sum(-1) + v.abs().amax(-1)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_the_envelope_is_the_least_value_of_its_definition(size: int) -> None:
    u = 2 * torch.randn(500, size, dtype=torch.float64)
    parts = u.unbind(-1)
    theta = threshold(parts)
    p = torch.stack(projection(parts, theta), -1)
    found = envelope(theta, p.unbind(-1))
    limits = torch.linspace(0, 1, 400, dtype=torch.float64) * u.abs().amax(-1, keepdim=True)
    values = torch.stack([smallest(u, limit[:, None]) for limit in limits.unbind(1)])
    torch.testing.assert_close(smallest(u, theta[:, None]), found)
    assert bool((found <= values.amin(0) + 1e-12).all())
    torch.testing.assert_close(values.amin(0), found, rtol=0, atol=1e-3)


def written_out(experts: GroupedExperts, x: Tensor) -> Tensor:
    """R(x) as the paper defines it."""
    w = x
    for bank in experts.filters:
        w = conv2d(w, bank, padding=(bank.shape[2] // 2, bank.shape[3] // 2))
    u = (w / experts.norm).unflatten(1, (experts.group, -1)).permute(0, 2, 3, 4, 1)
    scale, tau = experts.log_scale.exp()[:, None, None], experts.log_bluntness.exp()[:, None, None]
    square = torch.linalg.svdvals(experts.mixing)[:, 0].square()[:, None, None]

    def m(u: Tensor) -> Tensor:
        p = bl.extend.L1Ball().project(u)
        return (u - p).abs().amax(-1) + 0.5 * p.square().sum(-1)

    mixed = torch.einsum("kij,bkhwj->bkhwi", experts.mixing, u / scale[..., None])
    blunt = m(0.999 * mixed / (square * tau)[..., None])
    total = scale.square() * (m(u / scale[..., None]) - tau * square * blunt)
    return experts.log_weight.exp() * total.flatten(1).sum(1)


@pytest.mark.parametrize("size", [2, 4])
def test_the_formula_written_out(size: int) -> None:
    experts = grouped(torch.Generator().manual_seed(size), size).double()
    x = torch.rand(2, 1, 9, 7, dtype=torch.float64)
    expected = written_out(experts, x)
    torch.testing.assert_close(experts(x), expected)
    torch.testing.assert_close(experts.value_and_grad(x)[0], expected)
    torch.testing.assert_close(experts.value_and_grad(x)[1], experts.grad(x))
    assert bool((expected > 0).all())


def test_single_precision_agrees() -> None:
    experts = grouped(torch.Generator().manual_seed(0), 4).float()
    x = torch.rand(2, 1, 12, 10)
    twin = grouped(torch.Generator().manual_seed(0), 4).double()
    for found, expected in zip(
        experts.value_and_grad(x), twin.value_and_grad(x.double()), strict=True
    ):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_a_group_without_mixing_is_an_envelope_alone() -> None:
    """Q = 0: nothing is subtracted, and nothing is divided by 0."""
    bank = torch.randn(2, 1, 3, 3)
    norm = float(layer_norm(bank - bank.mean((2, 3), keepdim=True)))
    experts = GroupedExperts([bank], 1.0, 0.1, mixing=torch.zeros(1, 2, 2), group=2, norm=norm)
    x = torch.rand(1, 1, 5, 5)
    (slope,) = torch.autograd.grad(experts.grad(x).sum(), experts.mixing)
    assert bool(slope.isfinite().all())
    assert experts(x).item() > 0


def test_a_fit_is_certified_and_its_hypergradient_proved() -> None:
    bank = torch.randn(8, 1, 3, 3, generator=torch.Generator().manual_seed(3))
    learn = ("weight", "scale", "bluntness", "mixing")
    experts = GroupedExperts([bank], 0.5, 0.1, learn=learn)
    pairs = bl.data.simulate(
        bl.data.embedded_images(size=12)[:2], bl.operators.Identity(), bl.data.GaussianNoise(0.1)
    )
    energy = bl.Variational(bl.fidelities.SquaredL2(), experts).double()
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs.to(torch.float64))
    assert bl.check_hypergradient(problem).passed


def test_scales_may_follow_the_noise_level_of_every_image() -> None:
    """log s_k(σ) = log σ + a_k: the gradient by a is that of images one by one."""
    experts = grouped(torch.Generator().manual_seed(1), 4).double()
    energy = bl.Variational(bl.fidelities.SquaredL2(), experts).double()
    y = torch.rand(2, 1, 6, 5, dtype=torch.float64)
    sigma = torch.tensor([0.05, 0.2], dtype=torch.float64)

    def slope(index: list[int]) -> Tensor:
        offset = torch.tensor([-0.5, 0.3], dtype=torch.float64, requires_grad=True)
        theta = {"regulariser.log_scale": sigma[index, None].log() + offset}
        x = bl.argmin(energy, y[index], theta=theta, tol=bl.Tolerance(residual=1e-9))
        return torch.autograd.grad(x.square().sum(), offset)[0]

    torch.testing.assert_close(slope([0, 1]), slope([0]) + slope([1]), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": 4}, "6 channels of filters do not divide into groups"),
        ({"group": 0}, "do not divide"),
        ({"scale": torch.ones(3)}, r"scale must be a number or have shape \(2,\)"),
        ({"scale": -1.0}, "scale must be positive"),
        ({"bluntness": 0.5}, r"bluntness must lie in \[1, 1e4\]"),
        ({"mixing": torch.eye(3)}, r"mixing must have shape \(2, 3, 3\)"),
        ({"mixing": torch.ones(2, 3, 3)}, "rows of mixing exceed 1"),
        ({"learn": ("tau",)}, "learnable parameter"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GroupedExperts([torch.ones(6, 1, 3, 3)], **{"group": 3, **options})  # type: ignore[arg-type]


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(InputError, match="1 channel"):
        GroupedExperts([torch.ones(4, 1, 3, 3)]).check((3, 8, 8))

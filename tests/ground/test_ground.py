from __future__ import annotations

import platform
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from bilevel.ground import rows, theta
from bilevel.ground.checks import check_choice, check_images, check_nonnegative, check_positive
from bilevel.ground.errors import InputError, nearest
from bilevel.ground.memory import keep_freed_memory
from bilevel.ground.randomness import generator


@dataclass(frozen=True)
class Inner:
    a: Tensor


@dataclass(frozen=True)
class Outer:
    inner: Inner
    b: Tensor
    name: str


def test_take_and_put_reach_nested_tensors() -> None:
    tree = Outer(Inner(torch.arange(4)), torch.arange(8).reshape(4, 2), "kept")
    part = rows.take(tree, torch.tensor([2, 0]))
    assert part.inner.a.tolist() == [2, 0]
    assert part.b.tolist() == [[4, 5], [0, 1]]
    assert part.name == "kept"
    rows.put(tree, torch.tensor([3, 1]), part)
    assert tree.inner.a.tolist() == [0, 0, 2, 2]


def test_put_reaches_tuples() -> None:
    tree = (torch.arange(3), (torch.zeros(3),))
    rows.put(tree, torch.tensor([2]), (torch.tensor([7]), (torch.ones(1),)))
    assert tree[0].tolist() == [0, 1, 7]
    assert tree[1][0].tolist() == [0, 0, 1]


def test_rows_are_joined_one_after_the_other() -> None:
    tree = (torch.arange(4), (torch.rand(4, 2), "kept"))
    joined = rows.join([rows.take(tree, torch.tensor(part)) for part in ([0, 1], [2], [3])])
    assert bool((joined[0] == tree[0]).all())
    assert bool((joined[1][0] == tree[1][0]).all())
    assert joined[1][1] == "kept"


def test_row_reductions() -> None:
    x = torch.tensor([[3.0, -4.0], [1.0, 1.0]])
    assert rows.norm(x).tolist() == pytest.approx([5.0, 2**0.5])
    assert rows.rms(x).tolist() == pytest.approx([5 / 2**0.5, 1.0])
    assert rows.norm_inf(x).tolist() == [4.0, 1.0]
    assert rows.expand(torch.ones(2), torch.ones(2, 3, 4)).shape == (2, 1, 1)


def test_bind_leaves_the_module_alone_and_passes_gradients() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = {k: v.clone() for k, v in net.named_parameters()}
    new = {k: torch.randn_like(v, requires_grad=True) for k, v in net.named_parameters()}
    x = torch.randn(5, 2)
    expected = torch.func.functional_call(net, new, (x,))
    twin = theta.bind(net, new)
    torch.testing.assert_close(twin(x), expected)
    twin(x).sum().backward()
    assert all(v.grad is not None for v in new.values())
    assert all(torch.equal(v, before[k]) for k, v in net.named_parameters())


def test_bind_keeps_what_is_learnable() -> None:
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    twin = theta.bind(layer, {k: v.detach() for k, v in layer.named_parameters()})
    assert twin.weight.requires_grad
    assert not twin.bias.requires_grad


def test_theta_algebra() -> None:
    a = {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0)}
    assert theta.inner(a, a) == 14
    assert theta.norm(a) == pytest.approx(14**0.5)
    assert theta.add(a, a, -1.0)["w"].tolist() == [0, 0]
    again = theta.unflatten(theta.flatten(a), a)
    assert all(torch.equal(again[k], a[k]) for k in a)


def test_generators_depend_on_names_only() -> None:
    draw = lambda *key: torch.randn(3, generator=generator(0, *key)).tolist()  # noqa: E731
    assert draw("a") == draw("a")
    assert draw("a") != draw("b")
    assert draw("a", "b") != draw("ab")


def test_memory_setting_answers() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_positive(float("inf"), "step"), "step must be a positive finite number"),
        (lambda: check_nonnegative(-1, "sigma"), "sigma must be .* not negative"),
        (
            lambda: check_choice("lin", ["line", "grid"], "rule"),
            "unknown rule.*did you mean 'line'",
        ),
        (lambda: check_choice("zzz", ["line", "grid"], "rule"), "choose one of grid, line"),
        (lambda: check_images(torch.zeros(3, 3), "x"), r"\(b, c, h, w\)"),
        (lambda: check_images(torch.zeros(1, 1, 3, 3).half(), "x"), "float32 or float64"),
        (lambda: theta.bind(nn.Linear(1, 1), {"wait": torch.zeros(1, 1)}), "did you mean 'weight'"),
        (lambda: theta.bind(nn.Linear(1, 1), {"weight": torch.zeros(2)}), "has shape"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_nearest() -> None:
    assert nearest("smothing", ["smoothing", "weight"]) == "did you mean 'smoothing'?"

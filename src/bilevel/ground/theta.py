"""θ as a dict: names as ``named_parameters`` gives them; never written into modules."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from bilevel.ground.errors import InputError, nearest

__all__ = [
    "Theta",
    "add",
    "bind",
    "derivative",
    "flatten",
    "frozen",
    "inner",
    "learnable",
    "leaves",
    "norm",
    "unflatten",
]

Theta = dict[str, Tensor]
M = TypeVar("M", bound=nn.Module)


def learnable(module: nn.Module) -> Theta:
    """The parameters of ``module`` that are to be learned (``requires_grad``), detached copies."""
    named: Iterator[tuple[str, Tensor]] = module.named_parameters()
    return {name: p.detach().clone() for name, p in named if p.requires_grad}


def bind(module: M, theta: Theta) -> M:
    """A shallow copy of ``module`` whose parameters are the tensors of ``theta``.

    The original is untouched, buffers are shared, gradients flow to the tensors given, and what
    is learnable in ``module`` (``requires_grad``) stays so.

    Raises:
        InputError: a name that the module does not have, or a shape that differs.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> twin = bind(layer, {"weight": torch.zeros(1, 1)})
        >>> float(twin.weight.detach())
        0.0
    """
    known: dict[str, Tensor] = dict(module.named_parameters())
    for name, value in theta.items():
        if name not in known:
            raise InputError(f"θ has no parameter '{name}'", advice=nearest(name, known))
        if value.shape != known[name].shape:
            shape = tuple(known[name].shape)
            raise InputError(f"parameter '{name}' has shape {shape}", given=tuple(value.shape))
    values: dict[int, Tensor] = {}
    for name, value in theta.items():
        lost = known[name].requires_grad and not value.requires_grad
        values[id(known[name])] = value.detach().requires_grad_() if lost else value
    return _bind(module, values)


def frozen(module: M) -> M:
    """A shallow copy of ``module`` of which nothing is learned."""
    return _bind(module, {id(p): p.detach() for p in module.parameters()})


def _bind(module: M, values: dict[int, Tensor]) -> M:
    """Replace parameters by identity, so that a parameter shared by two modules stays shared."""
    twin = copy.copy(module)
    own: dict[str, Tensor | None] = {}
    for name, parameter in module._parameters.items():  # pyright: ignore[reportPrivateUsage]
        own[name] = None if parameter is None else values.get(id(parameter), parameter)
    children: dict[str, nn.Module | None] = {}
    for name, child in module._modules.items():  # pyright: ignore[reportPrivateUsage]
        children[name] = None if child is None else _bind(child, values)
    twin.__dict__["_parameters"] = own
    twin.__dict__["_modules"] = children
    return twin


def inner(a: Theta, b: Theta) -> float:
    """Euclidean inner product, accumulated in float64.

    Example:
        >>> inner({"w": torch.ones(2)}, {"w": torch.ones(2)})
        2.0
    """
    return float(sum(float((a[k].double() * b[k].double()).sum()) for k in a))


def norm(a: Theta) -> float:
    """Euclidean norm."""
    return inner(a, a) ** 0.5


def add(a: Theta, b: Theta, scale: float = 1.0) -> Theta:
    """``a + scale * b``, name by name."""
    return {k: a[k] + scale * b[k] for k in a}


def flatten(theta: Theta) -> Tensor:
    """All values as one float64 vector, in the order of the dict."""
    return torch.cat([v.detach().double().flatten() for v in theta.values()])


def unflatten(vector: Tensor, like: Theta) -> Theta:
    """The inverse of :func:`flatten`, with shapes, dtypes and devices of ``like``."""
    parts = torch.split(vector, [v.numel() for v in like.values()])
    return {k: p.reshape(v.shape).to(v) for (k, v), p in zip(like.items(), parts, strict=True)}


def leaves(theta: Theta) -> Theta:
    """The same values as leaves that autograd differentiates by."""
    return {name: value.detach().requires_grad_() for name, value in theta.items()}


def derivative(total: Tensor, theta: Theta) -> Theta:
    """∂_θ of a sum; zero for what it does not depend on."""
    if not total.requires_grad:
        return {name: torch.zeros_like(value) for name, value in theta.items()}
    found = torch.autograd.grad(
        total, list(theta.values()), allow_unused=True, materialize_grads=True
    )
    return dict(zip(theta, found, strict=True))

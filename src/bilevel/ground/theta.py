"""θ as a dict: names as ``named_parameters`` gives them; never written into modules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, MutableMapping
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from bilevel.ground.errors import InputError, nearest

__all__ = [
    "Theta",
    "add",
    "bind",
    "check_names",
    "derivative",
    "fixed",
    "flatten",
    "frozen",
    "inner",
    "learnable",
    "leaves",
    "norm",
    "placed",
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
    check_names(module, theta)
    for name, value in theta.items():
        if value.shape != known[name].shape:
            shape = tuple(known[name].shape)
            raise InputError(f"parameter '{name}' has shape {shape}", given=tuple(value.shape))
    values: dict[int, Tensor] = {}
    for name, value in theta.items():
        lost = known[name].requires_grad and not value.requires_grad
        values[id(known[name])] = value.detach().requires_grad_() if lost else value
    return _rebuilt(module, lambda tensor: values.get(id(tensor), tensor))


def check_names(module: nn.Module, theta: Theta) -> None:
    """Raise InputError for a name that the module does not have."""
    known: dict[str, Tensor] = dict(module.named_parameters())
    for name in theta:
        if name not in known:
            raise InputError(f"θ has no parameter '{name}'", advice=nearest(name, known))


def placed(module: M, theta: Theta) -> M:
    """As :func:`bind`, whatever shapes the values have and whether they require gradients."""
    known: dict[str, Tensor] = dict(module.named_parameters())
    values = {id(known[name]): value for name, value in theta.items()}
    return _rebuilt(module, lambda tensor: values.get(id(tensor), tensor))


def frozen(module: M) -> M:
    """A shallow copy of ``module`` with parameters and buffers of its own, detached.

    Whoever writes into those of ``module`` later, in whatever way, does not change the copy.
    Copies are kept and used again while the values are the same.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> twin, before = frozen(layer), float(layer.weight.detach())
        >>> _ = layer.weight.data.fill_(before + 1)
        >>> float(twin.weight.detach()) == before
        True
    """
    with torch.inference_mode(False), torch.no_grad():
        return _rebuilt(module, _own_copy)


def fixed(module: M) -> M:
    """A shallow copy of ``module`` of which nothing is learned; it shares all values."""
    return _rebuilt(module, torch.Tensor.detach)


_COPIES = cast("MutableMapping[Tensor, Tensor]", WeakIdKeyDictionary())


def _own_copy(tensor: Tensor) -> Tensor:
    """A copy that nobody else can write into: the last one if it still has the same values."""
    kept = _COPIES.get(tensor)
    if kept is None or not _same(kept, tensor):
        kept = tensor.detach().clone().requires_grad_(tensor.requires_grad)
        _COPIES[tensor] = kept
    return kept


def _same(a: Tensor, b: Tensor) -> bool:
    alike = a.dtype == b.dtype and a.device == b.device and a.shape == b.shape
    plain = a.layout is torch.strided and b.layout is torch.strided
    return plain and alike and a.requires_grad == b.requires_grad and torch.equal(a, b)


def _rebuilt(module: M, replace: Callable[[Tensor], Tensor]) -> M:
    """Shallow copies of all modules; tensors by identity, so that what is shared stays shared."""
    twin = copy.copy(module)
    for kind in ("_parameters", "_buffers"):
        own = cast(dict[str, Tensor | None], module.__dict__[kind])
        twin.__dict__[kind] = {k: None if t is None else replace(t) for k, t in own.items()}
    children: dict[str, nn.Module | None] = {}
    for name, child in module._modules.items():  # pyright: ignore[reportPrivateUsage]
        children[name] = None if child is None else _rebuilt(child, replace)
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

"""Describe a module by plain data and tensors, and build it again: no pickle, no imports."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from bilevel.ground.checks import check_finite
from bilevel.ground.errors import InputError
from bilevel.ground.naming import class_named, name_of_class
from bilevel.ground.typed import made, table
from bilevel.model.energy import Energy
from bilevel.model.part import Part
from bilevel.model.variational import Variational

__all__ = ["build", "describe"]

Description = dict[str, Any]


def describe(module: nn.Module) -> tuple[Description, dict[str, Tensor]]:
    """JSON-able description of ``module`` and the tensors it refers to.

    Raises:
        InputError: a part that is neither an operator nor a part of an energy.

    Example:
        >>> from bilevel.model.regularisers import Tikhonov
        >>> describe(Tikhonov(1.0))[0]["type"]
        'Tikhonov'
    """
    tensors: dict[str, Tensor] = {}
    description = _describe(module, "", tensors)
    for name, tensor in module.state_dict().items():
        tensors[f"state.{name}"] = tensor.detach().clone().contiguous()
    return description, tensors


def build(description: Description, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The module that :func:`describe` described; classes are looked up among those imported.

    Raises:
        InputError: an unknown class, or tensors that are missing or do not fit.
    """
    module = _build(description, tensors)
    if not isinstance(module, nn.Module):
        raise InputError("the description is not that of a module", given=repr(module)[:60])
    state = {k.removeprefix("state."): t for k, t in tensors.items() if k.startswith("state.")}
    own = cast(dict[str, Tensor], module.state_dict())
    for name in own.keys() ^ state.keys():
        raise InputError(f"the saved tensor '{name}' is {'missing' if name in own else 'unknown'}")
    inexact = [t.dtype for t in state.values() if t.is_floating_point() or t.is_complex()]
    dtypes = {dtype.to_real() for dtype in inexact}
    if len(dtypes) > 1:
        raise InputError("the saved tensors must share one dtype", given=sorted(map(str, dtypes)))
    for dtype in dtypes:
        module.to(dtype)
    for name, tensor in cast(dict[str, Tensor], module.state_dict()).items():
        saved = state[name]
        if saved.shape != tensor.shape or saved.dtype != tensor.dtype:
            expected = f"the saved tensor '{name}' must be {tensor.dtype} {tuple(tensor.shape)}"
            raise InputError(expected, given=f"{saved.dtype} {tuple(saved.shape)}")
        check_finite(saved, f"the saved tensor '{name}'")
    module.load_state_dict(state)
    for part in module.modules():
        if isinstance(part, Part):
            part.left.clear()  # what was left to the data has been saved
    return module


def _describe(value: object, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        if value.layout is not torch.strided:
            return _describe_sparse(value.detach().to_sparse_coo().coalesce(), path, tensors)
        tensors[path] = value.detach().clone().contiguous()
        return {"tensor": path}
    if isinstance(value, list | tuple):
        return [_describe(v, f"{path}.{i}", tensors) for i, v in enumerate(cast(list[Any], value))]
    if isinstance(value, nn.Module):
        options = _options(value)
        inner = {k: _describe(v, f"{path}.{k}".lstrip("."), tensors) for k, v in options.items()}
        return {"type": name_of_class(type(value)), "options": inner}
    if callable(value):
        advice = "derive a class from bilevel.extend whose options() are numbers, words and tensors"
        raise InputError(f"the function '{path}' cannot be saved", advice=advice)
    return value


def _describe_sparse(value: Tensor, path: str, tensors: dict[str, Tensor]) -> Any:
    tensors[f"{path}.indices"], tensors[f"{path}.values"] = value.indices(), value.values()
    return {"sparse": path, "shape": list(value.shape)}


def _options(module: nn.Module) -> dict[str, object]:
    if isinstance(module, Variational):
        return {"fidelity": module.fidelity, "regulariser": module.regulariser}
    if isinstance(module, Part) and not isinstance(module, Energy):
        return module.options()
    raise InputError(
        f"{type(module).__name__} cannot be described, so it cannot be saved",
        advice="derive it from Regulariser, Fidelity, Operator or Part and give it options()",
    )


def _build(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_build(v, tensors) for v in cast(list[Any], value)]
    if not isinstance(value, dict):
        return value
    entry = cast(dict[str, Any], value)
    if "tensor" in entry:
        return _find(tensors, entry["tensor"]).clone()
    if "sparse" in entry:
        return _build_sparse(entry, tensors)
    name = str(entry.get("type"))
    inside = table(entry.get("options"), f"the options of {name}")
    options = {k: _build(v, tensors) for k, v in inside.items()}
    kind = class_named(name, Part)
    taken = inspect.signature(kind).parameters
    before = {k: v for k, v in kind.before.items() if k in taken}
    return made(kind, {**before, **options}, name)


def _build_sparse(entry: dict[str, Any], tensors: Mapping[str, Tensor]) -> Tensor:
    indices, values = (_find(tensors, f"{entry['sparse']}.{k}") for k in ("indices", "values"))
    given = {"indices": indices, "values": values, "size": entry.get("shape")}
    return made(_Sparse, given, "a sparse tensor").tensor


class _Sparse:
    """A sparse tensor from its parts."""

    def __init__(self, indices: Tensor, values: Tensor, size: list[int]) -> None:
        self.tensor = torch.sparse_coo_tensor(indices, values, size, check_invariants=True)


def _find(tensors: Mapping[str, Tensor], name: object) -> Tensor:
    if not isinstance(name, str) or name not in tensors:
        raise InputError(f"the saved tensor '{name}' is missing")
    return tensors[name]

"""Describe a module by plain data and tensors, and build it again: no pickle, no imports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from bilevel.ground.errors import InputError, nearest
from bilevel.model.energy import Energy
from bilevel.model.operators.operator import Operator
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
    module = cast(nn.Module, _build(description, tensors))
    state = {k.removeprefix("state."): t for k, t in tensors.items() if k.startswith("state.")}
    for name, tensor in module.state_dict().items():
        if name not in state or state[name].shape != tensor.shape:
            raise InputError(f"the saved tensor '{name}' is missing or has another shape")
    dtypes = {t.dtype for t in state.values() if t.is_floating_point()}
    if len(dtypes) > 1:
        raise InputError("the saved tensors must share one dtype", given=sorted(map(str, dtypes)))
    for dtype in dtypes:
        module.to(dtype)
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
        return {"type": type(value).__name__, "options": inner}
    return value


def _describe_sparse(value: Tensor, path: str, tensors: dict[str, Tensor]) -> Any:
    tensors[f"{path}.indices"], tensors[f"{path}.values"] = value.indices(), value.values()
    return {"sparse": path, "shape": list(value.shape)}


def _options(module: nn.Module) -> dict[str, object]:
    if isinstance(module, Variational):
        return {"fidelity": module.fidelity, "regulariser": module.regulariser}
    if isinstance(module, Part | Operator):
        return module.options()
    raise InputError(
        f"{type(module).__name__} cannot be described, so it cannot be saved",
        advice="derive it from Regulariser, Fidelity or Operator and give it options()",
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
        indices = _find(tensors, f"{entry['sparse']}.indices")
        values = _find(tensors, f"{entry['sparse']}.values")
        return torch.sparse_coo_tensor(indices, values, entry["shape"], check_invariants=True)
    known = {cls.__name__: cls for cls in _subclasses(Part, Operator, Energy)}
    if entry.get("type") not in known:
        given = str(entry.get("type"))
        raise InputError(
            f"unknown class '{given}'", advice=f"import it first; {nearest(given, known)}"
        )
    options = {k: _build(v, tensors) for k, v in entry["options"].items()}
    make = cast(Callable[..., nn.Module], known[entry["type"]])
    return make(**options)


def _find(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise InputError(f"the saved tensor '{name}' is missing")
    return tensors[name]


def _subclasses(*roots: type[nn.Module]) -> Iterator[type[nn.Module]]:
    for root in roots:
        for cls in root.__subclasses__():
            yield cls
            yield from _subclasses(cls)

"""The parameters of a fit as a person reads them: weights, not their logarithms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar, cast

from torch import Tensor, as_tensor, float64, nn

from bilevel.ground import rows
from bilevel.learn import Fit
from bilevel.report.words import count, number

__all__ = ["Parameter", "model_name", "parameters", "parts", "scalar_values"]

M = TypeVar("M", bound=nn.Module)
_LOG = "log_"
_PROPER = ("Tikhonov",)
_UNITS = {"smoothing": "grey value", "weight": "1"}


@dataclass(frozen=True)
class Parameter:
    """One row of the table: start -> learned, in words. ``start`` is empty for maps and filters."""

    owner: str
    name: str
    unit: str
    start: str
    learned: str


def parameters(fit: Fit) -> tuple[Parameter, ...]:
    """What was learned, in the order of θ."""
    start = fit.history[0].scalars if fit.history else {}
    return tuple(
        Parameter(
            owner=_owner(fit, name),
            name=_human(name),
            unit=_UNITS.get(_human(name), ""),
            start=number(_value(name, start[name])) if name in start else "",
            learned=_learned(name, value),
        )
        for name, value in fit.theta.items()
    )


def scalar_values(fit: Fit) -> dict[str, list[float]]:
    """Label -> value after every outer step, for each scalar parameter."""
    names = [name for name, value in fit.theta.items() if value.numel() == 1]
    return {
        f"{_owner(fit, n)}: {_human(n)}": [_value(n, r.scalars[n]) for r in fit.history]
        for n in names
        if all(n in r.scalars for r in fit.history)
    }


def parts(fit: Fit, kind: type[M]) -> Iterator[tuple[str, M]]:
    """The parts of the energy that are a ``kind``, with a name to tell them apart."""
    modules = cast(Iterable[tuple[str, nn.Module]], fit.energy.named_modules())
    for path, module in modules:
        if isinstance(module, kind):
            yield _name(fit, path), module


def model_name(fit: Fit) -> str:
    """What is learned, e.g. "total variation"; several parts are joined by "and".

    Where nothing is, all parts of the regulariser that have parameters.
    """
    named = (name for name, _ in fit.energy.named_parameters())
    names = list(fit.theta) or [name for name in named if name.startswith("regulariser.")]
    owners = dict.fromkeys(_owner(fit, name) for name in names)
    return " and ".join(o if o in _PROPER else o[:1].lower() + o[1:] for o in owners)


def _owner(fit: Fit, name: str) -> str:
    """The part that a parameter, or the list that it is in, belongs to."""
    path = name.rpartition(".")[0]
    listed = isinstance(fit.energy.get_submodule(path), nn.ParameterList)
    return _name(fit, path.rpartition(".")[0] if listed else path)


def _name(fit: Fit, path: str) -> str:
    """The class in words; where a sum has several of a kind, also which term it is."""
    module = fit.energy.get_submodule(path)
    name = _words(type(module).__name__)
    alike = sum(type(other) is type(module) for other in fit.energy.modules())
    term = path.rpartition(".")[2]
    return f"{name} (term {int(term) + 1})" if alike > 1 and term.isdigit() else name


def _words(name: str) -> str:
    """Turn ``TotalVariation`` into "Total variation"; names in capitals stay."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).split()
    lowered = [w if w.isupper() or any(c.isdigit() for c in w) else w.lower() for w in words[1:]]
    return " ".join([*words[:1], *lowered])


def _human(name: str) -> str:
    """The words of a parameter; members of a list count from one."""
    path, _, leaf = name.rpartition(".")
    if leaf.isdigit():
        leaf = f"{path.rpartition('.')[2]} {int(leaf) + 1}"
    return leaf.removeprefix(_LOG).replace("_", " ")


def _is_log(name: str) -> bool:
    return name.rpartition(".")[2].startswith(_LOG)


def _value(name: str, value: float) -> float:
    return float(_exp(name, _double(value)))


def _exp(name: str, value: Tensor) -> Tensor:
    return value.exp() if _is_log(name) else value


def _double(value: float | Tensor) -> Tensor:
    return as_tensor(value, dtype=float64)


def _learned(name: str, value: Tensor) -> str:
    values = _exp(name, _double(value.detach()))
    if values.numel() == 1:
        return number(float(values))
    if values.ndim == 4:
        bank, channels, *size = values.shape
        planes = f" × {channels} channels" if channels > 1 else ""
        norms = rows.norm(values)
        spread = f"norms {number(float(norms.min()))} to {number(float(norms.max()))}"
        return f"{bank} filters of {size[0]} × {size[1]}{planes}, {spread}"
    values = values.flatten()
    low, middle, high = (float(v) for v in (values.min(), values.quantile(0.5), values.max()))
    many = f"{count(values.numel())} values"
    return f"{many} from {number(low)} to {number(high)}, median {number(middle)}"

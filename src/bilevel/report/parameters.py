"""The parameters of a fit as a person reads them: weights, not their logarithms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import TypeVar, cast

from torch import Tensor, as_tensor, float64, nn

from bilevel.ground import rows
from bilevel.learn import Fit
from bilevel.model.networks.network import NetworkRegulariser
from bilevel.report.words import count, number

__all__ = ["Parameter", "model_name", "parameters", "parts", "scalar_values"]

M = TypeVar("M", bound=nn.Module)
_LOG = "log_"
_PROPER = ("Tikhonov", "Gaussian", "Poisson", "Rician", "Student")
_HYPHENS = {"Input convex": "Input-convex", "Multi scale": "Multi-scale", "Least sq": "Least-sq"}
_UNITS = {"smoothing": "grey value", "weight": "1", "ratio": "pixel"}
_TERMS = {
    "cosine": "½ log anisotropy × cos 2 angle",
    "sine": "½ log anisotropy × sin 2 angle",
    "gaussian": "weight of Gaussian noise",
    "impulse": "weight of impulses",
    "poisson": "weight of Poisson noise",
}
"""What parameters are called in the field, where their names are short for it."""
_NETWORK = "network"
"""All that is inside of one."""


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
    rows, inside = list[Parameter](), dict[str, list[Tensor]]()
    for name, value in fit.theta.items():
        owner, human = _owner(fit, name), _human(fit, name)
        if human == _NETWORK:
            inside.setdefault(owner, []).append(value)
            continue
        first = number(_value(name, start[name])) if name in start else ""
        unit = _UNITS.get(human, "")
        rows.append(Parameter(owner, human, unit, first, _learned(name, value)))
    for owner, values in inside.items():
        many = f"{count(sum(v.numel() for v in values))} values in {count(len(values))} tensors"
        rows.append(Parameter(owner, _NETWORK, "", "", many))
    return tuple(rows)


def scalar_values(fit: Fit) -> dict[str, list[float]]:
    """Label -> value after every outer step, for each scalar parameter."""
    single = [name for name, value in fit.theta.items() if value.numel() == 1]
    names = [name for name in single if _human(fit, name) != _NETWORK]
    return {
        f"{_owner(fit, n)}: {_human(fit, n)}": [_value(n, r.scalars[n]) for r in fit.history]
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
    return " and ".join(o if o.startswith(_PROPER) else o[:1].lower() + o[1:] for o in owners)


def _owner(fit: Fit, name: str) -> str:
    """The part that a parameter, or the list or network that it is in, belongs to."""
    path = name.rpartition(".")[0]
    if (network := _network(fit, path)) is not None:
        return _name(fit, network)
    listed = isinstance(fit.energy.get_submodule(path), nn.ParameterList)
    return _name(fit, path.rpartition(".")[0] if listed else path)


def _network(fit: Fit, path: str) -> str | None:
    """The path of the network regulariser that a module is inside of; None outside of any."""
    words = path.split(".")
    above = (".".join(words[:k]) for k in range(1, len(words)))
    return next(
        (p for p in above if isinstance(fit.energy.get_submodule(p), NetworkRegulariser)), None
    )


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
    kept = [w.isupper() or w in _PROPER or any(c.isdigit() for c in w) for w in words]
    told = " ".join(
        w if k or not i else w.lower() for i, (w, k) in enumerate(zip(words, kept, strict=True))
    )
    return reduce(lambda text, pair: text.replace(*pair), _HYPHENS.items(), told)


def _human(fit: Fit, name: str) -> str:
    """The words of a parameter; members of a list count from one."""
    path, _, leaf = name.rpartition(".")
    if _network(fit, path) is not None:
        return _NETWORK
    if leaf.isdigit():
        leaf = f"{path.rpartition('.')[2]} {int(leaf) + 1}"
    plain = leaf.removeprefix(_LOG)
    return _TERMS.get(plain, plain.replace("_", " "))


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

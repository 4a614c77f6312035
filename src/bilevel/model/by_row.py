"""An energy some of whose parameters have a value for each row, as a network predicts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import cast

import torch
from torch import Tensor

from bilevel.ground.checks import check_finite
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta, bind, check_names, placed
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Provenance, Variation
from bilevel.model.energy import Energy
from bilevel.model.group_norm import GroupNorm
from bilevel.model.operators.operator import Shape
from bilevel.model.part import Part
from bilevel.model.proximable import Distance, Proximable
from bilevel.model.smooth import Smooth, Summand
from bilevel.model.split import Split
from bilevel.model.term import Function, Term
from bilevel.model.variational import Variational

__all__ = ["ByRow", "with_theta"]


def with_theta(energy: Energy, theta: Theta, y: Tensor) -> Energy:
    """The energy at ``theta``, whose values are for all rows of ``y`` or have one more dimension.

    A value of shape (b, ...), where the parameter has shape (...), has one entry for each row; a
    weight that may be a map also takes a map (b, h, w) for each image. What ``energy`` leaves to
    the data is settled by y.

    Raises:
        InputError: an unknown name, a shape that is neither, values that are not finite, values of
            rows for a parameter of an operator or for an energy that is not Variational.

    Example:
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> y = torch.ones(2, 1, 1, 1)
        >>> theta = {"regulariser.log_weight": torch.tensor([1.0, 3.0]).log()}
        >>> with_theta(energy, theta, y).at(y).value(y)
        tensor([0.5000, 1.5000])
    """
    check_names(energy, theta)
    energy.settle(y.detach())
    known = cast("dict[str, Tensor]", dict(energy.named_parameters()))
    shared = {name: value for name, value in theta.items() if value.shape == known[name].shape}
    rest = {name: value for name, value in theta.items() if name not in shared}
    bound = bind(energy, shared) if shared else energy
    if not rest:
        return bound
    if not isinstance(bound, Variational):
        what = "a value for each row needs a Variational energy"
        given = f"{type(energy).__name__} and '{next(iter(rest))}' of another shape"
        raise InputError(what, given=given, advice=f"give {_shape(known[next(iter(rest))])}")
    for name, value in rest.items():
        _check_value(bound, name, value, known[name], y)
    return ByRow(placed(bound, rest), frozenset(rest))


def _check_value(energy: Variational, name: str, value: Tensor, known: Tensor, y: Tensor) -> None:
    """Raise InputError unless the value has an entry, or a map, for each row of y."""
    owner = energy.get_submodule(name.rpartition(".")[0])
    takes = [known.shape, torch.Size((len(y), *known.shape))]
    if isinstance(owner, Part) and name.rpartition(".")[2] in owner.maps and known.ndim == 0:
        _, h, w = energy.fidelity.operator.image_shape((y.shape[1], y.shape[2], y.shape[3]))
        takes.append(torch.Size((len(y), h, w)))
    if value.shape not in takes:
        shapes = [str(tuple(shape)) for shape in takes]
        what = f"'{name}' takes shape {shapes[0]} for all rows or {shapes[1]}, one for each"
        if len(takes) > 2:
            what += f", or {shapes[2]}, a map for each"
        advice = "give the values in the order of y, without further dimensions"
        raise InputError(what, given=tuple(value.shape), advice=advice)
    if ".operator." in name:
        what = f"'{name}' is a parameter of an operator, which has one value for all rows"
        advice = f"give shape {_shape(known)}, or call argmin for each row"
        raise InputError(what, given=tuple(value.shape), advice=advice)
    check_finite(value, name)


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


class ByRow(Energy):
    """J_k(x) = Ψ_θk(A x; y_k) + R_θk(x) in row k, for parameters ``names`` with a value a row.

    Its bounds are those of each row, so that certificates are; about derivatives by θ nothing is
    proved. Use :func:`with_theta`, which checks the values.
    """

    def __init__(self, energy: Variational, names: frozenset[str]) -> None:
        """``energy`` holds the values in the place of its parameters."""
        super().__init__()
        self.energy, self.names = energy, names

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """J_k(x_k; y_k), (b,)."""
        return self.split(y).value(x)

    def split(self, y: Tensor) -> Split:
        """Terms without values of rows are as they are."""

        def at(name: str, part: Term) -> tuple[Function, ...]:
            own = self._own(name)
            return _at_rows(part, own, y) if own else part.at(y)

        return self.energy.split_by(y, at)

    def _own(self, part: str) -> Theta:
        """The values of rows of a part, under their names in it."""
        start = f"{part}."
        theta = self._values()
        return {n.removeprefix(start): v for n, v in theta.items() if n.startswith(start)}

    def _values(self) -> Theta:
        known: Theta = dict(self.energy.named_parameters())
        return {name: known[name] for name in sorted(self.names)}

    def start(self, y: Tensor) -> Tensor:
        """That of the energy."""
        return self.energy.start(y)

    def image(self, x: Tensor) -> Tensor:
        """That of the energy."""
        return self.energy.image(x)

    def contrast(self, y: Tensor) -> float:
        """That of the energy."""
        return self.energy.contrast(y)

    def stiffness(self, contrast: float) -> float:
        """That of the energy."""
        return self.energy.stiffness(contrast)

    def check(self, y: Tensor) -> None:
        """Data of the energy, as many rows as the values have."""
        theta = self._values()
        if any(len(value) != len(y) for value in theta.values()):
            given = {name: len(value) for name, value in theta.items()}
            raise InputError(f"one value is needed for each of {len(y)} rows", given=given)
        for k in range(len(y)):
            own = {name: value[k] for name, value in theta.items()}
            placed(self.energy, own).check(y[k : k + 1])

    def rows(self, index: Tensor) -> ByRow:
        """Those rows with their values."""
        own = {name: value[index] for name, value in self._values().items()}
        return ByRow(placed(self.energy, own), self.names)


def _at_rows(part: Term, theta: Theta, y: Tensor) -> tuple[Function, ...]:
    """The functions that the part is in every row, those of the same place put together."""
    each = [
        placed(part, {name: value[k] for name, value in theta.items()}).at(y[k : k + 1])
        for k in range(len(y))
    ]
    return tuple(
        _smooth(part, theta, y, place) if isinstance(one[0], Smooth) else _stacked(one)
        for place, one in enumerate(zip(*each, strict=True))
    )


def _stacked(functions: tuple[Function, ...]) -> Function:
    """Rows of a term without a gradient as one, with a weight for each."""
    norms = [f for f in functions if isinstance(f, GroupNorm)]
    if norms:
        shifts = [f.shift for f in norms if f.shift is not None]
        weight = _wide(torch.stack([f.weight for f in norms]))
        return replace(norms[0], weight=weight, shift=_joined(shifts) if shifts else None)
    boxes = [f for f in functions if isinstance(f, Proximable)]
    distances = [f.distance for f in boxes if f.distance is not None]
    if not distances:
        return boxes[0]
    weight = _wide(torch.stack([d.weight for d in distances]))
    return replace(boxes[0], distance=Distance(weight, _joined([d.centre for d in distances])))


def _joined(centres: list[Tensor]) -> Tensor:
    """Those of all rows, or the number that they share."""
    return torch.cat(centres) if centres[0].ndim else centres[0]


def _wide(weight: Tensor) -> Tensor:
    """(b,) or (b, h, w) as (b, 1, 1, 1) or (b, 1, h, w); weights of channels as they are."""
    if weight.ndim == 4:
        return weight
    return weight[:, None, None, None] if weight.ndim == 1 else weight[:, None]


def _smooth(part: Term, theta: Theta, y: Tensor, place: int) -> Smooth:
    """T_θk(x_k; y_k) in row k, by broadcasting where the part does, else by mapping over rows."""
    if theta.keys() <= part.broadcasts():
        wide = placed(part, {name: _wide(value) for name, value in theta.items()})
        return _Broadcast(part, theta, y, place, cast(Smooth, wide.at(y)[place]))
    return _Mapped(part, theta, y, place)


@dataclass(frozen=True)
class _OfRows(Smooth):
    """The function at ``place`` among those of the part, with what its constants are a row."""

    part: Term
    theta: Theta
    y: Tensor
    place: int

    def _row(self, theta: Theta, y: Tensor) -> Smooth:
        return cast(Smooth, placed(self.part, theta).at(y[None])[self.place])

    def _each(self) -> list[Smooth]:
        """One function a row: for constants, which are asked for once."""
        values = [{n: v[k].detach() for n, v in self.theta.items()} for k in range(len(self.y))]
        return [self._row(theta, y) for theta, y in zip(values, self.y, strict=True)]

    def bounds(self, shape: Shape) -> Bounds:
        found = [f.bounds(shape) for f in self._each()]
        mu, lipschitz = (
            torch.stack([getattr(b, name).reshape(()) for b in found])
            for name in ("mu", "lipschitz")
        )
        origins = (
            reduce(Provenance.worst, [getattr(b, name) for b in found])
            for name in ("mu_from", "lipschitz_from")
        )
        return Bounds(mu, lipschitz, *origins)

    def spectrum(self, shape: Shape) -> Tensor | None:
        found = [f.spectrum(shape) for f in self._each()]
        known = [s for s in found if s is not None]
        return torch.stack(known) if len(known) == len(found) else None

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        del q, radius
        return Variation.unknown(x)

    def magnitude(self, shape: Shape) -> Magnitude:
        found = [f.magnitude(shape) for f in self._each()]
        slope, offset = (
            torch.stack([getattr(m, name).reshape(()) for m in found])
            for name in ("slope", "offset")
        )
        return Magnitude(slope, offset)

    def rows(self, index: Tensor) -> Smooth:
        own = {name: value[index] for name, value in self.theta.items()}
        return _smooth(self.part, own, self.y[index], self.place)


@dataclass(frozen=True)
class _Broadcast(_OfRows):
    """``whole`` has the values as they multiply images, (b, 1, 1, 1) or (b, 1, h, w)."""

    whole: Smooth

    def value(self, x: Tensor) -> Tensor:
        return self.whole.value_and_grad(x)[0]

    def grad(self, x: Tensor) -> Tensor:
        return self.whole.grad(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.whole.value_and_grad(x)

    def summands(self) -> tuple[Summand, ...] | None:
        return self.whole.summands()

    def hessian(self, x: Tensor) -> LinearMap:
        return self.whole.hessian(x)


@dataclass(frozen=True)
class _Mapped(_OfRows):
    """Every row by itself, all at once."""

    def _map(self, function: Callable[..., Tensor], *images: Tensor) -> Tensor:
        """``function`` of the term and of images with one row, for every row."""

        def one(theta: Theta, y: Tensor, *row: Tensor) -> Tensor:
            return function(self._row(theta, y), *[image[None] for image in row])[0]

        return torch.func.vmap(one)(self.theta, self.y, *images)

    def value(self, x: Tensor) -> Tensor:
        return self._map(_value, x)

    def grad(self, x: Tensor) -> Tensor:
        return self._map(_grad, x)

    def hessian(self, x: Tensor) -> LinearMap:
        def apply(v: Tensor) -> Tensor:
            return self._map(_product, x, v)

        return LinearMap(apply, lambda index: self.rows(index).hessian(x[index]))


def _value(f: Smooth, x: Tensor) -> Tensor:
    return f.value(x)


def _grad(f: Smooth, x: Tensor) -> Tensor:
    return f.grad(x)


def _product(f: Smooth, x: Tensor, v: Tensor) -> Tensor:
    return f.hessian(x)(v)

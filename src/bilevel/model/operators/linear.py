"""Any linear map given as two functions."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, prod
from typing import Any, cast

import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.linear import LinearMap, lanczos
from bilevel.model.operators.adjointness import check_adjoint
from bilevel.model.operators.matrix import eigenvalue_bounds
from bilevel.model.operators.operator import Interval, Operator, Shape

__all__ = ["Linear", "as_data"]

Map = Callable[[Tensor], Tensor]
_ENTRIES, _RANK, _BATCH = 2**22, 2048, 64
_STEPS = 12


class Linear(Operator):
    """Any linear map, as two functions.

    A x = apply(x) and Aᵀ y = transpose(y), compared with each other at the beginning, in float32
    and float64.

    ``apply`` takes images (b, c, h, w) and gives data (b, c', h', w'), (b, h', w') or of any other
    shape (b, ...), which are (b, 1, 1, m) here. Complex data are channels (b, 2c', h', w') here,
    the real parts and then the imaginary ones; ``transpose`` sees them as ``apply`` gave them, and
    of what it gives the real part counts, which is the adjoint for real images. With ``paired``
    images are laid out like that too: ``apply`` sees (b, c/2, h, w) complex numbers.

    Args:
        apply: x -> A x.
        transpose: y -> Aᵀ y, for complex numbers Aᴴ y.
        image_shape: (c, h, w) of the images; both functions are tried on it.
        norm: a bound of ‖A‖ that you vouch for. If None it is proved from all entries of maps
            with at most 2^22 of them and a rank of at most 2048; of larger ones nothing is claimed.
        paired: whether images are pairs of channels for complex numbers.

    Raises:
        InputError: functions that do not take or give float32 and float64, or of which one is not
            the adjoint of the other.

    Example:
        >>> shift = Linear(lambda x: x.roll(1, 3), lambda y: y.roll(-1, 3), (1, 2, 3), norm=1.0)
        >>> shift(torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]]))
        tensor([[[[3., 1., 2.],
                  [6., 4., 5.]]]])
    """

    def __init__(
        self,
        apply: Map,
        transpose: Map,
        image_shape: Shape,
        norm: float | None = None,
        *,
        paired: bool = False,
    ) -> None:
        super().__init__()
        self._image_shape = _shape(image_shape)
        self._norm = None if norm is None else check_positive(norm, "the norm")
        self._bound = None if self._norm is None else self._norm**2
        self._paired, self._functions = paired, (apply, transpose)
        self._estimate: float | None = None
        self._native, self._pairs, self._data_shape = self._tried()
        found = check_adjoint(self, self._image_shape)
        if not found.passed:
            advice = "let transpose be the exact adjoint; errors of gradients would not be known"
            raise InputError(str(found), advice=advice)
        if self._norm is not None and found.stretch > self._norm * (1 + 1e-9):
            what = "norm must be an upper bound: some images grow more"
            given = f"{self._norm:g}, where one grew {found.stretch:g} times"
            raise InputError(what, given=given, advice="give a larger one, or none")

    def _tried(self) -> tuple[torch.Size, bool, Shape]:
        """The shape of data that the functions speak of, whether they are complex, and here."""
        for dtype in (torch.float64, torch.float32):
            x = torch.zeros(2, *self._image_shape, dtype=dtype)
            y = _called(self._functions[0], self._complex(x), "apply")
            if y.requires_grad:
                what = "apply holds tensors that require a gradient, which none would reach"
                advice = "detach them, or derive a class from bilevel.operators.Operator"
                raise InputError(what, advice=advice)
            if y.ndim < 2 or len(y) != 2 or 0 in y.shape:
                what = "apply must give one row of data for each image, not empty"
                raise InputError(what, given=f"{tuple(y.shape)} for two images")
            if y.dtype not in (dtype, dtype.to_complex()):
                advice = "convert what the functions hold to the dtype of their argument"
                given = f"{y.dtype} for {dtype}"
                raise InputError("apply must keep the precision of x", given=given, advice=advice)
        _, c, h, w = as_data(y).shape
        return y.shape[1:], y.is_complex(), (c, h, w)

    def _complex(self, x: Tensor) -> Tensor:
        """What the functions take for an image."""
        return _as_complex(x) if self._paired else x

    def _ahead(self, x: Tensor) -> Tensor:
        y = _called(self._functions[0], self._complex(x), "apply")
        return as_data(y).to(x.dtype)

    def _back(self, y: Tensor) -> Tensor:
        """Of data as the functions speak of them."""
        native = (_as_complex(y) if self._pairs else y).reshape(-1, *self._native)
        x = _called(self._functions[1], native, "transpose")
        x = _as_real(x) if self._paired else x.real if x.is_complex() else x
        if x.shape != (len(y), *self._image_shape):
            expected = f"transpose must give images (b, c, h, w) of {self._image_shape}"
            raise InputError(expected, given=tuple(x.shape))
        return x.to(y.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """A x: (b, c, h, w) -> (b, c', h', w')."""
        self.data_shape((x.shape[1], x.shape[2], x.shape[3]))
        return cast(Tensor, _Both.apply(x, self._ahead, self._back))

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y: (b, c', h', w') -> (b, c, h, w)."""
        self.check_data(y)
        return cast(Tensor, _Both.apply(y, self._back, self._ahead))

    @property
    def roundings(self) -> float:
        """Of sums as long as the data or the image; as for a matrix."""
        return 2.0 + max(prod(self._image_shape), prod(self._data_shape)) ** 0.5 / 8

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """From ``norm``, or from all entries of a small map; otherwise up to infinity."""
        self.data_shape(image_shape)
        if self._bound is None:
            n, m = prod(self._image_shape), prod(self._data_shape)
            small = n * m <= _ENTRIES and min(n, m) <= _RANK
            self._bound = eigenvalue_bounds(self._entries()).upper if small else inf
        return Interval(0.0, self._bound * (1 + 1e-12))

    def start(self, y: Tensor) -> Tensor:
        """Aᵀy over ‖A‖², estimated where no bound is known."""
        if self.gram_bounds(self._image_shape).upper < inf:
            return super().start(y)
        if self._estimate is None:
            gram = LinearMap.shared(lambda x: self._back(self._ahead(x)))
            seed = torch.randn(self._image_shape, generator=generator(0, "norm"))[None]
            self._estimate = float(lanczos(gram, seed.double(), steps=_STEPS).values.max())
        return self.adjoint(y) / (self._estimate or 1.0)

    def _entries(self) -> Tensor:
        """The matrix, (m, n) float64."""
        images = torch.eye(prod(self._image_shape), dtype=torch.float64)
        parts = torch.split(images.view(-1, *self._image_shape), _BATCH)
        with torch.no_grad():
            return torch.cat([self._ahead(part).flatten(1) for part in parts]).T

    def image_shape(self, data_shape: Shape) -> Shape:
        """The image shape given at construction."""
        del data_shape
        return self._image_shape

    def data_shape(self, image_shape: Shape) -> Shape:
        """The shape found at construction; raises InputError for an image of another one."""
        if tuple(image_shape) != self._image_shape:
            what = f"this operator acts on images (c, h, w) = {self._image_shape}"
            raise InputError(what, given=tuple(image_shape))
        return self._data_shape

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again; functions can be described by none."""
        apply, transpose = self._functions
        return {
            "apply": apply,
            "transpose": transpose,
            "image_shape": self._image_shape,
            "norm": self._norm,
            "paired": self._paired,
        }


class _Both(torch.autograd.Function):
    """A linear map with its adjoint: derivatives of any order are the same two maps."""

    @staticmethod
    def forward(x: Tensor, apply: Map, transpose: Map) -> Tensor:
        """A x."""
        del transpose
        return apply(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep both maps."""
        del output
        ctx.maps = inputs[1:]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Aᵀ."""
        apply, transpose = ctx.maps
        return cast(Any, _Both).apply(grad_outputs[0], transpose, apply), None, None

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        """A."""
        return cast(Any, _Both).apply(grad_inputs[0], *ctx.maps)


def _shape(given: object) -> Shape:
    match given:
        case (int(c), int(h), int(w)) if min(c, h, w) > 0:
            return (c, h, w)
        case _:
            raise InputError("image_shape must be (c, h, w), all positive", given=given)


def _called(function: Map, x: Tensor, name: str) -> Tensor:
    """What it gives, if that is a tensor of numbers; of a copy, which it may write into."""
    try:
        found = cast(object, function(x.clone()))
    except InputError:
        raise
    except Exception as error:  # whatever a function of one's own raises
        what = f"{name} failed on {x.dtype} {tuple(x.shape)} ({type(error).__name__}: {error})"
        raise InputError(what.split("\n", maxsplit=1)[0]) from error
    if not isinstance(found, Tensor):
        raise InputError(f"{name} must give a tensor", given=type(found).__name__)
    return found


def as_data(y: Tensor) -> Tensor:
    """(b, c', h', w') real, whatever the functions speak of."""
    if y.ndim == 3:
        y = y[:, None]
    return _as_real(y if y.ndim == 4 else y.reshape(len(y), 1, 1, -1))


def _as_real(y: Tensor) -> Tensor:
    """Complex numbers (b, c, ...) as channels (b, 2c, ...): all real parts, then the others."""
    return torch.cat([y.real, y.imag], 1) if y.is_complex() else y


def _as_complex(x: Tensor) -> Tensor:
    """The inverse of :func:`_as_real`."""
    return torch.complex(*x.chunk(2, 1))

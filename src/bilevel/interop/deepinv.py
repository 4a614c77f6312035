"""Linear physics of deepinv, and their data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.ground.extras import load
from bilevel.model.operators import Linear, Operator, Shape, Stacked
from bilevel.model.operators.combined import side_by_side
from bilevel.model.operators.linear import as_data

__all__ = ["data_from_deepinv", "deepinv", "from_deepinv"]


def deepinv(module: str) -> Any:
    """``deepinv.<module>``, imported when it is asked for.

    Raises:
        InputError: it is missing or cannot be imported.
    """
    try:
        return load(f"deepinv.{module}", "what comes from deepinv", "deepinv")
    except RuntimeError as error:  # its torchvision does not fit this PyTorch
        reason = str(error).split("\n")[0]
        what = f"deepinv cannot be imported ({reason})"
        raise InputError(what, advice="install a torchvision built for this PyTorch") from error


def from_deepinv(physics: object, image_shape: Shape, norm: float | None = None) -> Operator:
    """A ``deepinv.physics.LinearPhysics``: its ``A`` and ``A_adjoint``, without its noise.

    Images and data are real tensors (b, c, h, w), complex ones pairs of channels, as in deepinv.
    A stack of physics becomes a :class:`~bilevel.operators.Stacked` of them, each with its own
    adjoint; :func:`data_from_deepinv` lays out its data. The physics is copied once for each
    precision; what is written into it later changes nothing. Its ``compute_norm`` is an estimate
    from below and not used.

    Args:
        physics: the forward operator; its noise model is left to the fidelity.
        image_shape: (c, h, w).
        norm: as for :class:`~bilevel.operators.Linear`; none for a stack.

    Raises:
        InputError: deepinv is missing or cannot be imported, something else than a linear physics,
            or an ``A_adjoint`` that is not the adjoint of ``A``.
    """
    known = deepinv("physics")
    if not isinstance(physics, known.LinearPhysics):
        given = type(physics).__name__
        raise InputError("a deepinv LinearPhysics is needed", given=given)
    found = cast(Any, physics)
    if isinstance(found, known.StackedLinearPhysics):
        if norm is not None:
            advice = "stack operators with bl.operators.Stacked, each with its norm"
            raise InputError("a norm is that of a single physics", given="a stack", advice=advice)
        parts = [from_deepinv(part, image_shape) for part in found.physics_list]
        return Stacked(parts, image_shape)
    copies = {d: _copy(found, d) for d in (torch.float32, torch.float64)}

    def forward(x: Tensor) -> Tensor:
        return copies[x.dtype].A(x)

    def adjoint(y: Tensor) -> Tensor:
        return copies[y.dtype.to_real()].A_adjoint(y)

    return Linear(forward, adjoint, image_shape, norm)


def _copy(physics: Any, dtype: torch.dtype) -> Any:
    """Another one in that precision, which tomography keeps in attributes of its own as well.

    Sensitivities of coils stay complex, of which ``physics.to(dtype)`` would drop one half.
    """

    def moved(t: Tensor) -> Tensor:
        if t.is_complex():
            return t.to(dtype.to_complex())
        return t.to(dtype) if t.is_floating_point() else t

    found = physics.clone()
    found._apply(moved)
    for part in found.modules():
        own = cast(dict[str, Any], vars(part))
        if isinstance(own.get("dtype"), torch.dtype) and own["dtype"].is_floating_point:
            part.dtype = dtype
        if own.get("_auto_grad_adjoint_fn") is not None:
            part._auto_grad_adjoint_fn = None  # made by the physics that this is a copy of
    return found


def data_from_deepinv(y: object) -> Tensor:
    """Measurements of deepinv (a tensor or a ``TensorList``) as data of :func:`from_deepinv`.

    Returns:
        (b, c', h', w'): complex numbers as channels, other shapes as one line (b, 1, 1, m); those
        of a stack as for :class:`~bilevel.operators.Stacked`.

    Raises:
        InputError: something else than tensors.

    Example:
        >>> data_from_deepinv(torch.ones(2, 3, 4, dtype=torch.complex64)).shape
        torch.Size([2, 2, 3, 4])
    """
    if isinstance(y, Tensor):
        return as_data(y)
    parts = list(cast(Iterable[object], y)) if hasattr(y, "__getitem__") else []
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if not tensors or len(tensors) < len(parts):
        raise InputError("measurements are tensors or a TensorList", given=type(y).__name__)
    return side_by_side([as_data(part) for part in tensors])

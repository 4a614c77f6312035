"""What operators accept: arrays at construction, images and data at each application."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from bilevel.ground.checks import DETACH, check_constant, check_finite, check_matching
from bilevel.ground.errors import InputError
from bilevel.model.operators.operator import Operator

__all__ = ["check_adjoint", "check_forward", "check_real", "mask_weights", "real_tensor"]


def real_tensor(value: object, name: str, dims: Collection[int], advice: str = DETACH) -> Tensor:
    """A copy of ``value`` as a finite, non-empty float tensor with as many dimensions as allowed.

    float32 and float64 are kept; booleans and integers get the default dtype. ``advice`` says what
    to do with a tensor that requires a gradient, which a copy would not hand on.

    Raises:
        InputError: complex, half precision, NaN or infinite, empty, other dimensions, or a
            gradient that is required.

    Example:
        >>> real_tensor([[1, 2]], "kernel", (2, 3))
        tensor([[1., 2.]])
    """
    check_constant(value, name, advice)
    try:
        tensor = torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} must be a tensor of numbers", given=type(value)) from error
    if tensor.ndim not in dims or tensor.numel() == 0:
        shapes = " or ".join(str(d) for d in dims)
        raise InputError(
            f"{name} must have {shapes} dimensions, none of them empty", given=tuple(tensor.shape)
        )
    return check_real(tensor, name).clone(memory_format=torch.contiguous_format)


def check_real(tensor: Tensor, name: str) -> Tensor:
    """``tensor`` as float32 or float64, all finite; booleans and integers get the default dtype."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        tensor = tensor.to(torch.get_default_dtype())
    if tensor.dtype not in (torch.float32, torch.float64):
        advice = "take its real part" if tensor.is_complex() else "convert with .float()"
        raise InputError(f"{name} must be real numbers", given=tensor.dtype, advice=advice)
    return check_finite(tensor, name)


def mask_weights(mask: object, dims: Collection[int], name: str = "mask") -> Tensor:
    """A mask as float weights: booleans, integers 0 and 1, or any finite weights, not all zero."""
    weights = real_tensor(mask, name, dims)
    if not bool(weights.any()):
        raise InputError(f"{name} sees nothing: all values are zero", advice="mark what is seen")
    whole = not torch.as_tensor(mask).is_floating_point()
    if whole and not bool(((weights == 0) | (weights == 1)).all()):
        given = f"values from {int(weights.min())} to {int(weights.max())}"
        advice = "compare with a threshold (mask > 127), or give weights as floats"
        raise InputError("a mask of integers must be 0 or 1", given=given, advice=advice)
    return weights


def check_forward(operator: Operator, x: Tensor, like: Tensor) -> None:
    """Raise InputError unless ``x`` (b, c, h, w) is an image of ``operator`` in its dtype."""
    _check(x, "x", operator, like)
    operator.data_shape((x.shape[1], x.shape[2], x.shape[3]))


def check_adjoint(operator: Operator, y: Tensor, like: Tensor) -> None:
    """Raise InputError unless ``y`` (b, c', h', w') is data of ``operator`` in its dtype."""
    _check(y, "y", operator, like)
    operator.check_data(y)


def _check(tensor: Tensor, name: str, operator: Operator, like: Tensor) -> None:
    if tensor.ndim != 4:
        raise InputError(f"{name} must have shape (b, c, h, w)", given=tuple(tensor.shape))
    check_matching(tensor, name, like, type(operator).__name__)

"""Upper-level losses ℓ(x, target)."""

from bilevel.model.losses.loss import Loss, Scale
from bilevel.model.losses.psnr import PSNR
from bilevel.model.losses.squared_error import SquaredError

__all__ = ["PSNR", "Loss", "Scale", "SquaredError"]

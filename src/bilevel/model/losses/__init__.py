"""Upper-level losses ℓ(x, target)."""

from bilevel.model.losses.loss import Loss
from bilevel.model.losses.psnr import PSNR
from bilevel.model.losses.squared_error import SquaredError

__all__ = ["PSNR", "Loss", "SquaredError"]

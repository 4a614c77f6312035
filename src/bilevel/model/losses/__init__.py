"""Upper-level losses ℓ(x, target)."""

from bilevel.ground.contents import contents as _contents
from bilevel.model.losses.loss import Loss as Loss
from bilevel.model.losses.loss import Scale as Scale
from bilevel.model.losses.psnr import PSNR as PSNR
from bilevel.model.losses.squared_error import SquaredError as SquaredError

__doc__ = _contents(__name__)

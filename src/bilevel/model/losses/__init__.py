"""Upper-level losses ℓ(x, target)."""

from bilevel.ground.contents import contents as _contents
from bilevel.model.losses.absolute_error import AbsoluteError as AbsoluteError
from bilevel.model.losses.huberised_tv import HuberisedTV as HuberisedTV
from bilevel.model.losses.loss import Loss as Loss
from bilevel.model.losses.loss import Scale as Scale
from bilevel.model.losses.loss import WeightedSum as WeightedSum
from bilevel.model.losses.magnitude_error import MagnitudeError as MagnitudeError
from bilevel.model.losses.module_loss import ModuleLoss as ModuleLoss
from bilevel.model.losses.psnr import PSNR as PSNR
from bilevel.model.losses.segmentation import SegmentationLoss as SegmentationLoss
from bilevel.model.losses.squared_error import SquaredError as SquaredError
from bilevel.model.losses.ssim import SSIM as SSIM
from bilevel.model.losses.target_channels import TargetChannels as TargetChannels
from bilevel.model.losses.weighted_error import WeightedError as WeightedError

__doc__ = _contents(__name__)

"""A task in the place of a picture: how well the reconstruction can be segmented."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

from bilevel.ground.errors import InputError
from bilevel.model.losses.module_loss import ModuleLoss, check_module

__all__ = ["SegmentationLoss"]


class SegmentationLoss(ModuleLoss):
    """How well a segmenter finds the labels in the reconstruction: mean cross-entropy [nat].

    ℓ(x, target) = -mean_i Σ_k target_ik log p_k(x)_i over pixels i, p = softmax of what the
    segmenter gives; with one channel of labels, p_1 = sigmoid and p_0 = 1 - p_1. θ then serves the
    task: noise that does not matter for it may stay (Adler, Lunz, Verdier, Schönlieb, Öktem 2022,
    "Task adapted reconstruction for inverse problems").

    The targets are labels (k, m, h, w), probabilities of m classes or, with m = 1, of one against
    the rest. The segmenter is taken as it is, trained on clean images for example. It is any
    module, so that nothing is proved of the gradient, as for :class:`ModuleLoss`.

    Args:
        segmenter: images (b, c, h, w) -> logits (b, m, h, w).

    Raises:
        InputError: labels outside of [0, 1], or whose shape is not that of the logits; as
            :class:`ModuleLoss`.

    Example:
        >>> import torch
        >>> bright = nn.Conv2d(1, 1, 1)
        >>> _ = nn.init.constant_(bright.weight, 20.0), nn.init.constant_(bright.bias, -10.0)
        >>> x = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
        >>> loss = SegmentationLoss(bright)
        >>> float(loss.value(x, x)) < 1e-4 < 1 < float(loss.value(1 - x, x))
        True
    """

    def __init__(self, segmenter: nn.Module) -> None:
        check_module(segmenter, "segmenter", "(self, x)")
        super().__init__(CrossEntropy(segmenter), unit="nat", are_images=False)

    @property
    def segmenter(self) -> nn.Module:
        """The copy that judges, (b, c, h, w) -> logits (b, m, h, w)."""
        return cast(CrossEntropy, self.module).segmenter

    def trial(self, x: Tensor, target: Tensor) -> None:
        """Labels, and as many as logits."""
        if not bool(((target >= 0) & (target <= 1)).all()):
            given = f"values from {float(target.min()):g} to {float(target.max()):g}"
            advice = "give one channel of 0 and 1 for each class"
            raise InputError("labels must lie in [0, 1]", given=given, advice=advice)
        super().trial(x, target)


class CrossEntropy(nn.Module):
    """(x, labels) -> (b,)."""

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """The mean over the pixels of each row."""
        logits: Tensor = self.segmenter(x)
        if logits.shape != target.shape:
            shapes = f"{tuple(logits.shape)}, labels {tuple(target.shape)}"
            raise InputError("logits and labels must have one shape", given=f"logits {shapes}")
        if target.shape[1] == 1:
            found = binary_cross_entropy_with_logits(logits, target, reduction="none")
        else:
            found = -(target * log_softmax(logits, 1)).sum(1)
        return found.flatten(1).mean(1)

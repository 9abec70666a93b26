"""Mixup and CutMix: a micro-batch mixed with itself, on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torchvision.transforms import v2

from ufo_ds.data.batch import Batch
from ufo_ds.data.schema import TaskMeta
from ufo_ds.recipe import ClsConfig


def make_mixing(config: ClsConfig, meta: TaskMeta) -> Callable[[Batch], Batch] | None:
    """What the recipe asks for; None where it asks for nothing."""
    return Mixing(config, meta.num_classes) if config.mixup > 0 or config.cutmix > 0 else None


class Mixing:
    """Mixes each picture of a batch with the one before it, in one share for all, and their labels alike.

    Mixup: arXiv 1710.09412; CutMix: 1905.04899, whose share is that of the area that is really pasted. Which of the
    two comes, and whether any does, is drawn for each batch.

    Args:
        config: `mixup`, `cutmix`, `mix_prob` and `mix_switch_prob` count.
        classes: K.
    """

    def __init__(self, config: ClsConfig, classes: int) -> None:
        self.probability, self.switch = config.mix_prob, config.mix_switch_prob
        self.mixup = v2.MixUp(alpha=config.mixup, num_classes=classes) if config.mixup > 0 else None
        self.cutmix = v2.CutMix(alpha=config.cutmix, num_classes=classes) if config.cutmix > 0 else None

    def __call__(self, batch: Batch) -> Batch:
        """Mix, drawing from torch's global CPU generator.

        Args:
            batch: images uint8 [B, 3, H, W], targets int64 [B].

        Returns:
            Targets float32 [B, K] that sum to 1, without label smoothing; images float32, 0..255, after mixup. Or the
            batch as it came, where chance has it so.
        """
        if float(torch.rand(())) >= self.probability:
            return batch
        use_cutmix = self.cutmix is not None
        if self.mixup is not None and self.cutmix is not None:
            use_cutmix = float(torch.rand(())) < self.switch
        mix = self.cutmix if use_cutmix else self.mixup
        assert mix is not None
        images, targets = mix(batch.images if use_cutmix else batch.images.float(), batch.targets)
        return replace(batch, images=images, targets=targets)

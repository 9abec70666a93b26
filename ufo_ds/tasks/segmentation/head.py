"""Segmentation head: token maps of several depths, fused at stride 4."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ufo_ds.data.batch import Batch
from ufo_ds.data.schema import IGNORE_ID, TaskMeta
from ufo_ds.data.views import ViewBatch
from ufo_ds.model.pyramid import Pyramid
from ufo_ds.recipe import SegConfig, SegViews
from ufo_ds.tasks.segmentation.score import MaskPrediction
from ufo_ds.tasks.segmentation.views import mean_probabilities
from ufo_ds.tasks.task import Features, FeaturesOf, Head, TrunkShape

STRIDES = (4, 8, 16, 32)


class SegmentationHead(Head):
    """Top-down fusion of a pyramid to stride 4 (panoptic FPN's semantic branch, arXiv 1901.02446), one classifier.

    GroupNorm throughout: a batch is a few large crops a rank, too few for batch statistics.
    """

    def __init__(self, config: SegConfig, meta: TaskMeta, shape: TrunkShape) -> None:
        super().__init__()
        channels = config.width
        self.class_ids = np.asarray(meta.class_ids, dtype=np.uint8)
        self.pyramid = Pyramid(shape, channels, STRIDES)
        self.multiple = self.pyramid.multiple
        self.smooth = nn.ModuleList(_conv(channels) for _ in STRIDES)
        self.classifier = nn.Conv2d(channels, len(self.class_ids), 1)
        self.middle = (shape.depths - 1) // 2
        self.auxiliary = nn.Conv2d(shape.width, len(self.class_ids), 1)
        self.aux_weight = config.aux_weight

    def logits(self, features: Features) -> Tensor:
        """Token maps -> [B, K, H/4, W/4] logits."""
        levels = self.pyramid(features.maps)
        fused = self.smooth[-1](levels[-1])
        for smooth, level in zip(reversed(self.smooth[:-1]), reversed(levels[:-1]), strict=True):
            fused = smooth(level + _resize(fused, level.shape[-2:]))
        return self.classifier(fused)

    def raw(self, features: Features) -> dict[str, Tensor]:
        """`logits` [B, K, H/4, W/4]."""
        return {"logits": self.logits(features)}

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy at full size against `batch.targets`, uint8 [B, H, W] with 255 ignored, plus the auxiliary."""
        main = self._cross_entropy(self.logits(features), features, batch.targets)
        auxiliary = self._cross_entropy(self.auxiliary(features.maps[self.middle]), features, batch.targets)
        return {"loss": main + self.aux_weight * auxiliary, "loss_main": main, "loss_aux": auxiliary}

    def _cross_entropy(self, logits: Tensor, features: Features, targets: Tensor) -> Tensor:
        height, width = targets.shape[-2:]
        logits = _resize(logits.float(), features.input_size)[..., :height, :width]
        total = nn.functional.cross_entropy(logits, targets.long(), ignore_index=IGNORE_ID, reduction="sum")
        return total / (targets != IGNORE_ID).sum().clamp(min=1)  # a crop may be all ignored: 0, not NaN

    def predict(self, features: Features, batch: Batch) -> list[MaskPrediction]:
        """A mask of class ids, uint8 [H, W], at each image's original size."""
        logits = self.logits(features).float()
        return [
            MaskPrediction(source["file_name"], self._mask(one, features.input_size, source))
            for one, source in zip(logits, batch.sources, strict=True)
        ]

    def predict_views(self, features_of: FeaturesOf, views: ViewBatch, config: SegViews) -> list[MaskPrediction]:
        """A mask of class ids at each sample's original size, by the mean of its views' probabilities."""

        def probabilities(images: Tensor) -> Tensor:
            features, (height, width) = features_of(images), images.shape[-2:]
            logits = _resize(self.logits(features).float(), features.input_size)
            return logits[..., :height, :width].softmax(1)

        return [
            MaskPrediction(source["file_name"], self.class_ids[mean.argmax(0).cpu().numpy()])
            for mean, source in mean_probabilities(probabilities, views, config)
        ]

    def _mask(self, logits_KHW: Tensor, padded: tuple[int, int], source: dict) -> np.ndarray:
        height, width = source["input_size"]
        full = _resize(logits_KHW[None], padded)[..., :height, :width]
        if (height, width) != tuple(source["size"]):
            full = _resize(full, source["size"])
        return self.class_ids[full[0].argmax(0).cpu().numpy()]


def _conv(width: int) -> nn.Sequential:
    groups = 32 if width % 32 == 0 else 1
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(groups, width), nn.GELU())


def _resize(maps: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    return nn.functional.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)

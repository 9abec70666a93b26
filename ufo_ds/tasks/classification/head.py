"""Classification head: pooled tokens -> class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ufo_ds.data.batch import Batch
from ufo_ds.data.schema import TaskMeta
from ufo_ds.data.views import ViewBatch
from ufo_ds.recipe import ClsConfig, ClsViews
from ufo_ds.tasks.classification.score import ClassPrediction
from ufo_ds.tasks.classification.views import mean_probabilities
from ufo_ds.tasks.task import Features, FeaturesOf, Head, TrunkShape


class ClassificationHead(Head):
    """A linear classifier on the mean token and, where the trunk has one, the class token of the last depth."""

    def __init__(self, config: ClsConfig, meta: TaskMeta, shape: TrunkShape) -> None:
        super().__init__()
        self.class_ids = list(meta.class_ids)
        inputs = shape.width * (2 if shape.prefix_tokens else 1)
        self.norm = nn.LayerNorm(inputs)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(inputs, len(self.class_ids))
        nn.init.trunc_normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)
        self.smoothing = config.label_smoothing

    def logits(self, features: Features) -> Tensor:
        """Token maps -> [B, K] logits."""
        pooled = features.maps[-1].mean((2, 3))
        if features.prefix is not None:
            pooled = torch.cat([pooled, features.prefix[:, 0]], dim=1)
        return self.classifier(self.dropout(self.norm(pooled)))

    def raw(self, features: Features) -> dict[str, Tensor]:
        """`logits` [B, K]."""
        return {"logits": self.logits(features)}

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy with label smoothing against `batch.targets`: int64 [B], or mixed, float32 [B, K]."""
        logits = self.logits(features).float()
        return {"loss": nn.functional.cross_entropy(logits, batch.targets, label_smoothing=self.smoothing)}

    def predict(self, features: Features, batch: Batch) -> list[ClassPrediction]:
        """The likeliest class id of each image, with its probability."""
        return self._predictions(self._probabilities(features), batch.sources)

    def predict_views(self, features_of: FeaturesOf, views: ViewBatch, config: ClsViews) -> list[ClassPrediction]:
        """The likeliest class id of each sample by the mean of its views' probabilities."""
        return self._predictions(
            *mean_probabilities(lambda images: self._probabilities(features_of(images)), views, config)
        )

    def _probabilities(self, features: Features) -> Tensor:
        return self.logits(features).float().softmax(1)

    def _predictions(self, probabilities_BK: Tensor, sources: list[dict[str, Any]]) -> list[ClassPrediction]:
        confidence, index = probabilities_BK.max(1)
        return [
            ClassPrediction(source["file_name"], self.class_ids[i], float(c))
            for source, i, c in zip(sources, index.tolist(), confidence.tolist(), strict=True)
        ]

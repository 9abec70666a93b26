"""Detection head: pyramid -> transformers decoder -> boxes."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

from ufo_ds.data.batch import Batch
from ufo_ds.data.schema import TaskMeta
from ufo_ds.data.views import ViewBatch
from ufo_ds.errors import UserError
from ufo_ds.model.pyramid import Pyramid
from ufo_ds.recipe import DetConfig, DetViews
from ufo_ds.tasks.detection.boxes import Found
from ufo_ds.tasks.detection.decoder import make_decoder
from ufo_ds.tasks.detection.equalised import GradientRatio, equalise
from ufo_ds.tasks.detection.score import BoxPrediction
from ufo_ds.tasks.detection.views import find_boxes
from ufo_ds.tasks.task import Features, FeaturesOf, Head, TrunkShape

MAX_DETECTIONS = 100  # what COCOeval looks at in an image
CANDIDATES = 300  # (query, class) pairs before the suppression of doubles


class DetectionHead(Head):
    """A set-prediction head. Coordinates, matching and losses are fp32 under any autocast."""

    def __init__(self, config: DetConfig, meta: TaskMeta, shape: TrunkShape) -> None:
        super().__init__()
        self.category_ids = np.asarray(meta.class_ids, dtype=np.int64)
        self.pyramid = Pyramid(shape, config.width, config.levels)
        self.multiple = self.pyramid.multiple
        self.decoder = make_decoder(config, len(self.category_ids))
        self.gradient_ratio = None
        if config.loss == "equalised_focal":
            gamma = self.decoder.config.focal_loss_gamma
            if gamma <= 0:
                raise UserError(
                    f"key 'tasks.det.decoder_kwargs': focal_loss_gamma is {gamma}, and the loss equalised_focal "
                    "divides by it; make it positive, or take another tasks.det.loss"
                )
            self.gradient_ratio = GradientRatio(len(self.category_ids))
            equalise(self.decoder, self.gradient_ratio)
        self.queries = int(self.decoder.config.num_queries)
        self.nms = config.nms
        self._told = False

    def raw(self, features: Features) -> dict[str, Tensor]:
        """`logits` [B, Q, K] and `boxes` [B, Q, 4], cxcywh, 0..1 of the padded input, for Q queries."""
        outputs = self._run(features, None)
        return {"logits": outputs.logits.float(), "boxes": outputs.pred_boxes.float()}

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Matching, box and class losses (arXiv 2410.13842) against targets as transformers takes them.

        `batch.targets`: for each image `class_labels` int64 [N] and `boxes` cxcywh, 0..1 of the image, fp32 [N, 4].
        Where the network's outputs are not finite, so is the loss, and its parts are missing. Of more boxes than the
        decoder has queries the largest count, as the others could not be found.
        """
        targets = [
            self._to_padded(self._findable(target, source), batch, features)
            for target, source in zip(batch.targets, batch.sources, strict=True)
        ]
        losses = self._losses(features, targets)
        if self.gradient_ratio is not None and self.training:
            self.gradient_ratio.settle()
        # A batch without a box leaves the denoising branch without a gradient on this rank alone, and the ranks must
        # agree on which parameters get one.
        losses["loss"] = losses["loss"] + 0.0 * sum(p.sum() for p in self.parameters() if p.requires_grad)
        return losses

    def _findable(self, target: dict[str, Tensor], source: dict[str, Any]) -> dict[str, Tensor]:
        count = len(target["boxes"])
        if count <= self.queries:
            return target
        if not self._told:
            self._told = True
            problem = f"{source['file_name']}: {count} boxes, but the decoder has {self.queries} queries"
            remedy = "tasks.det.decoder_kwargs.num_queries sets their number"
            print(f"note: {problem}: in such images the largest boxes count; {remedy}", file=sys.stderr, flush=True)
        kept = target["boxes"][:, 2:].prod(1).topk(self.queries).indices.sort().values
        return {name: values[kept] for name, values in target.items()}

    def _losses(self, features: Features, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The library's losses; NaN alone where it refuses to match boxes that are not finite."""
        try:
            outputs = self._run(features, targets)
        except ValueError:
            outputs = self._run(features, None)
            if bool(outputs.logits.isfinite().all() and outputs.pred_boxes.isfinite().all()):
                raise
            return {"loss": (outputs.logits.sum() + outputs.pred_boxes.sum()) * float("nan")}
        parts = {name: value.detach() for name, value in outputs.loss_dict.items() if not name[-1].isdigit()}
        return {"loss": outputs.loss, **parts}

    def _run(self, features: Features, targets: list[dict[str, Tensor]] | None) -> Any:
        levels = self.pyramid(features.maps)
        device = levels[0].device.type
        inner = self.decoder.model
        inner.encoder.autocast = torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False):
            inner.backbone.maps = [level.float() for level in levels]
            return self.decoder(pixel_values=inner.backbone.maps[0], labels=targets)

    def _to_padded(self, target: dict[str, Tensor], batch: Batch, features: Features) -> dict[str, Tensor]:
        """Boxes relative to the canvas -> relative to what the trunk padded it to."""
        height, width = batch.images.shape[-2:]
        scale = target["boxes"].new_tensor([width, height, width, height]) / target["boxes"].new_tensor(
            [features.input_size[1], features.input_size[0]] * 2
        )
        return {"class_labels": target["class_labels"], "boxes": target["boxes"] * scale}

    def predict(self, features: Features, batch: Batch) -> list[BoxPrediction]:
        """The 100 best (query, class) pairs of each image, doubles suppressed: xyxy in pixels of the original."""
        candidates = zip(*self._candidates(features), batch.sources, strict=True)
        return [self._prediction(boxes, scores, label, source) for boxes, scores, label, source in candidates]

    def predict_views(self, features_of: FeaturesOf, views: ViewBatch, config: DetViews) -> list[BoxPrediction]:
        """The 100 best boxes of each sample, all its views taken together: xyxy in pixels of the original."""

        def detect(images: Tensor, is_mirror: bool, sources: list[dict[str, Any]]) -> list[Found]:
            boxes, scores, label = self._candidates(features_of(images))
            if is_mirror:
                left, top, right, bottom = boxes.unbind(-1)
                boxes = torch.stack([images.shape[-1] - right, top, images.shape[-1] - left, bottom], dim=-1)
            return [self._select(*each) for each in zip(boxes, scores, label, sources, strict=True)]

        return [self._as_prediction(found, source) for found, source in find_boxes(detect, views, config)]

    def _candidates(self, features: Features) -> tuple[Tensor, Tensor, Tensor]:
        """The best (query, class) pairs: boxes [B, C, 4] xyxy in pixels of the input, scores and labels [B, C]."""
        outputs = self.raw(features)
        scores_BQK = outputs["logits"].sigmoid()
        count = min(CANDIDATES, scores_BQK[0].numel())
        scores, flat = scores_BQK.flatten(1).topk(count, dim=1)
        query, label = flat // scores_BQK.shape[2], flat % scores_BQK.shape[2]
        boxes = box_convert(outputs["boxes"], "cxcywh", "xyxy")
        boxes = boxes.gather(1, query[..., None].expand(-1, -1, 4))
        return boxes * boxes.new_tensor([features.input_size[1], features.input_size[0]] * 2), scores, label

    def _prediction(self, boxes: Tensor, scores: Tensor, label: Tensor, source: dict[str, Any]) -> BoxPrediction:
        return self._as_prediction(self._select(boxes, scores, label, source), source)

    def _select(self, boxes: Tensor, scores: Tensor, label: Tensor, source: dict[str, Any]) -> Found:
        """The best boxes of one input, doubles suppressed, in pixels of the original."""
        top, left = source.get("start", (0, 0))
        window = boxes.new_tensor(source.get("window", (0, 0, *source["size"][::-1])))
        boxes = boxes / source["scale"] + boxes.new_tensor([left, top] * 2)
        boxes = boxes.clamp(window[:2].repeat(2), window[2:].repeat(2))
        # Of a model that has diverged: COCO's evaluation would take a box that is no number for a hit on anything.
        finite = boxes.isfinite().all(1) & scores.isfinite()
        boxes, scores, label = boxes[finite], scores[finite], label[finite]
        if self.nms is not None:
            kept = batched_nms(boxes, scores, label, self.nms)
            boxes, scores, label = boxes[kept], scores[kept], label[kept]
        boxes, scores, label = boxes[:MAX_DETECTIONS], scores[:MAX_DETECTIONS], label[:MAX_DETECTIONS]
        return Found(boxes.cpu().numpy(), scores.cpu().numpy(), label.cpu().numpy())

    def _as_prediction(self, found: Found, source: dict[str, Any]) -> BoxPrediction:
        found = found[:MAX_DETECTIONS]
        return BoxPrediction(
            image_id=source["image_id"],
            boxes=found.boxes.astype(np.float32),
            scores=found.scores.astype(np.float32),
            category_ids=self.category_ids[found.labels],
        )

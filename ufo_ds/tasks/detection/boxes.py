"""Boxes of one view of a picture, and of all of them together: weighted box fusion, suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import batched_nms


@dataclass
class Found:
    """Boxes that were found in a picture.

    Attributes:
        boxes: float [N, 4], xyxy in pixels of the original.
        scores: float [N], 0..1.
        labels: int64 [N], the network's indices.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: np.ndarray | slice) -> Found:
        return Found(self.boxes[chosen], self.scores[chosen], self.labels[chosen])


def joined(parts: Sequence[Found]) -> Found:
    """One after the other; at least one part."""
    return Found(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def suppress(views: Sequence[Found], iou: float) -> Found:
    """Non-maximum suppression over the boxes of all views, class by class; by falling score."""
    every = joined(views)
    boxes, scores, labels = (torch.from_numpy(values) for values in (every.boxes, every.scores, every.labels))
    return every[batched_nms(boxes, scores, labels, iou).numpy()]


def fuse(views: Sequence[Found], iou: float) -> Found:
    """Weighted box fusion (arXiv 1910.13302) of the boxes of several views of one picture; by falling score.

    Boxes are taken by falling score. Each joins the cluster of its class whose fused box it overlaps most, if by more
    than `iou`, or else starts a cluster. The fused box of a cluster is the mean of its boxes weighted by their scores;
    its score is their mean, times min(boxes, views) / views. The order of the views does not matter.

    Args:
        views: one or more.
        iou: in (0, 1].

    Returns:
        float64 boxes and scores.
    """
    every = joined(views)
    every = Found(every.boxes.astype(np.float64), every.scores.astype(np.float64), every.labels)
    every = every[np.lexsort((*every.boxes.T, every.labels, -every.scores))]
    labels = np.unique(every.labels)
    parts = [_fuse_class(every[every.labels == label], len(views), iou) for label in labels] or [every]
    fused = joined(parts)
    return fused[np.argsort(-fused.scores, kind="stable")]


def _fuse_class(found: Found, views: int, iou: float) -> Found:
    """The clusters of boxes of one class, which come by falling score."""
    fused = np.zeros_like(found.boxes)
    weighted, weights, counts = np.zeros_like(found.boxes), np.zeros(len(found)), np.zeros(len(found))
    clusters = 0
    for box, score in zip(found.boxes, found.scores, strict=True):
        overlaps = box_iou(fused[:clusters], box[None])[:, 0]
        best = int(overlaps.argmax()) if clusters else 0
        if not clusters or overlaps[best] <= iou:
            best, clusters = clusters, clusters + 1
        weighted[best] += score * box
        weights[best] += score
        counts[best] += 1
        fused[best] = weighted[best] / weights[best] if weights[best] > 0 else box
    scores = weights / np.maximum(counts, 1) * np.minimum(counts, views) / views
    return Found(fused[:clusters], scores[:clusters], found.labels[:clusters])


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of boxes [N, 4] and [M, 4], xyxy: [N, M]; 0 where both are without area."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clip(min=0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)

"""COCO's average precision through pycocotools, quietly, for boxes that are held in arrays."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

MAX_DETECTIONS = 100
"""Boxes that count of each image and category, the best first."""


def average_precision(images: Mapping[int, tuple[np.ndarray, np.ndarray, np.ndarray, Any]],
                      ) -> dict[int, tuple[float, float]]:
    """AP of every category that has a box to find.

    Args:
        images: by image id: found boxes float64 [N, 4] xywh in pixels, their category ids [N] and scores [N],
            and a truth with `boxes_xywh` [M, 4], `category_ids`, `is_crowd` and `areas`, [M] each.

    Returns:
        (AP at IoU 0.50, mean AP at IoU 0.50 to 0.95) by category id: the terms whose means are COCOeval's
        `stats[1]` and `stats[0]`.
    """
    sought = np.unique(np.concatenate([truth.category_ids for *_, truth in images.values()] or [np.empty(0)]))
    sought = sought.astype(np.int64)
    if not len(sought):
        return {}
    truths = [item for image_id, (*_, truth) in images.items() for item in _wanted(image_id, truth)]
    # Boxes of any other category change nothing: COCOeval leaves out categories without a truth.
    found = [item for image_id, (boxes, categories, scores, _) in images.items()
             for item in _found(image_id, boxes, categories, scores, np.isin(categories, sought))]
    precision_TRK = _evaluate(list(images), sought.tolist(), truths, found)
    # -1 where all of a category's boxes are crowds: there is nothing to find.
    return {category: (float(precision_TRK[0, :, k].mean()), float(precision_TRK[:, :, k].mean()))
            for k, category in enumerate(sought.tolist())
            if precision_TRK[0, 0, k] > -1}


def _wanted(image_id: int, truth: Any) -> list[dict[str, Any]]:
    columns = zip(truth.boxes_xywh.tolist(), truth.category_ids.tolist(), truth.is_crowd.tolist(),
                  truth.areas.tolist(), strict=True)
    return [{"image_id": image_id, "bbox": box, "category_id": category, "iscrowd": int(crowd), "area": area}
            for box, category, crowd, area in columns]


def _found(image_id: int, boxes: np.ndarray, categories: np.ndarray, scores: np.ndarray, counts: np.ndarray,
           ) -> list[dict[str, Any]]:
    columns = zip(boxes[counts].tolist(), categories[counts].tolist(), scores[counts].tolist(), strict=True)
    return [{"image_id": image_id, "bbox": box, "category_id": category, "score": score, "iscrowd": 0,
             "area": box[2] * box[3]}
            for box, category, score in columns]


def _evaluate(image_ids: list[int], categories: list[int], truths: list[dict[str, Any]],
              found: list[dict[str, Any]]) -> np.ndarray:
    """Interpolated precision [T, R, K]: 10 IoU thresholds, 101 recalls, categories; -1 without a truth."""
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        sides = [_coco(image_ids, categories, annotations) for annotations in (truths, found)]
        evaluation = COCOeval(*sides, iouType="bbox")
        # Only what is asked for: AP by size of the box would take four times as long.
        evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, :, 0, 0]


def _coco(image_ids: list[int], categories: list[int], annotations: list[dict[str, Any]]) -> Any:
    from pycocotools.coco import COCO

    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number  # never 0, which COCOeval takes for "no match"
    coco = COCO()
    coco.dataset = {"images": [{"id": image_id} for image_id in image_ids], "annotations": annotations,
                    "categories": [{"id": category} for category in categories]}
    coco.createIndex()
    return coco

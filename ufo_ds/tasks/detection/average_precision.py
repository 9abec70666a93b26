"""COCO's average precision for boxes that are held in arrays, equal to COCOeval's and a tenth of its time.

COCOeval walks over every pair of image and category in Python. Only the few pairs with something to find need that:
all other boxes are false alarms, and go straight into the ranking. Thresholds and IoU are pycocotools' own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_DETECTIONS = 100
"""Boxes that count of each image and category, the best first."""
MAX_AREA = 1e5**2
"""Square pixels; COCOeval's range "all" ends here. Larger truths need not be found, larger boxes are no false alarm."""


@dataclass
class _Boxes:
    """Boxes of all images, sorted by category, then image, then as ranked.

    Attributes:
        categories: int64 [N].
        images: int64 [N], the image's place among the ids in ascending order.
        boxes_xywh: float64 [N, 4], C-contiguous.
        scores: float64 [N]; none for truths.
        is_crowd: bool [N]; truths only.
        ignored: bool [N]: a crowd, or larger than `MAX_AREA`.
    """

    categories: np.ndarray
    images: np.ndarray
    boxes_xywh: np.ndarray
    scores: np.ndarray
    is_crowd: np.ndarray
    ignored: np.ndarray

    def take(self, places: np.ndarray) -> _Boxes:
        """Those at `places` (indices or bool), in that order."""
        return _Boxes(*(column[places] for column in vars(self).values()))

    def bounds(self) -> np.ndarray:
        """Where each pair of category and image begins, and N: int64, one more than there are pairs."""
        new = np.ones(len(self.images), bool)
        new[1:] = (np.diff(self.categories) != 0) | (np.diff(self.images) != 0)
        return np.append(np.flatnonzero(new), len(new))

    def pairs(self) -> dict[tuple[int, int], slice]:
        """The places of each pair of category and image."""
        bounds = self.bounds()
        firsts = zip(self.categories[bounds[:-1]].tolist(), self.images[bounds[:-1]].tolist(), strict=True)
        return dict(zip(firsts, map(slice, bounds[:-1].tolist(), bounds[1:].tolist()), strict=True))


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
    from pycocotools.cocoeval import Params

    params = Params(iouType="bbox")
    in_order = [images[image_id] for image_id in sorted(images)]
    truths, found = _truths(in_order), _found(in_order)
    hits_TN, ignored_TN = _matches(truths, found, params.iouThrs)
    result: dict[int, tuple[float, float]] = {}
    # Where all of a category's boxes are ignored there is nothing to find.
    for category, wanted in zip(*np.unique(truths.categories[~truths.ignored], return_counts=True), strict=True):
        own = slice(*np.searchsorted(found.categories, [category, category + 1]))
        ranked = np.argsort(-found.scores[own], kind="stable")
        hits, counted = hits_TN[:, own][:, ranked], ~ignored_TN[:, own][:, ranked]
        precision_T = _precisions(hits & counted, ~hits & counted, int(wanted), params.recThrs)
        result[int(category)] = float(precision_T[0]), float(precision_T.mean())
    return result


def _truths(images: list[tuple]) -> _Boxes:
    columns = [truth for *_, truth in images]
    crowds = _joined([truth.is_crowd for truth in columns], bool)
    areas = _joined([truth.areas for truth in columns], np.float64)
    ignored = crowds | (areas < 0) | (areas > MAX_AREA)
    boxes = _Boxes(_joined([truth.category_ids for truth in columns], np.int64),
                   _places([truth.category_ids for truth in columns]),
                   _joined([truth.boxes_xywh for truth in columns], np.float64).reshape(-1, 4),
                   np.zeros(len(crowds)), crowds, ignored)
    return boxes.take(np.lexsort((ignored, boxes.images, boxes.categories)))


def _found(images: list[tuple]) -> _Boxes:
    """The boxes that count, each image's best first."""
    boxes_xywh = _joined([boxes for boxes, *_ in images], np.float64).reshape(-1, 4)
    areas = boxes_xywh[:, 2] * boxes_xywh[:, 3]
    boxes = _Boxes(_joined([categories for _, categories, *_ in images], np.int64),
                   _places([categories for _, categories, *_ in images]), boxes_xywh,
                   _joined([scores for _, _, scores, _ in images], np.float64),
                   np.zeros(len(areas), bool), (areas < 0) | (areas > MAX_AREA))
    boxes = boxes.take(np.lexsort((-boxes.scores, boxes.images, boxes.categories)))
    bounds = boxes.bounds()
    ranks = np.arange(len(areas)) - np.repeat(bounds[:-1], np.diff(bounds))
    return boxes.take(ranks < MAX_DETECTIONS)


def _joined(columns: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate([np.asarray(column, kind).reshape(-1) for column in columns] or [np.empty(0, kind)])


def _places(columns: list[np.ndarray]) -> np.ndarray:
    return np.repeat(np.arange(len(columns)), [len(column) for column in columns])


# ---- which box finds which ----


def _matches(truths: _Boxes, found: _Boxes, thresholds_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each found box is matched, and whether it is left out of the count: bool [T, N] each."""
    from pycocotools import mask

    hits: list[tuple[int, int]] = []
    on_ignored: list[tuple[int, int]] = []
    places = found.pairs()
    for pair, own in truths.pairs().items():
        if (near := places.get(pair)) is None:
            continue
        crowds, ignored = truths.is_crowd[own], truths.ignored[own].tolist()
        ious_DG = mask.iou(found.boxes_xywh[near], truths.boxes_xywh[own], crowds.astype(np.uint8))
        for threshold, box, truth in _assign(ious_DG, crowds.tolist(), ignored, thresholds_T.tolist()):
            hits.append((threshold, near.start + box))
            if ignored[truth]:
                on_ignored.append((threshold, near.start + box))
    hits_TN = _marks(hits, (len(thresholds_T), len(found.images)))
    return hits_TN, _marks(on_ignored, hits_TN.shape) | (~hits_TN & found.ignored)


def _assign(ious_DG: np.ndarray, crowds: list[bool], ignored: list[bool], thresholds: list[float],
            ) -> Iterator[tuple[int, int, int]]:
    """(threshold, box, truth): each box in turn takes the nearest truth left, an ignored one only if it must."""
    near: dict[int, list[tuple[int, float]]] = {}
    boxes, columns = np.nonzero(~(ious_DG < thresholds[0]))
    for box, truth in zip(boxes.tolist(), columns.tolist(), strict=True):
        near.setdefault(box, []).append((truth, float(ious_DG[box, truth])))
    for number, threshold in enumerate(thresholds if near else ()):
        taken: set[int] = set()
        for box, choices in near.items():
            best, chosen = min(threshold, 1 - 1e-10), -1
            for truth, iou in choices:  # the ignored ones come last
                if truth in taken and not crowds[truth]:
                    continue
                if chosen > -1 and not ignored[chosen] and ignored[truth]:
                    break
                if not iou < best:
                    best, chosen = iou, truth
            if chosen > -1:
                taken.add(chosen)
                yield number, box, chosen


def _marks(places: list[tuple[int, int]], shape: tuple[int, int]) -> np.ndarray:
    marks = np.zeros(shape, bool)
    if places:
        marks[tuple(np.array(places).T)] = True
    return marks


# ---- from the ranking to the figure ----


def _precisions(hits_TN: np.ndarray, false_TN: np.ndarray, wanted: int, recalls_R: np.ndarray) -> np.ndarray:
    """Mean precision over the recalls, at each threshold: float64 [T]."""
    right, wrong = np.cumsum(hits_TN, axis=1, dtype=np.float64), np.cumsum(false_TN, axis=1, dtype=np.float64)
    precision = right / (wrong + right + np.spacing(1))
    # The best that is reached at this recall or a higher one.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.zeros((len(hits_TN), len(recalls_R)))
    for row, (values, recall) in enumerate(zip(precision, right / wanted, strict=True)):
        places = np.searchsorted(recall, recalls_R, side="left")
        places = places[places < len(values)]
        reached[row, : len(places)] = values[places]
    return reached.mean(axis=1)

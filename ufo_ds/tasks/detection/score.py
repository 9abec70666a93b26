"""Detection: predictions, COCO's mAP, and the section `dec` of a submission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ufo_ds.errors import UserError, shown
from ufo_ds.submission import is_integer, read_boxes, read_json
from ufo_ds.submission_pieces import Box, box_columns
from ufo_ds.tasks.detection.average_precision import average_precision
from ufo_ds.tasks.detection.label import annotation_problem, parse_label

if TYPE_CHECKING:
    from ufo_ds.data.schema import RawSample, TaskMeta

BOX_DECIMALS = 3
"""Decimals of a submission's pixels; a hundredth of a pixel is 0.002 of IoU on a sign 10 pixels wide."""


@dataclass
class BoxPrediction:
    """The boxes that a network finds in one image.

    Attributes:
        image_id: as in the ground truth.
        boxes: float [N, 4], xyxy in pixels of the original image.
        category_ids: int [N], ids of the data set (not the network's indices).
        scores: float [N], 0..1.
        file_name: of the image, where known.
    """

    image_id: int
    boxes: np.ndarray
    category_ids: np.ndarray
    scores: np.ndarray
    file_name: str = ""

    def xywh(self) -> np.ndarray:
        """float64 [N, 4], rounded as in a submission, so that validation scores what a submission will."""
        boxes = np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4)
        sizes = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
        return np.round(np.concatenate([boxes[:, :2], sizes], axis=1), BOX_DECIMALS)


@dataclass
class SubmittedBoxes:
    """The boxes of one image as a submission states them: float64 [N, 4] xywh in pixels, unrounded."""

    image_id: int
    boxes_xywh: np.ndarray
    category_ids: np.ndarray
    scores: np.ndarray

    def xywh(self) -> np.ndarray:
        """The boxes, float64 [N, 4]."""
        return self.boxes_xywh

    @property
    def boxes(self) -> np.ndarray:
        """The boxes as xyxy."""
        return _xyxy(self.boxes_xywh)


@dataclass
class BoxTruth:
    """The labelled boxes of one image.

    Attributes:
        image_id: as in the annotation file.
        boxes_xywh: float64 [N, 4] in pixels of the original image, as annotated.
        category_ids: int64 [N].
        is_crowd: bool [N]; crowds are neither found nor missed, and what lies on them counts for nothing.
        areas: float64 [N], square pixels.
    """

    image_id: int
    boxes_xywh: np.ndarray
    category_ids: np.ndarray
    is_crowd: np.ndarray
    areas: np.ndarray

    @property
    def boxes(self) -> np.ndarray:
        """The boxes as xyxy, float64 [N, 4]."""
        return _xyxy(self.boxes_xywh)


Boxes = BoxPrediction | SubmittedBoxes
State = dict[int, tuple[np.ndarray, np.ndarray, np.ndarray, BoxTruth]]


class BoxMetric:
    """COCO's box AP over all images: `mAP50` (IoU 0.50) and `mAP` (0.50 to 0.95). A `Metric`."""

    def __init__(self) -> None:
        self.images: State = {}
        self._precision: dict[int, tuple[float, float]] | None = None

    def update(self, predictions: Sequence[Boxes], truths: Sequence[BoxTruth]) -> None:
        """Count these images, each of them once in all."""
        for found, truth in zip(predictions, truths, strict=True):
            assert found.image_id == truth.image_id, (found.image_id, truth.image_id)
            assert truth.image_id not in self.images, f"image {truth.image_id} twice"
            categories = np.asarray(found.category_ids, np.int64)
            scores = np.asarray(found.scores, np.float64)
            self.images[truth.image_id] = found.xywh(), categories, scores, truth
        self._precision = None

    def state(self) -> State:
        """Boxes (xywh), categories, scores and the truth, by image id."""
        return self.images

    def merge(self, states: Sequence[State]) -> None:
        """Become the union of `states`, which share no image."""
        merged = {image_id: image for state in states for image_id, image in state.items()}
        assert len(merged) == sum(map(len, states)), "an image stands in two states"
        self.images = merged
        self._precision = None

    def compute(self) -> dict[str, float]:
        """`mAP50` and `mAP` in 0..1, the mean over the categories with a box; 0 where there is none."""
        by_category = self._by_category()
        mean = np.mean(list(by_category.values()), axis=0) if by_category else (0.0, 0.0)
        return {"mAP50": float(mean[0]), "mAP": float(mean[1])}

    def per_class(self) -> dict[int, float]:
        """AP at IoU 0.50 by category id, for the categories with a box that is no crowd."""
        return {category: at_50 for category, (at_50, _) in self._by_category().items()}

    def _by_category(self) -> dict[int, tuple[float, float]]:
        if self._precision is None:  # seconds on a few thousand images
            self._precision = average_precision(self.images)
        return self._precision


def truth_of(raw: RawSample, meta: TaskMeta) -> BoxTruth:
    """The boxes in a sample. `UserError` where it has no labels, or a category that is no class of meta's."""
    if "json" not in raw.members:
        raise UserError(f"{raw.file_name}: has no annotations; score a labelled split")
    try:
        value = parse_label(raw.members["json"])
    except UserError as error:
        raise UserError(f"{raw.file_name}: {error}") from None
    if "annotations" not in value:
        raise UserError(f"{raw.file_name}: has no annotations; score a labelled split")
    truth = _truth(value["image_id"], value["annotations"])
    if foreign := set(truth.category_ids.tolist()) - set(meta.class_ids):
        problem = f"category {min(foreign)} is none of the {meta.num_classes} class ids"
        raise UserError(f"{raw.file_name}: {problem}; score a split with the same classes")
    return truth


def write_section(predictions: Sequence[Boxes], as_objects: bool = False) -> Any:
    """Predictions -> the section `dec`: one list by image id, then falling score; it has this form only.

    Scores stand in their shortest exact spelling: rounded to few decimals, weak boxes would tie, and AP,
    which sees nothing but the ranking, would change.

    Raises:
        UserError: boxes or scores that are not finite.
    """
    entries: list[dict[str, Any]] = []
    for found in sorted(predictions, key=lambda item: item.image_id):
        boxes, scores = found.xywh(), np.asarray(found.scores)
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise UserError(f"image {found.image_id}: boxes or scores are not finite: the weights diverged")
        order = np.argsort(-scores, kind="stable")
        columns = zip(np.asarray(found.category_ids)[order].tolist(), boxes[order].tolist(), map(str, scores[order]),
                      strict=True)
        entries += [{"image_id": int(found.image_id), "category_id": category, "bbox": box, "score": float(score)}
                    for category, box, score in columns]
    return entries


def read_section(value: Any, path: Path) -> dict[int, SubmittedBoxes]:
    """The section `dec` -> boxes by image id. `UserError` names `path` and the entry."""
    by_image: dict[int, list[dict[str, Any]]] = {}
    for entry in read_boxes(value, path):
        by_image.setdefault(entry["image_id"], []).append(entry)
    return {image_id: SubmittedBoxes(image_id, _column(entries, "bbox", np.float64),
                                     _column(entries, "category_id", np.int64),
                                     _column(entries, "score", np.float64))
            for image_id, entries in by_image.items()}


def read_entries(boxes: list[Box]) -> dict[int, SubmittedBoxes]:
    """Entries of the section `dec` -> boxes by image id. `DoubtError` where a number is out of bounds."""
    image_ids, *columns = box_columns(boxes)
    order = np.argsort(image_ids, kind="stable")
    columns = [column[order] for column in columns]
    keys, firsts, counts = np.unique(image_ids, return_index=True, return_counts=True)
    stops = np.cumsum(counts)
    images: dict[int, SubmittedBoxes] = {}
    for place in np.argsort(firsts).tolist():  # as they come in the file
        own = slice(stops[place] - counts[place], stops[place])
        images[int(keys[place])] = SubmittedBoxes(int(keys[place]), *(column[own] for column in columns))
    return images


def _column(entries: Sequence[Mapping[str, Any]], key: str, kind: type) -> np.ndarray:
    return np.array([entry[key] for entry in entries], kind)


def no_boxes(image_id: int) -> SubmittedBoxes:
    """What a submission says of an image that it does not mention."""
    return SubmittedBoxes(image_id, np.empty((0, 4)), np.empty(0, np.int64), np.empty(0))


def read_truth(path: Path, meta: TaskMeta | None = None) -> Mapping[int, BoxTruth]:
    """A COCO annotation file -> the boxes of every image, by image id; see `read_coco`."""
    return read_coco(path)[0]


def read_coco(path: Path) -> tuple[dict[int, BoxTruth], dict[int, str]]:
    """A COCO annotation file -> (boxes by image id, category names by id).

    `area`, `iscrowd`, the annotations' ids and `categories` may be absent.

    Raises:
        UserError: names file and entry.
    """
    value = read_json(Path(path))
    lists = ("images", "annotations")
    if not isinstance(value, dict) or not all(isinstance(value.get(name), list) for name in lists):
        raise UserError(f"{path}: is no COCO file with the lists images and annotations; give det.json")
    names, by_image = _categories(value, path), _images(value, path)
    for number, item in enumerate(value["annotations"]):
        if problem := _annotation_problem(item, by_image, names):
            raise UserError(f"{path}: annotations[{number}] {problem}; mend the annotation file")
        by_image[item["image_id"]].append(item)
    return {image_id: _truth(image_id, items) for image_id, items in by_image.items()}, names


def _images(value: dict[str, Any], path: Path) -> dict[int, list[dict[str, Any]]]:
    by_image: dict[int, list[dict[str, Any]]] = {}
    for number, image in enumerate(value["images"]):
        if not isinstance(image, dict) or not is_integer(image.get("id")) or image["id"] in by_image:
            raise UserError(f"{path}: images[{number}] has no integer id of its own; mend the file")
        by_image[image["id"]] = []
    if not by_image:
        raise UserError(f"{path}: lists no image; give the annotation file of the split that was predicted")
    return by_image


def _categories(value: dict[str, Any], path: Path) -> dict[int, str]:
    items = value.get("categories")
    if items is None:  # then whatever the annotations name
        annotations = (item for item in value["annotations"] if isinstance(item, dict))
        return {item["category_id"]: "" for item in annotations if is_integer(item.get("category_id"))}
    if not isinstance(items, list) or not all(map(_is_category, items)):
        raise UserError(f"{path}: categories are no objects with an integer id and a name; mend the annotation file")
    if len({item["id"] for item in items}) != len(items):
        raise UserError(f"{path}: categories have an id twice; mend the annotation file")
    return {item["id"]: item.get("name", "") for item in items}


def _is_category(item: Any) -> bool:
    return isinstance(item, dict) and is_integer(item.get("id")) and isinstance(item.get("name", ""), str)


def _annotation_problem(item: Any, images: Mapping[int, Any], categories: Mapping[int, str]) -> str:
    """What is wrong with an annotation; empty when nothing is."""
    if not isinstance(item, dict):
        return "is no object"
    for key, known in (("image_id", images), ("category_id", categories)):
        if not is_integer(item.get(key)) or item[key] not in known:
            return f"has {key} {shown(item.get(key))}, which the file does not list"
    return annotation_problem(item)


def _truth(image_id: int, items: Sequence[Mapping[str, Any]]) -> BoxTruth:
    boxes = _column(items, "bbox", np.float64).reshape(-1, 4)
    areas = np.array([item.get("area", item["bbox"][2] * item["bbox"][3]) for item in items], np.float64)
    crowds = np.array([item.get("iscrowd", 0) for item in items], bool)
    return BoxTruth(int(image_id), boxes, _column(items, "category_id", np.int64), crowds, areas)


def _xyxy(boxes_xywh: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)

"""Samples of a split as small pictures with their labels. Pictures are RGB uint8 [H, W, 3]."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from shards.image_check import UnfitError
from shards.layouts import Boxes
from shards.sample_check import read_boxes, read_class
from shards.viewing.figures import SplitFigures
from ufo_ds.data.decode import DecodeError, decode_image, decode_mask
from ufo_ds.data.schema import TaskMeta, label_extension
from ufo_ds.drawing import box_colours, boxes, fit_mask, mask_colours, overlay_mask
from ufo_ds.errors import UserError

_NAMED = 12
"""Boxes of a picture that bear their names, the largest first; more would hide the picture."""
_MOST_ENLARGED = 4
_CROWD = (160, 160, 160)


@dataclass(frozen=True)
class Tile:
    """A sample drawn.

    Attributes:
        picture: RGB uint8 [H, W, 3]; None where it cannot be decoded.
        file_name: of the image.
        caption: the class (cls), the number of boxes (det), or why there is no picture.
    """

    picture: np.ndarray | None
    file_name: str
    caption: str


def choose(total: int, count: int, seed: int) -> list[int]:
    """Numbers of `count` samples out of `total`: one at random out of each of `count` equal stretches, ascending."""
    count = min(count, total)
    edges = np.linspace(0, total, count + 1).astype(int)
    return np.random.default_rng(seed).integers(edges[:-1], edges[1:]).tolist()


def draw_tile(figures: SplitFigures, number: int, width: int, height: int) -> Tile:
    """Draw sample `number` within `width` x `height` pixels, its aspect kept."""
    raw, meta = figures.shards[number], figures.meta
    label = raw.members.get(label_extension(meta.task, raw.members)) if len(raw.members) > 1 else None
    try:
        image = decode_image(raw.image)
        factor = min(width / image.shape[1], height / image.shape[0], _MOST_ENLARGED)
        size = [max(1, round(side * factor)) for side in image.shape[1::-1]]
        small = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA)
        return Tile(*_draw(meta, small, factor, label, raw.file_name))
    except (DecodeError, UnfitError, UserError) as fault:
        return Tile(None, raw.file_name, str(fault))


def _draw(meta: TaskMeta, image: np.ndarray, factor: float, label: bytes | None,
          name: str) -> tuple[np.ndarray, str, str]:  # fmt: skip
    if label is None:
        return image, name, ""
    if meta.task == "cls":
        return image, name, meta.class_names[meta.index_of(read_class(label))]
    if meta.task == "det":
        found = read_boxes(label)
        count = len(found.annotations or ())
        caption = "" if found.annotations is None else f"{count} box{'' if count == 1 else 'es'}"
        return _draw_boxes(image, factor, found, meta), name, caption
    mask = decode_mask(label)
    return overlay_mask(image, fit_mask(mask, image.shape), mask_colours(meta.num_classes)), name, ""


def _draw_boxes(image: np.ndarray, factor: float, found: Boxes, meta: TaskMeta) -> np.ndarray:
    items = sorted(found.annotations or (), key=lambda item: -item["bbox"][2] * item["bbox"][3])
    if not items:
        return image
    xywh = np.array([item["bbox"] for item in items], float) * factor
    indices = [meta.index_of(item["category_id"]) for item in items]
    names = [meta.class_names[index] if i < _NAMED else "" for i, index in enumerate(indices)]
    table = box_colours(meta.num_classes)
    colours = [_CROWD if item.get("iscrowd", 0) else table[index] for item, index in zip(items, indices, strict=True)]
    return boxes(image, np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]), names, colours=colours)

"""A detection canvas and the boxes on it: of one picture, or of four."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ufo_ds.data.decode import DecodeError, EncodedImage
from ufo_ds.data.pixels import GREY, jitter_colour, uniform
from ufo_ds.data.placement import Placement, fit_scale
from ufo_ds.data.resampling import Pair
from ufo_ds.data.schema import RawSample, TaskMeta
from ufo_ds.errors import UserError
from ufo_ds.recipe import DetConfig
from ufo_ds.tasks.detection.label import parse_label

Target = dict[str, Tensor]
"""`class_labels` int64 [N], the network's indices; `boxes` float32 [N, 4], cxcywh, 0..1 of the canvas."""
CENTRE = (0.3, 0.7)
"""Where the four pictures of a mosaic meet, as shares of the canvas (smallest, largest)."""


@dataclass
class Scene:
    """A canvas being put together.

    Attributes:
        pixels: uint8 [3, H, W], RGB.
        labels: int64 [N], the network's class indices.
        boxes: float64 [N, 4], xyxy in pixels of the canvas.
    """

    pixels: Tensor
    labels: np.ndarray
    boxes: np.ndarray

    def put(self, other: Scene, top: int, left: int) -> None:
        """Lay a smaller scene over a part of this one, its corner at (top, left)."""
        height, width = other.pixels.shape[1:]
        self.pixels[:, top : top + height, left : left + width] = other.pixels
        self.add(other.labels, other.boxes + np.array([left, top, left, top]))

    def add(self, labels: np.ndarray, boxes: np.ndarray) -> None:
        """Further boxes."""
        self.labels, self.boxes = np.append(self.labels, labels), np.append(self.boxes, boxes, axis=0)

    def target(self) -> Target:
        """What the loss takes."""
        return to_target(self.labels, self.boxes, tuple(self.pixels.shape[1:]))


class Picture:
    """A labelled image of which the label has been read, and of the pixels the header alone.

    Attributes:
        label: `image_id` and `annotations`; see `label.parse_label`.
        image: undecoded.

    Raises:
        UserError: no annotations, or none that are right; who reads the sample adds its name.
        DecodeError: not an image.
    """

    def __init__(self, raw: RawSample) -> None:
        self.label = read_label(raw)
        if "annotations" not in self.label:
            raise UserError("no annotations (.json member); build the shards from labelled data")
        self.image = EncodedImage(raw.image)

    @property
    def annotations(self) -> list[dict[str, Any]]:
        """COCO-like, `bbox` xywh in pixels of the image."""
        return self.label["annotations"]


def read_label(raw: RawSample) -> dict[str, Any]:
    """The `.json` of a sample: `image_id`, and `annotations` where it is labelled.

    Raises:
        UserError: there is none, or it is something else; who reads the sample adds its name.
    """
    return parse_label(raw.members.get("json", b""))


def view(picture: Picture, canvas: Pair, config: DetConfig, meta: TaskMeta) -> tuple[Scene, float]:
    """A picture at a random scale: a random part where larger than the canvas, at a random place where smaller.

    Draws from torch's global generator.

    Args:
        picture: undecoded; no more of its pixels are made than the scale needs.
        canvas: (H, W), pixels; the scale is relative to the one that fits the picture to `config.size`.
        config: the augmentation.
        meta: the classes.

    Returns:
        The scene, and the scale: canvas pixels an original pixel.

    Raises:
        DecodeError: broken pixels.
    """
    size = picture.image.size
    scale = fit_scale(size, tuple(config.size)) * uniform(*config.scale_jitter)
    scale = max(scale, (1 + 1e-9) / min(size))  # a pixel of the shorter side has to be left
    place = Placement.at_random(size, canvas, scale, _box_to_hold(picture, config))
    decoded, reduction = picture.image.decode(scale)
    place = place.reduced(reduction)
    pixels = place.paste(jitter_colour(place.window(decoded), config.color_jitter))
    return Scene(pixels, *visible(picture.annotations, place, size, config, meta)), scale


def mosaic(own: Picture, others: Sequence[RawSample], config: DetConfig, meta: TaskMeta) -> tuple[Scene, float, int]:
    """Four pictures, each a `view` of its quarter of the canvas, around a random centre (arXiv 2004.10934).

    Returns:
        The scene, the scale of the own picture, and how many of the three others are broken: their quarters stay grey.

    Raises:
        DecodeError: broken pixels of the own picture.
    """
    height, width = config.size
    middle = [round(side * uniform(*CENTRE)) for side in (height, width)]
    rows, columns = ([(0, at), (at, side)] for at, side in zip(middle, (height, width), strict=True))
    whole = Scene(torch.full((3, height, width), GREY, dtype=torch.uint8), *nothing())
    (row, column), *quarters = [(row, column) for row in rows for column in columns]
    scene, scale = view(own, _size(row, column), config, meta)
    whole.put(scene, row[0], column[0])
    broken = 0
    for raw, (row, column) in zip(others, quarters, strict=True):
        try:
            with named(raw):
                scene, _ = view(Picture(raw), _size(row, column), config, meta)
            whole.put(scene, row[0], column[0])
        except DecodeError:
            broken += 1
    return whole, scale, broken


def _size(row: Pair, column: Pair) -> Pair:
    return row[1] - row[0], column[1] - column[0]


@contextmanager
def named(companion: RawSample) -> Iterator[None]:
    """Where a companion is not what it should be, say which: who reads the sample adds only that one's name."""
    try:
        yield
    except UserError as error:
        raise UserError(f"beside it {companion.file_name}: {error}") from None


def visible(
    annotations: Sequence[dict[str, Any]], place: Placement, size: Pair, config: DetConfig, meta: TaskMeta
) -> tuple[np.ndarray, np.ndarray]:
    """What of the boxes is to be found on the canvas: no crowds, none cut off too far, none too small.

    Args:
        annotations: COCO-like, `bbox` xywh in pixels of the original.
        place: of the image on the canvas.
        size: (H, W) of the original, pixels. What of a box sticks out of the image does not count as cut off.
        config: `min_visible` and `min_box` count.
        meta: the classes.

    Returns:
        Class indices int64 [N], and xyxy float64 [N, 4] in pixels of the canvas.
    """
    wanted = [item for item in annotations if not item.get("iscrowd", 0)]
    labels = np.array([meta.index_of(item["category_id"]) for item in wanted], np.int64)
    whole = place.boxes(boxes_of(wanted).clip(0, [size[1], size[0]] * 2))
    shown = place.clip(whole)
    sides, whole_sides = shown[:, 2:] - shown[:, :2], whole[:, 2:] - whole[:, :2]
    kept = ((sides > 0) & (sides >= config.min_box)).all(1)
    kept &= sides.prod(1) >= config.min_visible * whole_sides.prod(1)
    return labels[kept], shown[kept]


def boxes_of(annotations: Sequence[dict[str, Any]]) -> np.ndarray:
    """`bbox` of each annotation as xyxy, float64 [N, 4], pixels of the original, not clipped."""
    xywh = np.array([item["bbox"] for item in annotations], np.float64).reshape(-1, 4)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether boxes [..., 4], xyxy, have an area in common; bool [...]."""
    return ((first[..., :2] < second[..., 2:]) & (second[..., :2] < first[..., 2:])).all(-1)


def to_target(labels: np.ndarray, xyxy: np.ndarray, canvas: Pair) -> Target:
    """Class indices [N] and boxes [N, 4], xyxy in pixels of a canvas (H, W) -> `Target`."""
    cxcywh = np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    relative = cxcywh / ([canvas[1], canvas[0]] * 2)
    return {"class_labels": torch.from_numpy(labels), "boxes": torch.from_numpy(relative).float()}


def nothing() -> tuple[np.ndarray, np.ndarray]:
    """Labels [0] and boxes [0, 4] of an empty scene."""
    return np.zeros(0, np.int64), np.zeros((0, 4))


def _box_to_hold(picture: Picture, config: DetConfig) -> np.ndarray | None:
    """One of the boxes, xyxy in pixels of the original, or None where the dice or an empty picture say so."""
    if not config.crop_to_box or uniform(0, 1) >= config.crop_to_box:
        return None
    height, width = picture.image.size
    boxes = boxes_of([item for item in picture.annotations if not item.get("iscrowd", 0)])
    boxes = boxes.clip(0, [width, height] * 2)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
    return boxes[int(torch.randint(len(boxes), ()))] if len(boxes) else None

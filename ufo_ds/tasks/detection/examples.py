"""Detection: raw sample -> example -> batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ufo_ds.data.batch import Batch, Example
from ufo_ds.data.decode import EncodedImage
from ufo_ds.data.pixels import jitter_colour, uniform
from ufo_ds.data.placement import Placement, fit_scale
from ufo_ds.data.schema import RawSample, TaskMeta
from ufo_ds.errors import UserError
from ufo_ds.recipe import DetConfig
from ufo_ds.tasks.detection.label import parse_label

Target = dict[str, Tensor]
"""`class_labels` int64 [N], the network's indices; `boxes` float32 [N, 4], cxcywh, 0..1 of the canvas."""


class TrainTransform:
    """The image at a random scale on the canvas: a random crop where larger, at a random place where smaller.

    Scales are relative to the one that fits the image to the canvas. Colours are jittered, and the canvas is
    mirrored at random. The target is a `Target`.
    """

    def __init__(self, config: DetConfig, meta: TaskMeta) -> None:
        self.config, self.meta = config, meta

    def __call__(self, raw: RawSample) -> Example:
        """`UserError` where the sample has no annotations; `DecodeError` for broken bytes."""
        label = read_label(raw)
        if "annotations" not in label:
            raise UserError("no annotations (.json member); build the shards from labelled data")
        image = EncodedImage(raw.image)
        size, canvas = image.size, tuple(self.config.size)
        scale = fit_scale(size, canvas) * uniform(*self.config.scale_jitter)
        place = Placement.at_random(size, canvas, scale)
        decoded, reduction = image.decode(scale)
        place = place.reduced(reduction)
        pixels = place.paste(jitter_colour(place.window(decoded), self.config.color_jitter))
        target = make_target(label["annotations"], place, size, self.config, self.meta)
        if uniform(0, 1) < self.config.hflip:
            pixels = pixels.flip(-1)
            target["boxes"][:, 0] = 1 - target["boxes"][:, 0]
        return Example(pixels, target, source_of(raw, label, size, scale))


class EvalTransform:
    """The image fitted to the canvas, in its top left corner: canvas pixels / `source["scale"]` = original
    ones.
    """

    def __init__(self, config: DetConfig, meta: TaskMeta) -> None:
        self.config, self.meta = config, meta

    def __call__(self, raw: RawSample) -> Example:
        """The target is None without annotations, all in classes of `meta` (the weights may have others)."""
        label = read_label(raw)
        image = EncodedImage(raw.image)
        size, canvas = image.size, tuple(self.config.size)
        scale = fit_scale(size, canvas)
        decoded, reduction = image.decode(scale)
        place = Placement.at_origin(size, canvas, scale).reduced(reduction)
        annotations, known, target = label.get("annotations"), set(self.meta.class_ids), None
        if annotations is not None and {item["category_id"] for item in annotations} <= known:
            target = make_target(annotations, place, size, self.config, self.meta)
        return Example(place.paste(place.window(decoded)), target, source_of(raw, label, size, scale))


def read_label(raw: RawSample) -> dict[str, Any]:
    """The `.json` of a sample: `image_id`, and `annotations` where it is labelled.

    Raises:
        UserError: there is none, or it is something else; who reads the sample adds its name.
    """
    return parse_label(raw.members.get("json", b""))


def collate(examples: Sequence[Example]) -> Batch:
    """Images uint8 [B, 3, H, W]; targets a list of `Target`, or None where a sample has none."""
    targets = [example.target for example in examples]
    images = torch.stack([example.image for example in examples])
    sources = [example.source for example in examples]
    return Batch("det", images, None if None in targets else targets, sources)


def make_target(
    annotations: Sequence[dict[str, Any]],
    place: Placement,
    size: tuple[int, int],
    config: DetConfig,
    meta: TaskMeta,
) -> Target:
    """The boxes that are to be found on the canvas: no crowds, none cut off too far, none too small.

    Args:
        annotations: COCO-like, `bbox` xywh in pixels of the original.
        place: of the image on the canvas.
        size: (H, W) of the original, pixels. What of a box sticks out of the image does not count as cut off.
        config: `min_visible` and `min_box` count.
        meta: the classes.
    """
    wanted = [item for item in annotations if not item.get("iscrowd", 0)]
    labels = torch.tensor([meta.index_of(item["category_id"]) for item in wanted], dtype=torch.int64)
    xywh = np.array([item["bbox"] for item in wanted], np.float64).reshape(-1, 4)
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    whole = place.boxes(xyxy.clip(0, [size[1], size[0]] * 2))
    shown = place.clip(whole)
    sides, whole_sides = shown[:, 2:] - shown[:, :2], whole[:, 2:] - whole[:, :2]
    kept = ((sides > 0) & (sides >= config.min_box)).all(1)
    kept &= sides.prod(1) >= config.min_visible * whole_sides.prod(1)
    cxcywh = np.concatenate([(shown[:, :2] + shown[:, 2:]) / 2, sides], axis=1)[kept]
    relative = cxcywh / ([place.canvas[1], place.canvas[0]] * 2)
    return {"class_labels": labels[torch.from_numpy(kept)], "boxes": torch.from_numpy(relative).float()}


def source_of(raw: RawSample, label: dict[str, Any], size: tuple[int, int], scale: float) -> dict[str, Any]:
    """What maps predictions back to the original; `scale` is in pixels of the canvas an original pixel."""
    return {"file_name": raw.file_name, "image_id": label["image_id"], "size": size, "scale": scale}

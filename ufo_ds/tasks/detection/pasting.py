"""Copy-paste by boxes: objects of other images (after arXiv 2012.07177, which pastes masks)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ufo_ds.data.decode import DecodeError
from ufo_ds.data.pixels import jitter_colour, uniform
from ufo_ds.data.placement import Placement, fit_scale
from ufo_ds.data.resampling import Pair
from ufo_ds.data.schema import RawSample, TaskMeta
from ufo_ds.recipe import DetConfig
from ufo_ds.tasks.detection.rare import MARGIN, Cutout
from ufo_ds.tasks.detection.scene import Picture, Scene, boxes_of, named, overlap

SCALE = (0.5, 2.0)
"""Factor on the size that an object has where its picture is fitted to the canvas (smallest, largest)."""
MIN_PASTED, MAX_PASTED = 6, 0.25
"""The shorter side on the canvas at least, pixels; the longer one at most, as a share of the canvas' shorter side."""
MIN_BORDER = 2
"""Canvas pixels of that border at least: the corner of a reduced picture's window moves by up to one."""
TRIES = 20
"""Places that are tried; where none is free, the object is not pasted."""


def paste(scene: Scene, raw: RawSample, cutout: Cutout, config: DetConfig, meta: TaskMeta) -> bool:
    """Paste an object at a random scale to a random place of a scene where it covers no box, if there is one.

    Draws from torch's global generator.

    Returns:
        False where the image cannot be decoded.
    """
    try:
        with named(raw):
            picture = Picture(raw)
            item = picture.annotations[cutout.annotation]
            label = meta.index_of(item["category_id"])
        _paste(scene, picture, boxes_of([item])[0], label, config)
    except DecodeError:
        return False
    return True


def _paste(scene: Scene, picture: Picture, box: np.ndarray, label: int, config: DetConfig) -> None:
    size, canvas = picture.image.size, tuple(scene.pixels.shape[1:])
    box = box.clip(0, [size[1], size[0]] * 2)
    scale = _draw_scale(box, size, canvas, config)
    border = max(MARGIN * (box[2:] - box[:2]).max(), MIN_BORDER / scale) if scale else 0.0
    place = _window(box, border, size, scale) if scale else None
    corner = _free_corner(scene, place.size) if place else None
    if corner is None:
        return
    decoded, reduction = picture.image.decode(scale)
    place = place.reduced(reduction)
    pixels = place.paste(jitter_colour(place.window(decoded), config.color_jitter))
    found = place.clip(place.boxes(box[None]))
    if (found[0, 2:] - found[0, :2]).min() < max(config.min_box, 1):  # the window's size is rounded down
        return
    (top, left), (height, width) = corner, place.size
    under = scene.pixels[:, top : top + height, left : left + width]
    under.copy_((under + _fading(found[0], border * scale, place.size) * (pixels.float() - under)).round())
    scene.add(np.array([label]), found + np.array([left, top, left, top]))


def _draw_scale(box: np.ndarray, size: Pair, canvas: Pair, config: DetConfig) -> float | None:
    """Canvas pixels an original pixel, within the limits; None where the object would be no target."""
    shorter, longer = sorted(box[2:] - box[:2])
    if shorter <= 0:
        return None
    scale = max(fit_scale(size, canvas) * uniform(*SCALE), MIN_PASTED / shorter)
    scale = min(scale, MAX_PASTED * min(canvas) / longer)
    return scale if scale * shorter >= max(config.min_box, 1) else None


def _window(box: np.ndarray, border: float, size: Pair, scale: float) -> Placement:
    """What is cut out, on a canvas of its own size."""
    start, extent = [], []
    for low, high, side in zip(box[1::-1], box[:1:-1], size, strict=True):
        start.append(max(0, math.floor(low - border)))
        extent.append(min(side, math.ceil(high + border)) - start[-1])
    shape = math.floor(extent[0] * scale), math.floor(extent[1] * scale)
    return Placement(scale, tuple(start), tuple(extent), (0, 0), shape, shape)


def _free_corner(scene: Scene, size: Pair) -> Pair | None:
    """A random (top, left) where a window of `size` covers none of the scene's boxes; None where none is found."""
    room = np.array(scene.pixels.shape[1:]) - size + 1
    if (room < 1).any():
        return None
    corners = (torch.rand(TRIES, 2, dtype=torch.float64).numpy() * room).astype(int)
    windows = np.concatenate([corners[:, ::-1], corners[:, ::-1] + size[::-1]], axis=1)
    free = ~overlap(windows[:, None], scene.boxes[None]).any(1)
    return tuple(corners[free.argmax()].tolist()) if free.any() else None


def _fading(box: np.ndarray, border: float, size: Pair) -> Tensor:
    """1 in a box, xyxy, down to 0 where `border` ends around it; float32 [h, w], all in pixels of the window."""
    ramps = []
    for low, high, side in zip(box[1::-1], box[:1:-1], size, strict=True):
        centres = np.arange(side) + 0.5
        outside = np.maximum(low - centres, centres - high).clip(0)
        ramps.append((1 - outside / border).clip(0))
    return torch.from_numpy(np.outer(*ramps)).float()

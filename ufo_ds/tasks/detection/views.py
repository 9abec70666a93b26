"""Detection: the views of a picture, whole and in tiles, and one list of boxes from all of them."""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from ufo_ds.data.batch import Example
from ufo_ds.data.decode import EncodedImage
from ufo_ds.data.placement import Placement, fit_scale
from ufo_ds.data.resampling import Pair, scaled
from ufo_ds.data.schema import RawSample, TaskMeta
from ufo_ds.data.tiling import window_starts
from ufo_ds.data.views import ViewBatch, mirrored, views_by
from ufo_ds.recipe import DetConfig, DetViews
from ufo_ds.tasks.detection.boxes import Found, fuse, suppress
from ufo_ds.tasks.detection.examples import EvalTransform, read_label, source_of
from ufo_ds.tasks.detection.tiles import Tiles, merge_tiles

NEAR = 4.0
"""A box that ends so near to an inner side of its tile, in pixels of the network's input, is cut by it."""
_WHOLE = (False,) * 4

Detect = Callable[[Tensor, bool, list[dict[str, Any]]], list[Found]]
"""Images uint8 [B, 3, H, W], whether they are mirrored, their sources -> the boxes of each, in pixels of the original
and no more than its `source["window"]`."""


class ViewTransform:
    """The whole picture at each of the scales, see `EvalTransform`, and its tiles. Mirror images are the device's part.

    Beside the keys of `EvalTransform`, a source has `window`, xyxy in pixels of the original: what its input shows;
    `start`, (top, left) of the input there; and `inner`, which sides of the window the picture goes on behind.
    """

    def __init__(self, config: DetConfig, views: DetViews, meta: TaskMeta) -> None:
        self.canvas, self.views = config.size, views
        configs = [dataclasses.replace(config, size=scaled(config.size, scale)) for scale in views.scales]
        self.transforms = [EvalTransform(each, meta) for each in configs]

    def __call__(self, raw: RawSample) -> list[Example]:
        """`DecodeError` for broken bytes."""
        tiles = list(self._tiles(raw)) if self.views.tiles else []
        return tiles if tiles and not self.views.whole else [*self._whole(raw), *tiles]

    def _whole(self, raw: RawSample) -> Iterator[Example]:
        for example in views_by(self.transforms, raw):
            height, width = example.source["size"]
            example.source |= {"start": (0, 0), "window": (0, 0, width, height), "inner": _WHOLE}
            yield example

    def _tiles(self, raw: RawSample) -> Iterator[Example]:
        image = EncodedImage(raw.image)
        places = tile_places(image.size, self.canvas, self.views.tiles, self.views.overlap)
        if not places:
            return
        label, (decoded, reduction) = read_label(raw), image.decode(places[0].scale)
        for place in places:
            window, inner = _window_of(place, image.size)
            place = place.reduced(reduction)
            source = source_of(raw, label, image.size, place.scale)
            source |= {"view": len(self.transforms), "start": place.start, "window": window, "inner": inner}
            yield Example(place.paste(place.window(decoded)), None, source)


def tile_places(size: Pair, canvas: Pair, tile: int, overlap: float) -> list[Placement]:
    """Where the tiles of a picture lie, each fitted to the canvas; none where the picture fits into one.

    Args:
        size: (H, W) of the picture, pixels.
        canvas: (height, width) of the network's input, pixels; a tile has its aspect.
        tile: longer side of a tile, pixels of the picture.
        overlap: share of a tile that the next one shows again, at least.
    """
    first = Placement.at_origin(size, canvas, fit_scale((tile, tile), (max(canvas), max(canvas))))
    if first.extent == size:
        return []
    starts = (window_starts(*axis, overlap) for axis in zip(size, first.extent, strict=True))
    return [dataclasses.replace(first, start=start) for start in itertools.product(*starts)]


def _window_of(place: Placement, size: Pair) -> tuple[tuple[float, ...], tuple[bool, ...]]:
    """What a tile shows, xyxy in pixels of the picture; and which of its sides the picture goes on behind."""
    ends, inner = [], []
    for axis in (1, 0):
        end = place.start[axis] + place.extent[axis]
        inner.append(end < size[axis])
        ends.append(min(float(end), place.start[axis] + place.canvas[axis] / place.scale) if inner[-1] else size[axis])
    top, left = place.start
    return (float(left), float(top), *ends), (left > 0, top > 0, *inner)


def find_boxes(detect: Detect, views: ViewBatch, config: DetViews) -> list[tuple[Found, dict[str, Any]]]:
    """The boxes of each sample by falling score, all views taken together, with a source of the sample."""
    found: dict[int, dict[tuple[int, bool], list[tuple[Found, dict]]]] = defaultdict(lambda: defaultdict(list))
    for batch in views.batches():
        for images, is_mirror in mirrored(batch.images, config.hflip):
            for boxes, source in zip(detect(images, is_mirror, batch.sources), batch.sources, strict=True):
                found[source["sample"]][source["view"], is_mirror].append((boxes, source))
    return [_of_sample(list(found[number].values()), config) for number in range(views.samples)]


def _of_sample(passes: list[list[tuple[Found, dict[str, Any]]]], config: DetViews) -> tuple[Found, dict[str, Any]]:
    """One list of boxes from passes over the picture, in each of which every place was seen."""
    views = [_of_pass(parts, config.iou) for parts in passes]
    source = passes[0][0][1]
    if len(views) == 1:
        return views[0], source
    return {"wbf": fuse, "nms": suppress}[config.fusion](views, config.iou), source


def _of_pass(parts: list[tuple[Found, dict[str, Any]]], iou: float) -> Found:
    if len(parts) == 1:
        return parts[0][0]
    sources = [source for _, source in parts]
    windows = np.array([source["window"] for source in sources], np.float64)
    inner = np.array([source["inner"] for source in sources])
    return merge_tiles([found for found, _ in parts], Tiles(windows, inner, NEAR / sources[0]["scale"]), iou)

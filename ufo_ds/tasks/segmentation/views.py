"""Segmentation: the views of a picture, whole or in sliding windows, and one answer from all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ufo_ds.data.batch import Batch, Example
from ufo_ds.data.schema import RawSample, TaskMeta
from ufo_ds.data.tiling import blend_weights, window_starts
from ufo_ds.data.views import ViewBatch, alike, mirrored, views_by
from ufo_ds.recipe import SegConfig, SegViews
from ufo_ds.tasks.segmentation.examples import EvalTransform

Probabilities = Callable[[Tensor], Tensor]
"""Images uint8 [B, 3, h, w] -> the classes' probabilities at their size, fp32 [B, K, h, w]."""


class ViewTransform:
    """The whole frame at each of the scales; see `EvalTransform`. Windows and mirror images are made on the device."""

    def __init__(self, config: SegConfig, views: SegViews, meta: TaskMeta) -> None:
        self.transforms = [EvalTransform(config, meta, scale) for scale in views.scales]

    def __call__(self, raw: RawSample) -> list[Example]:
        """`DecodeError` for broken bytes."""
        return views_by(self.transforms, raw)


def mean_probabilities(
    probabilities: Probabilities, views: ViewBatch, config: SegViews
) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """The mean over all views at the size of the original: fp32 [K, H, W] of each sample, with its source.

    Memory is that of a few K x H x W a sample and of `views.limit` windows, however many views and windows there are.
    """
    sums: dict[int, Tensor] = {}
    sources: dict[int, dict[str, Any]] = {}
    for batch in views.batches():
        for source, found in zip(batch.sources, blend(probabilities, batch, config, views.limit), strict=True):
            number, found = source["sample"], _resize(found, source["size"])
            sums[number] = sums[number].add_(found) if number in sums else found
            sources[number] = source
    for number in range(views.samples):
        yield sums.pop(number) / len(config.scales), sources[number]


def blend(probabilities: Probabilities, batch: Batch, config: SegViews, limit: int) -> list[Tensor]:
    """The probabilities of each input at its own size, fp32 [K, h, w]: over its windows, mirror images included.

    Args:
        probabilities: the network.
        batch: inputs, `source["input_size"]` (h, w) of them.
        config: `window`, `overlap` and `hflip` count.
        limit: windows that the network takes at a time.
    """
    windows = [window for index, source in enumerate(batch.sources) for window in _windows(index, source, config)]
    blended: dict[int, Tensor] = {}
    for part in alike(windows, lambda window: window.size, limit):
        images = torch.stack([batch.images[window.index, :, window.rows, window.columns] for window in part])
        for window, found in zip(part, _with_mirror_images(probabilities, images, config.hflip), strict=True):
            if window.index not in blended:
                height, width = batch.sources[window.index]["input_size"]
                blended[window.index] = found.new_zeros(len(found), height, width)
            blended[window.index][:, window.rows, window.columns] += found * window.weight().to(found)
    return [blended[index] for index in range(len(batch.sources))]


@dataclass(frozen=True)
class _Window:
    """A part of the input with that `index`: its pixels, and how much it counts in each row and column."""

    index: int
    rows: slice
    columns: slice
    row_weights: Tensor
    column_weights: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), pixels."""
        return len(self.row_weights), len(self.column_weights)

    def weight(self) -> Tensor:
        """[height, width]."""
        return self.row_weights[:, None] * self.column_weights


def _windows(index: int, source: dict[str, Any], config: SegViews) -> Iterator[_Window]:
    size = source["input_size"]
    sides = [min(pair) for pair in zip(config.window or size, size, strict=True)]
    rows, columns = (_spans(length, side, config.overlap) for length, side in zip(size, sides, strict=True))
    for row, row_weights in rows:
        yield from (_Window(index, row, column, row_weights, weights) for column, weights in columns)


def _spans(length: int, side: int, overlap: float) -> list[tuple[slice, Tensor]]:
    """The windows along an axis, each with its weights."""
    starts = window_starts(length, side, overlap)
    weights = torch.from_numpy(blend_weights(starts, side, length))
    return [(slice(start, start + side), weight) for start, weight in zip(starts, weights, strict=True)]


def _with_mirror_images(probabilities: Probabilities, images: Tensor, hflip: bool) -> Tensor:
    found = [probabilities(seen).flip(-1) if is_mirror else probabilities(seen)
             for seen, is_mirror in mirrored(images, hflip)]  # fmt: skip
    return found[0] if len(found) == 1 else (found[0] + found[1]) / 2


def _resize(maps_KHW: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps_KHW.shape[-2:]) == tuple(size):
        return maps_KHW
    return nn.functional.interpolate(maps_KHW[None], tuple(size), mode="bilinear", align_corners=False)[0]

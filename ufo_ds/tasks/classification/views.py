"""Classification: the views of a picture, and one answer from all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ufo_ds.data.batch import Example
from ufo_ds.data.resampling import scaled
from ufo_ds.data.schema import RawSample, TaskMeta
from ufo_ds.data.views import ViewBatch, mirrored, views_by
from ufo_ds.recipe import ClsConfig, ClsViews
from ufo_ds.tasks.classification.examples import EvalTransform


class ViewTransform:
    """The whole picture at each of the sizes; see `EvalTransform`. Mirror images are made on the device."""

    def __init__(self, config: ClsConfig, views: ClsViews, meta: TaskMeta) -> None:
        sizes = [scaled(config.size, scale) for scale in views.scales]
        self.transforms = [EvalTransform(dataclasses.replace(config, size=size), meta) for size in sizes]

    def __call__(self, raw: RawSample) -> list[Example]:
        """`DecodeError` for broken bytes."""
        return views_by(self.transforms, raw)


def mean_probabilities(
    probabilities: Callable[[Tensor], Tensor], views: ViewBatch, config: ClsViews
) -> tuple[Tensor, list[dict[str, Any]]]:
    """The mean over all views, mirror images included.

    Args:
        probabilities: images uint8 [B, 3, H, W] -> the classes' probabilities, fp32 [B, K].
        views: of some samples.
        config: as the views were made.

    Returns:
        fp32 [samples, K], and a source of each sample.
    """
    found: list[list[Tensor]] = [[] for _ in range(views.samples)]
    sources: list[dict[str, Any]] = [{}] * views.samples
    for batch in views.batches():
        for images, _ in mirrored(batch.images, config.hflip):
            for source, values_K in zip(batch.sources, probabilities(images), strict=True):
                found[source["sample"]].append(values_K)
                sources[source["sample"]] = source
    return torch.stack([torch.stack(each).mean(0) for each in found]), sources

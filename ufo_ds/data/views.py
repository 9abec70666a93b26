"""Several inputs a sample: the views that a prediction asks the network of, batched by kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from ufo_ds.data.batch import Batch, Example


@dataclass
class ViewBatch:
    """The views of some samples of ONE task.

    Attributes:
        task: name.
        images: batches of inputs, each uint8 [B, 3, H, W] of one kind of view, B <= `limit`.
        sources: for each batch those of its inputs. Beside the task's own keys they have `sample` (0..samples-1) and
            `view`, the kind of view.
        samples: how many there are.
        limit: inputs that the network takes at a time.
    """

    task: str
    images: list[Tensor]
    sources: list[list[dict[str, Any]]]
    samples: int
    limit: int

    def to(self, device: torch.device) -> ViewBatch:
        """The same with its inputs on `device`."""
        images = [each.to(device, non_blocking=True) for each in self.images]
        return ViewBatch(self.task, images, self.sources, self.samples, self.limit)

    def batches(self) -> Iterator[Batch]:
        """The batches of inputs."""
        for images, sources in zip(self.images, self.sources, strict=True):
            yield Batch(self.task, images, None, sources)


class CollateViews:
    """The views of each sample -> a `ViewBatch`: views of one kind together, at most `limit` in a batch.

    Args:
        collate: of the task.
        limit: inputs a batch.
    """

    def __init__(self, collate: Callable[[Sequence[Example]], Batch], limit: int) -> None:
        self.collate, self.limit = collate, limit

    def __call__(self, samples: Sequence[Sequence[Example]]) -> ViewBatch:
        """For each sample its views, `source["view"]` ascending."""
        for number, views in enumerate(samples):
            for example in views:
                example.source["sample"] = number
        inputs = sorted((example for views in samples for example in views), key=_kind)  # stable: samples in order
        batches = [
            self.collate(part) for _, group in groupby(inputs, _kind) for part in _parts(list(group), self.limit)
        ]
        images, sources = [batch.images for batch in batches], [batch.sources for batch in batches]
        return ViewBatch(batches[0].task, images, sources, len(samples), self.limit)


def mirrored(images: Tensor, hflip: bool) -> Iterator[tuple[Tensor, bool]]:
    """The images [..., W] and, with `hflip`, their mirror images; each with whether it is that."""
    yield images, False
    if hflip:
        yield images.flip(-1), True


def _kind(example: Example) -> int:
    return example.source["view"]


def _parts(items: list[Example], limit: int) -> Iterator[list[Example]]:
    return (items[first : first + limit] for first in range(0, len(items), limit))

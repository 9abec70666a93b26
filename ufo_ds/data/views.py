"""Several inputs a sample: the views that a prediction asks the network of, batched by kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import torch
from torch import Tensor

from ufo_ds.data.batch import Batch, Example
from ufo_ds.data.schema import RawSample

_Item = TypeVar("_Item")


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
        inputs = [example for views in samples for example in views]
        batches = [self.collate(part) for part in alike(inputs, _kind, self.limit)]
        images, sources = [batch.images for batch in batches], [batch.sources for batch in batches]
        return ViewBatch(batches[0].task, images, sources, len(samples), self.limit)


def views_by(transforms: Sequence[Callable[[RawSample], Example]], raw: RawSample) -> list[Example]:
    """A view of a picture by each transform; `source["view"]` counts them."""
    examples = [transform(raw) for transform in transforms]
    for kind, example in enumerate(examples):
        example.source["view"] = kind
    return examples


def alike(items: Iterable[_Item], kind: Callable[[_Item], Any], limit: int) -> Iterator[list[_Item]]:
    """Items of one kind together, kinds ascending, at most `limit` at a time; within a kind in their order."""
    for _, group in groupby(sorted(items, key=kind), key=kind):
        same = list(group)
        yield from (same[first : first + limit] for first in range(0, len(same), limit))


def mirrored(images: Tensor, hflip: bool) -> Iterator[tuple[Tensor, bool]]:
    """The images [..., W] and, with `hflip`, their mirror images; each with whether it is that."""
    yield images, False
    if hflip:
        yield images.flip(-1), True


def _kind(example: Example) -> int:
    return example.source["view"]

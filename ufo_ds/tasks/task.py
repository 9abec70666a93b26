"""What a task is: the contract that training, prediction and scoring are written against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from ufo_ds.data.batch import Batch, Example
from ufo_ds.data.schema import RawSample, TaskMeta
from ufo_ds.data.views import ViewBatch
from ufo_ds.model.features import Features, TrunkShape

__all__ = ["Batch", "Example", "Features", "FeaturesOf", "Head", "Metric", "Task", "TrunkShape", "ViewBatch"]


FeaturesOf = Callable[[Tensor], Features]
"""Images uint8 [B, 3, H, W] -> what the trunk makes of them."""


class Metric(Protocol):
    """Accumulates over samples; exact under any split of the samples over ranks."""

    def update(self, predictions: Sequence[Any], truths: Sequence[Any]) -> None:
        """Count these samples; `predictions[i]` belongs to `truths[i]`."""

    def state(self) -> Any:
        """A picklable state."""

    def merge(self, states: Sequence[Any]) -> None:
        """Replace the own state by the union of `states` (one a rank)."""

    def compute(self) -> dict[str, float]:
        """The figures by name; the task's `score_key` is among them. All in 0..1."""


class Head(nn.Module):
    """A task's head: token maps -> loss, token maps -> predictions."""

    multiple: int = 1
    """The network's input must be a multiple of this many pixels, both ways; the trunk pads it."""

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name; `loss` is the one to minimise, the others are its parts, for the log."""
        raise NotImplementedError

    def raw(self, features: Features) -> dict[str, Tensor]:
        """The network's own outputs by name, before any decoding: what an export is compared on."""
        raise NotImplementedError

    def predict(self, features: Features, batch: Batch) -> list[Any]:
        """One Prediction (see the task's `score.py`) for each sample, in the original image's coordinates."""
        raise NotImplementedError

    def predict_views(self, features_of: FeaturesOf, views: ViewBatch, config: Any) -> list[Any]:
        """The same from several views of each sample, as the task's section of `prediction` has them made."""
        raise NotImplementedError


@dataclass(frozen=True)
class Task:
    """One task: its names and its parts. The `task.py` of each folder under `ufo_ds/tasks/` makes one, as `TASK`."""

    name: str
    """`cls`, `det` or `seg`: the name in recipes, shards and logs."""
    section: str
    """Key of the submission: `cls`, `dec`, `seg`."""
    score_key: str
    """The figure that enters the average: `top1`, `mAP50`, `mIoU`."""
    train_transform: Callable[[Any, TaskMeta], Callable[[RawSample], Example]]
    """(task config, meta) -> picklable RawSample -> Example, random through torch's global generator."""
    eval_transform: Callable[[Any, TaskMeta], Callable[[RawSample], Example]]
    """(task config, meta) -> picklable RawSample -> Example, without chance."""
    view_transform: Callable[[Any, Any, TaskMeta], Callable[[RawSample], list[Example]]]
    """(task config, its section of `prediction`, meta) -> picklable RawSample -> its views, without chance."""
    collate: Callable[[Sequence[Example]], Batch]
    """Examples -> Batch."""
    truth: Callable[[RawSample, TaskMeta], Any]
    """The labels of a raw sample, in the form that the metric takes."""
    head: Callable[[Any, TaskMeta, TrunkShape], Head]
    """(task config, meta, trunk) -> a new head."""
    metric: Callable[[TaskMeta], Metric]
    """An empty metric for the classes of meta."""
    write_section: Callable[..., Any]
    """(predictions, as_objects) -> the JSON value of this task's section."""
    picture: Callable[[np.ndarray, Any, Any, TaskMeta], np.ndarray]
    """(image, truth or None, prediction, meta) -> both drawn, RGB uint8 [H, W, 3]."""
    example_picture: Callable[[np.ndarray, Any, TaskMeta], np.ndarray]
    """(a training image as the network gets it, its target, meta) -> both drawn, RGB uint8 [H, W, 3]."""
    mixing: Callable[[Any, TaskMeta], Callable[[Batch], Batch] | None] | None = None
    """(task config, meta) -> what mixes a training batch on the device, random through torch's global generator; or
    None."""
    pack: Callable[[Any], Any] | None = None
    """Prediction -> the same, small and ready for `write_section`, where that is work for another process."""

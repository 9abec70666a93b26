"""The task `cls`: its parts, put together."""

from __future__ import annotations

from ufo_ds.data.schema import TaskMeta
from ufo_ds.tasks.classification.examples import EvalTransform, TrainTransform, collate
from ufo_ds.tasks.classification.head import ClassificationHead
from ufo_ds.tasks.classification.mixing import make_mixing
from ufo_ds.tasks.classification.picture import example_picture, picture
from ufo_ds.tasks.classification.score import AccuracyMetric, truth_of, write_section
from ufo_ds.tasks.classification.views import ViewTransform
from ufo_ds.tasks.task import Task


def make_metric(meta: TaskMeta) -> AccuracyMetric:
    """An empty metric; Top-1 needs to know no classes."""
    return AccuracyMetric()


TASK = Task(
    name="cls", section="cls", score_key="top1",
    train_transform=TrainTransform, eval_transform=EvalTransform, view_transform=ViewTransform, collate=collate,
    truth=truth_of, head=ClassificationHead, metric=make_metric, write_section=write_section, picture=picture,
    example_picture=example_picture, mixing=make_mixing,
)  # fmt: skip

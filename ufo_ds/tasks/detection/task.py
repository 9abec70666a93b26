"""The task `det`: its parts, put together."""

from __future__ import annotations

from ufo_ds.data.schema import TaskMeta
from ufo_ds.tasks.detection.examples import EvalTransform, TrainTransform, collate
from ufo_ds.tasks.detection.head import DetectionHead
from ufo_ds.tasks.detection.picture import example_picture, picture
from ufo_ds.tasks.detection.score import BoxMetric, truth_of, write_section
from ufo_ds.tasks.detection.views import ViewTransform
from ufo_ds.tasks.task import Task


def make_metric(meta: TaskMeta) -> BoxMetric:
    """An empty metric; COCO's mean runs over the categories that the labels hold, not over all of meta's."""
    return BoxMetric()


TASK = Task(
    name="det", section="dec", score_key="mAP50",
    train_transform=TrainTransform, eval_transform=EvalTransform, view_transform=ViewTransform, collate=collate,
    truth=truth_of, head=DetectionHead, metric=make_metric, write_section=write_section, picture=picture,
    example_picture=example_picture,
)  # fmt: skip

"""The task `seg`: its parts, put together."""

from __future__ import annotations

from ufo_ds.data.schema import TaskMeta
from ufo_ds.tasks.segmentation.examples import EvalTransform, TrainTransform, collate
from ufo_ds.tasks.segmentation.head import SegmentationHead
from ufo_ds.tasks.segmentation.picture import example_picture, picture
from ufo_ds.tasks.segmentation.score import MaskMetric, encode, truth_of, write_section
from ufo_ds.tasks.segmentation.views import ViewTransform
from ufo_ds.tasks.task import Task


def make_metric(meta: TaskMeta) -> MaskMetric:
    """An empty metric over all the classes that the data set declares."""
    return MaskMetric(meta.num_classes)


TASK = Task(
    name="seg", section="seg", score_key="mIoU",
    train_transform=TrainTransform, eval_transform=EvalTransform, view_transform=ViewTransform, collate=collate,
    truth=truth_of, head=SegmentationHead, metric=make_metric, write_section=write_section, picture=picture,
    example_picture=example_picture,
    pack=encode,
)  # fmt: skip

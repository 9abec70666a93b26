"""Detection: boxes stay on their pixels through every augmentation, and come back from the canvas in evaluation."""

import json

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import box_convert

from ufo_ds.data.batch import Batch
from ufo_ds.data.decode import DecodeError
from ufo_ds.data.placement import Placement
from ufo_ds.data.schema import ClassInfo, RawSample, TaskMeta
from ufo_ds.errors import UserError
from ufo_ds.recipe import DetConfig
from ufo_ds.tasks.detection.examples import EvalTransform, TrainTransform, collate, make_target

META = TaskMeta("det", "test", [ClassInfo(i, f"class {i}") for i in (5, 11)], {})


def annotation(x, y, w, h, category_id=11, iscrowd=0):
    return {"bbox": [x, y, w, h], "category_id": category_id, "iscrowd": iscrowd, "area": w * h}


def raw(annotations, size=(90, 140), **label):
    """A dark image, white in the boxes."""
    image = np.zeros((*size, 3), np.uint8)
    for item in annotations or ():
        x, y, w, h = (round(value) for value in item["bbox"])
        image[max(y, 0) : y + h, max(x, 0) : x + w] = 255
    value = {"image_id": 42, "file_name": "a.jpg", "width": size[1], "height": size[0], **label}
    if annotations is not None:
        value["annotations"] = annotations
    members = {"jpg": cv2.imencode(".png", image)[1].tobytes(), "json": json.dumps(value).encode()}
    return RawSample("a.jpg", members)


def config(**changes):
    return DetConfig(**{"size": (100, 120), "color_jitter": 0.0, "scale_jitter": (1.0, 1.0), **changes})


def pixel_boxes(target, canvas=(100, 120)):
    """xyxy in pixels of the canvas."""
    return box_convert(target["boxes"], "cxcywh", "xyxy") * torch.tensor([canvas[1], canvas[0]] * 2)


def bounds(image):
    """xyxy around what is white, or None."""
    rows, columns = np.nonzero(image[0].numpy() > 140)  # above the grey of the canvas
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else None


@pytest.mark.parametrize("size", [(90, 140), (200, 150), (400, 380)])
@pytest.mark.parametrize(
    "changes",
    [{}, {"scale_jitter": (0.3, 0.9)}, {"scale_jitter": (1.1, 2.5)}, {"hflip": 1.0},
     {"scale_jitter": (0.4, 2.2), "hflip": 0.5, "color_jitter": 0.2}],
)  # fmt: skip
def test_boxes_stay_on_their_pixels(size, changes):
    transform = TrainTransform(config(**changes, min_visible=0.0), META)
    torch.manual_seed(1)
    generator = np.random.default_rng(1)
    for _ in range(25):
        height, width = generator.integers(12, 50, 2).tolist()
        y, x = int(generator.integers(0, size[0] - height)), int(generator.integers(0, size[1] - width))
        example = transform(raw([annotation(x, y, width, height)], size))
        assert example.image.shape == (3, 100, 120) and example.image.is_contiguous()
        found, white = pixel_boxes(example.target), bounds(example.image)
        if len(found) == 0:
            assert white is None or min(white[2] - white[0], white[3] - white[1]) <= 2
        elif white is None:
            assert (found[0, 2:] - found[0, :2]).min() < 3
        else:
            assert np.abs(found[0].numpy() - white).max() <= 1.01
            assert example.target["class_labels"].tolist() == [1]


@pytest.mark.parametrize("size", [(90, 140), (300, 211), (37, 53), (100, 120)])
def test_evaluation_shows_all_and_comes_back_exactly(size):
    boxes = [annotation(3.5, 2.25, 20.0, 11.5), annotation(size[1] - 12, size[0] - 9, 12, 9, 5)]
    example = EvalTransform(config(), META)(raw(boxes, size))
    back = pixel_boxes(example.target).double() / example.source["scale"]
    expected = [[3.5, 2.25, 23.5, 13.75], [size[1] - 12, size[0] - 9, size[1], size[0]]]
    # To the last whole pixel of the canvas: the fraction of a pixel beyond it is cut off the picture.
    assert np.abs(back.numpy() - expected).max() <= 1 / example.source["scale"]
    assert np.abs(back[0].numpy() - expected[0]).max() < 1e-4
    scale = example.source.pop("scale")
    assert example.source == {"file_name": "a.jpg", "image_id": 42, "size": size}
    assert scale == pytest.approx(min(100 / size[0], 120 / size[1]))
    assert example.target["class_labels"].tolist() == [1, 0]
    covered = round(size[0] * scale), round(size[1] * scale)
    assert (example.image[:, covered[0] + 1 :] == 114).all() and (example.image[:, :, covered[1] + 1 :] == 114).all()


def test_what_is_no_target():
    place = Placement.at_origin((100, 200), (100, 100), 1.0)  # the right half is cut off
    annotations = [
        annotation(10, 10, 20, 20),
        annotation(10, 10, 20, 20, iscrowd=1),
        annotation(80, 10, 40, 20),  # half of it is left
        annotation(90, 10, 40, 20),  # a quarter
        annotation(150, 10, 20, 20),  # nothing
        annotation(30, 30, 0, 10),  # degenerate
        annotation(50, 50, 1.5, 9),  # thin
        annotation(-30, 60, 50, 10, 5),  # 60 % beside the image, which no crop took away
    ]
    found = make_target(annotations, place, (100, 200), config(min_visible=0.3, min_box=2.0), META)
    assert pixel_boxes(found, (100, 100)).round().tolist() == [[10, 10, 30, 30], [80, 10, 100, 30], [0, 60, 20, 70]]
    assert found["class_labels"].tolist() == [1, 1, 0]
    strict = make_target(annotations, place, (100, 200), config(min_visible=0.6, min_box=0.0), META)
    assert len(strict["boxes"]) == 3


@pytest.mark.parametrize("annotations", [[], [annotation(5, 5, 9, 9, iscrowd=1)]])
def test_pictures_without_boxes_have_empty_targets(annotations):
    for transform in (TrainTransform(config(hflip=1.0), META), EvalTransform(config(), META)):
        target = transform(raw(annotations)).target
        assert target["boxes"].shape == (0, 4) and target["boxes"].dtype == torch.float32
        assert target["class_labels"].shape == (0,) and target["class_labels"].dtype == torch.int64


def test_batches_have_a_target_a_sample_or_none():
    transform = EvalTransform(config(), META)
    some, none = transform(raw([annotation(5, 5, 9, 9)])), transform(raw(None))
    batch = collate([some, some])
    assert isinstance(batch, Batch) and batch.task == "det" and batch.images.shape == (2, 3, 100, 120)
    assert [sorted(target) for target in batch.targets] == [["boxes", "class_labels"]] * 2
    assert none.target is None and none.source["image_id"] == 42 and collate([some, none]).targets is None
    assert transform(raw([annotation(5, 5, 9, 9, 6)])).target is None  # the weights know other classes


def test_mistakes():
    transform = TrainTransform(config(), META)
    with pytest.raises(UserError, match=r"no annotations .* build the shards"):
        transform(raw(None))
    with pytest.raises(UserError, match="6 is none of the 2 class ids"):
        transform(raw([annotation(5, 5, 9, 9, 6)]))
    image = raw([]).members["jpg"]
    for members in ({"jpg": image}, {"jpg": image, "json": b"{"}, {"jpg": image, "json": b"[]"}):
        with pytest.raises(UserError, match="no image id"):
            EvalTransform(config(), META)(RawSample("a.jpg", members))
    with pytest.raises(DecodeError):
        transform(RawSample("a.jpg", {"jpg": b"nothing", "json": raw([]).members["json"]}))

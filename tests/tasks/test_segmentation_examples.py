"""Segmentation: the mask stays on its pixels through every augmentation; evaluation keeps whole frames."""

import cv2
import numpy as np
import pytest
import torch

from ufo_ds.data.decode import DecodeError
from ufo_ds.data.schema import ClassInfo, RawSample, TaskMeta
from ufo_ds.errors import UserError
from ufo_ds.recipe import SegConfig
from ufo_ds.tasks.segmentation.examples import EvalTransform, TrainTransform, collate

META = TaskMeta("seg", "test", [ClassInfo(i, f"class {i}") for i in range(6)], {})


def png(array):
    return cv2.imencode(".png", array)[1].tobytes()


def raw(size=(96, 160), mask_size=None, labelled=True, seed=0):
    """Blocks of classes; a pixel of class k is as bright as 45 k."""
    blocks = np.random.default_rng(seed).integers(0, 6, (size[0] // 16 + 1, size[1] // 16 + 1)).astype(np.uint8)
    mask = blocks.repeat(16, 0).repeat(16, 1)[: size[0], : size[1]]
    members = {"jpg": png(np.repeat(mask[:, :, None] * 45, 3, 2))}
    if labelled:
        members["png"] = png(mask if mask_size is None else mask[: mask_size[0], : mask_size[1]])
    return RawSample("a.jpg", members)


def within_blocks(target):
    """Where a pixel and all its neighbours are of one class: not on the blurred borders."""
    ids, around = target.numpy(), np.ones((3, 3), np.uint8)
    return torch.from_numpy(cv2.erode(ids, around) == cv2.dilate(ids, around))


def config(**changes):
    return SegConfig(**{"crop": (64, 80), "scale_jitter": (1.0, 1.0), "hflip": 0.0, "color_jitter": 0.0, **changes})


@pytest.mark.parametrize(
    "changes",
    [{}, {"hflip": 1.0}, {"scale_jitter": (0.2, 0.6)}, {"scale_jitter": (0.5, 2.0), "hflip": 0.5},
     {"crop": (128, 96), "scale_jitter": (0.7, 1.3)}],
)  # fmt: skip
def test_the_mask_stays_on_its_pixels(changes):
    transform = TrainTransform(config(**changes), META)
    torch.manual_seed(1)
    crop = transform.config.crop
    filled = 0
    for seed in range(20):
        example = transform(raw(seed=seed))
        assert example.image.shape == (3, *crop) and example.target.shape == crop
        assert example.image.is_contiguous() and example.target.dtype == torch.uint8
        ignored = example.target == 255
        filled += int(ignored.sum())
        assert (example.image[:, ignored] == 114).all()
        inside = within_blocks(example.target) & ~ignored
        assert inside.any()
        assert (example.image[0].int() - 45 * example.target.int()).abs()[inside].max() <= 3
        assert example.source == {"file_name": "a.jpg", "size": (96, 160), "input_size": crop}
    assert (filled > 0) == (changes.get("crop") == (128, 96) or changes.get("scale_jitter", (1,))[0] < 0.6)


def test_unscaled_pixels_and_labels_are_the_originals():
    example = TrainTransform(config(), META)(raw())
    assert (example.image == 45 * example.target).all()


def test_colours_are_jittered_and_labels_are_not():
    torch.manual_seed(0)
    example = TrainTransform(config(color_jitter=0.5), META)(raw())
    assert (example.image[0] != 45 * example.target).any() and set(example.target.unique().tolist()) <= set(range(6))


def test_evaluation_keeps_whole_frames():
    example = EvalTransform(config(), META)(raw())
    assert example.image.shape == (3, 96, 160) and example.target is None
    assert example.source == {"file_name": "a.jpg", "size": (96, 160), "input_size": (96, 160)}
    resized = EvalTransform(config(eval_size=(48, 80)), META)(raw(labelled=False))
    assert resized.image.shape == (3, 48, 80) and resized.image.is_contiguous()
    assert resized.source == {"file_name": "a.jpg", "size": (96, 160), "input_size": (48, 80)}


def test_batches_stack_crops_and_pad_frames():
    transform = TrainTransform(config(), META)
    batch = collate([transform(raw(seed=seed)) for seed in range(3)])
    assert batch.task == "seg" and batch.images.shape == (3, 3, 64, 80) and batch.images.dtype == torch.uint8
    assert batch.targets.shape == (3, 64, 80) and batch.targets.dtype == torch.uint8
    frames = [EvalTransform(config(), META)(raw(size)) for size in ((96, 160), (112, 64))]
    padded = collate(frames)
    assert padded.targets is None and padded.images.shape == (2, 3, 112, 160)
    for image, frame in zip(padded.images, frames, strict=True):
        height, width = frame.source["input_size"]
        assert torch.equal(image[:, :height, :width], frame.image)
        assert (image[:, height:] == 114).all() and (image[:, :, width:] == 114).all()


def test_mistakes():
    transform = TrainTransform(config(), META)
    with pytest.raises(UserError, match=r"no mask .* build the shards"):
        transform(raw(labelled=False))
    with pytest.raises(DecodeError, match=r"the mask has .*\(80, 160\), the image \(96, 160\)"):
        transform(raw(mask_size=(80, 160)))
    with pytest.raises(DecodeError):
        transform(RawSample("a.jpg", {**raw().members, "png": b"nothing"}))

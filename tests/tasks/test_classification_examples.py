"""Classification: pictures at the network's size with the network's class indices."""

import cv2
import numpy as np
import pytest
import torch

from ufo_ds.data.decode import DecodeError
from ufo_ds.data.schema import ClassInfo, RawSample, TaskMeta
from ufo_ds.errors import UserError
from ufo_ds.recipe import ClsConfig
from ufo_ds.tasks.classification.examples import EvalTransform, TrainTransform, collate

META = TaskMeta("cls", "test", [ClassInfo(i, f"class {i}") for i in (3, 7, 20)], {})


def raw(label=b"7", size=(60, 100)):
    """Left half red, right half blue."""
    image = np.zeros((*size, 3), np.uint8)
    image[:, : size[1] // 2, 2], image[:, size[1] // 2 :, 0] = 250, 250
    members = {"jpg": cv2.imencode(".png", image)[1].tobytes()}
    return RawSample("a.jpg", members if label is None else {**members, "cls": label})


def config(**changes):
    return ClsConfig(**{"size": (32, 48), "hflip": 0.0, "color_jitter": 0.0, **changes})


def test_evaluation_shows_the_whole_image_stretched_to_the_size():
    example = EvalTransform(config(), META)(raw())
    assert example.image.dtype == torch.uint8 and example.image.shape == (3, 32, 48)
    assert example.image.is_contiguous()
    assert (example.image[0, :, :23] >= 248).all() and (example.image[2, :, :23] == 0).all()
    assert (example.image[2, :, 25:] >= 248).all() and (example.image[0, :, 25:] == 0).all()
    assert example.target == 1 and example.source == {"file_name": "a.jpg", "size": (60, 100)}


def test_training_crops_differ_and_follow_the_generator():
    transform = TrainTransform(config(color_jitter=0.4), META)
    torch.manual_seed(0)
    images = [transform(raw()).image for _ in range(8)]
    assert all(image.shape == (3, 32, 48) and image.is_contiguous() for image in images)
    assert len({image.numpy().tobytes() for image in images}) == 8
    torch.manual_seed(0)
    assert torch.equal(transform(raw()).image, images[0])


@pytest.mark.parametrize("hflip", [0.0, 1.0])
def test_mirroring(hflip):
    transform = TrainTransform(config(hflip=hflip, crop_scale=(0.9, 1.0)), META)
    image = transform(raw(size=(80, 80))).image.float().mean(1)
    left, right = (2, 0) if hflip else (0, 2)  # blue is left in the mirror
    assert image[left, :12].mean() > 200 > 50 > image[right, :12].mean()
    assert image[right, -12:].mean() > 200 > 50 > image[left, -12:].mean()


def test_batches_hold_indices_or_nothing():
    transform = EvalTransform(config(), META)
    batch = collate([transform(raw(label)) for label in (b"20", b"3")])
    assert batch.task == "cls" and batch.images.shape == (2, 3, 32, 48) and batch.images.dtype == torch.uint8
    assert batch.targets.tolist() == [2, 0] and batch.targets.dtype == torch.int64
    assert collate([transform(raw(None)), transform(raw(b"3"))]).targets is None
    assert EvalTransform(config(), META)(raw(b"4")).target is None  # the weights know other classes


def test_mistakes():
    transform = TrainTransform(config(), META)
    for label, message in ((None, r"no class .* build the shards"), (b"x", "no class"), (b"4", "4 is none of the 3")):
        with pytest.raises(UserError, match=message):
            transform(raw(label))
    with pytest.raises(DecodeError):
        transform(RawSample("a.jpg", {"jpg": b"nothing", "cls": b"3"}))

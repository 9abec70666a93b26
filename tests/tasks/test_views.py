"""Views of a picture and their one answer, before networks whose answers are known."""

import json

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ufo_ds.data.batch import Batch, Example
from ufo_ds.data.parcels import Receiver, Sender
from ufo_ds.data.schema import ClassInfo, RawSample, TaskMeta
from ufo_ds.data.views import CollateViews
from ufo_ds.recipe import ClsConfig, ClsViews, DetConfig, DetViews, SegConfig, SegViews
from ufo_ds.tasks import get_task
from ufo_ds.tasks.classification import views as cls
from ufo_ds.tasks.detection import views as det
from ufo_ds.tasks.detection.boxes import Found
from ufo_ds.tasks.segmentation import views as seg

META = TaskMeta("any", "test", [ClassInfo(i, f"class {i}") for i in range(3)], {})
CONFIGS = {"cls": ClsConfig(size=(40, 56)), "det": DetConfig(size=(64, 48)), "seg": SegConfig(eval_size=(48, 64))}
VIEWS = {"cls": ClsViews, "det": DetViews, "seg": SegViews}


def raw(number=0, size=(70, 90)):
    image = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
    label = json.dumps({"image_id": number}).encode()
    return RawSample(f"{number}.jpg", {"jpg": cv2.imencode(".jpg", image)[1].tobytes(), "json": label, "cls": b"1"})


def view_batch(name, views, samples=3, limit=4):
    transform = get_task(name).view_transform(CONFIGS[name], views, META)
    return CollateViews(get_task(name).collate, limit)([transform(raw(number)) for number in range(samples)])


@pytest.mark.parametrize("name", ["cls", "det", "seg"])
def test_the_view_at_scale_one_is_the_plain_input_to_the_bit(name):
    task = get_task(name)
    plain = task.collate([task.eval_transform(CONFIGS[name], META)(raw(number)) for number in range(3)])
    batch = view_batch(name, VIEWS[name](scales=(1.0, 1.5)))
    assert torch.equal(batch.images[0], plain.images)
    scaled = [3, *(round(1.5 * side) for side in plain.images.shape[2:])]
    assert list(batch.images[1].shape[1:]) == scaled
    for views, source in zip(batch.sources[0], plain.sources, strict=True):
        assert source.items() <= views.items()


def test_views_of_one_kind_share_batches_no_larger_than_the_limit():
    examples = [[Example(torch.full((3, 4, 4 + kind), 10 * sample + kind, dtype=torch.uint8), None, {"view": kind})
                 for kind in (0, 1, 1, 1)] for sample in range(3)]  # fmt: skip

    def collate(part):
        return Batch("any", torch.stack([example.image for example in part]), None, [e.source for e in part])

    batch = CollateViews(collate, 4)(examples)
    found = [images[:, 0, 0, 0].tolist() for images in batch.images]
    assert found == [[0, 10, 20], [1, 1, 1, 11], [11, 11, 21, 21], [21]]
    found = [[source["sample"] for source in sources] for sources in batch.sources]
    assert found == [[0, 1, 2], [0, 0, 0, 1], [1, 1, 2, 2], [2]]
    assert batch.samples == 3


def test_views_come_from_readers_as_they_were_made():
    batch = view_batch("det", DetViews(scales=(1.0, 3.0), tiles=48))
    unpacked = Receiver(pin=False).unpack(Sender().pack(batch))
    assert type(unpacked) is type(batch) and unpacked.sources == batch.sources
    assert len(unpacked.images) == len(batch.images) > 3
    assert all(torch.equal(one, other) for one, other in zip(unpacked.images, batch.images, strict=True))
    assert (unpacked.task, unpacked.samples, unpacked.limit) == ("det", 3, 4)


# ---- classification ----


def brightness(images):
    """A network that sees no difference between views: shares of red, green and blue."""
    means = images.float().mean((2, 3))
    return means / means.sum(1, keepdim=True)


def left_and_right(images):
    """One that sees nothing but."""
    half = images.shape[-1] // 2
    sides = torch.stack([images[..., :half].float().mean((1, 2, 3)), images[..., half:].float().mean((1, 2, 3))], 1)
    return sides / sides.sum(1, keepdim=True)


def test_classes_are_the_mean_of_the_views():
    batch = view_batch("cls", ClsViews(scales=(1.0, 0.5)))
    mean, sources = cls.mean_probabilities(brightness, batch, ClsViews(scales=(1.0, 0.5)))
    torch.testing.assert_close(mean, (brightness(batch.images[0]) + brightness(batch.images[1])) / 2)
    assert [source["file_name"] for source in sources] == ["0.jpg", "1.jpg", "2.jpg"]
    mean, _ = cls.mean_probabilities(left_and_right, view_batch("cls", ClsViews(hflip=True)), ClsViews(hflip=True))
    torch.testing.assert_close(mean, torch.full((3, 2), 0.5))


# ---- segmentation ----


def segment(batch, views, probabilities):
    return dict(enumerate(mean for mean, _ in seg.mean_probabilities(probabilities, batch, views)))


def by_colour(images):
    """A network whose answer at a pixel is that pixel's colour."""
    return images.float() / images.float().sum(1, keepdim=True).clamp(min=1)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(16, 90), st.integers(16, 90)), st.sampled_from([0.0, 0.2, 0.5, 0.75]), st.booleans(),
    st.integers(1, 5),
)  # fmt: skip
def test_windows_of_a_network_that_looks_at_pixels_alone_change_nothing(window, overlap, hflip, limit):
    views = SegViews(window=window, overlap=overlap, hflip=hflip)
    batch = view_batch("seg", views, samples=2, limit=max(limit, 2))
    sizes = []

    def network(images):
        sizes.append(images.shape)
        return by_colour(images)

    for number, blended in enumerate(seg.blend(network, next(batch.batches()), views, limit)):
        torch.testing.assert_close(blended, by_colour(batch.images[0])[number], atol=2e-6, rtol=0)
    high, wide = min(window[0], 48), min(window[1], 64)
    assert all(shape[0] <= limit and shape[2:] == (high, wide) for shape in sizes)


def test_a_constant_map_comes_back_constant_at_the_originals_size():
    views = SegViews(window=(20, 30), scales=(1.0, 0.7, 2.0), hflip=True)
    constant = torch.tensor([0.2, 0.5, 0.3])
    found = segment(view_batch("seg", views), views, lambda x: constant[:, None, None].expand(len(x), 3, *x.shape[2:]))
    for mean in found.values():
        assert mean.shape == (3, 70, 90)
        assert float((mean - constant[:, None, None]).abs().max()) < 1e-6


def test_without_windows_a_view_is_what_the_network_says():
    batch = view_batch("seg", SegViews())
    blended = seg.blend(by_colour, next(batch.batches()), SegViews(), 4)
    assert torch.equal(torch.stack(blended), by_colour(batch.images[0]))


def test_mirror_images_are_mirrored_back():
    """Of a network that shifts everything to the right, half shifts to the left."""
    views, batch = SegViews(hflip=True), view_batch("seg", SegViews())
    shifted = seg.blend(lambda images: by_colour(images).roll(1, -1), next(batch.batches()), views, 4)
    exact = by_colour(batch.images[0])
    torch.testing.assert_close(torch.stack(shifted), (exact.roll(1, -1) + exact.roll(-1, -1)) / 2)


# ---- detection ----


def test_mirrored_pictures_give_mirrored_boxes_to_a_head():
    """The head's own part: a picture and its mirror image have the same boxes, once these are mirrored back."""
    from test_heads import DET, make_model

    from ufo_ds.tasks.detection.head import DetectionHead

    model = make_model("det", DetectionHead, DetConfig(size=(64, 48), **DET), META).eval()
    head, canvas = model.heads["det"], torch.tensor([[2.0, 4, 12, 30], [20, 0, 48, 60]])
    scores, labels = torch.tensor([[0.9, 0.8]]), torch.tensor([[0, 2]])
    mirror = torch.tensor([[36.0, 4, 46, 30], [0, 0, 28, 60]])

    def candidates(features):
        return (mirror if features[..., -1].max() > features[..., 0].max() else canvas)[None], scores, labels

    head._candidates = candidates
    images = torch.zeros(1, 3, 64, 48, dtype=torch.uint8)
    images[..., 0] = 255
    batch = view_batch("det", DetViews(), samples=1)
    batch.images = [images]
    for fusion in ("wbf", "nms"):
        views = DetViews(hflip=True, fusion=fusion)
        (found,) = head.predict_views(lambda images: images, batch, views)
        scale = batch.sources[0][0]["scale"]
        np.testing.assert_allclose(found.boxes, (canvas / scale).numpy().clip(0, [90, 70, 90, 70]), atol=1e-3)
        np.testing.assert_allclose(found.scores, [0.9, 0.8], atol=1e-6)
        assert found.category_ids.tolist() == [0, 2]


def test_one_pass_over_the_picture_is_not_fused():
    double = Found(np.array([[0, 0, 10, 10], [0, 0, 10, 9.5]]), np.array([0.9, 0.8]), np.zeros(2, np.int64))
    batch = view_batch("det", DetViews(), samples=1)
    ((found, _),) = det.find_boxes(lambda images, is_mirror, sources: [double], batch, DetViews())
    assert found is double
    ((found, _),) = det.find_boxes(lambda images, is_mirror, sources: [double], batch, DetViews(hflip=True))
    assert len(found) == 1

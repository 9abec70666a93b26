"""Tiles before a detector that is always right: every object comes back once, with its true box."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ufo_ds.data.schema import ClassInfo, RawSample, TaskMeta
from ufo_ds.data.views import CollateViews
from ufo_ds.recipe import DetConfig, DetViews
from ufo_ds.tasks.detection.boxes import Found, box_iou
from ufo_ds.tasks.detection.examples import collate
from ufo_ds.tasks.detection.tiles import Tiles, merge_tiles
from ufo_ds.tasks.detection.views import ViewTransform, find_boxes, tile_places

META = TaskMeta("det", "test", [ClassInfo(i, f"class {i}") for i in (5, 11)], {})


def raw(size, suffix=".jpg", noise=0):
    image = np.random.default_rng(0).integers(0, noise + 1, (*size, 3), np.uint8)
    members = {"jpg": cv2.imencode(suffix, image)[1].tobytes(), "json": json.dumps({"image_id": 7}).encode()}
    return RawSample("a.jpg", members)


def oracle(objects, seen=None):
    """Finds what of each object (rows x1, y1, x2, y2, label) an input shows; half a pixel is too little."""

    def detect(images, is_mirror, sources):
        for image, source in zip(images, sources, strict=True):
            x1, y1, x2, y2 = source["window"]
            boxes = objects[:, :4].clip([x1, y1, x1, y1], [x2, y2, x2, y2])
            visible = ((boxes[:, 2:] - boxes[:, :2]) > 0.5).all(1)
            if seen is not None:
                seen.append((image, source))
            order = np.argsort(-objects[visible, 4], kind="stable")
            scores = 0.9 - 0.1 * np.arange(visible.sum()) / len(objects)
            yield Found(boxes[visible][order], scores, objects[visible, 4].astype(np.int64)[order])

    return detect


def predicted(objects, size, canvas, views, **options):
    transform = ViewTransform(DetConfig(size=canvas), views, META)
    batch = CollateViews(collate, 4)([transform(raw(size))])
    assert all(len(images) <= 4 for images in batch.images)
    return find_boxes(oracle(objects, **options), batch, views)[0]


def same_boxes(found, objects, tolerance=1e-6):
    assert len(found) == len(objects), (found, objects)
    rows = np.column_stack([found.boxes, found.labels])
    for row in objects:
        assert np.abs(rows - row).max(1).min() <= tolerance, (row, rows)


@st.composite
def scenes(draw):
    """A picture's size, a canvas, tiles, and objects that do not overlap: on borders, small, larger than a tile."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = tuple(int(side) for side in generator.integers(150, 500, 2))
    canvas = draw(st.sampled_from([(128, 128), (96, 160), (200, 120)]))
    views = DetViews(tiles=draw(st.sampled_from([100, 128, 170])), overlap=draw(st.sampled_from([0.1, 0.25, 0.5])),
                     whole=False)  # fmt: skip
    objects = []
    for _ in range(draw(st.integers(1, 12))):
        sides = generator.choice([8, 15, 40, 120, 300], 2) * generator.uniform(0.7, 1.4, 2)
        low = generator.uniform(0, 1, 2) * (np.array(size[::-1]) - 5)
        high = np.minimum(low + sides, size[::-1])
        box = np.array([*low, *high])
        apart = all((box[:2] - 12 > other[2:4]).any() or (box[2:] + 12 < other[:2]).any() for other in objects)
        if apart and ((high - low) > 6).all():
            objects.append([*box, int(generator.integers(0, 2))])
    return size, canvas, views, np.array(objects).reshape(-1, 5)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenes())
def test_every_object_comes_back_once(scene):
    size, canvas, views, objects = scene
    found, source = predicted(objects, size, canvas, views)
    same_boxes(found, objects)
    assert source["image_id"] == 7


@pytest.mark.parametrize("fusion", ["wbf", "nms"])
def test_with_the_whole_picture_and_mirror_images(fusion):
    objects = np.array([[10, 10, 30, 30, 0], [190, 90, 215, 120, 1], [20, 150, 380, 260, 1]], np.float64)
    views = DetViews(tiles=128, hflip=True, scales=(1.0, 1.5), fusion=fusion)
    seen = []
    found, _ = predicted(objects, (300, 400), (128, 128), views, seen=seen)
    same_boxes(found, objects)
    assert (found.scores > 0.8).all(), "all views agree"
    places = tile_places((300, 400), (128, 128), 128, 0.2)
    assert len(seen) == 2 * (2 + len(places))


def test_tiles_show_the_pixels_that_they_say():
    size = (300, 410)
    transform = ViewTransform(DetConfig(size=(128, 96)), DetViews(tiles=128, whole=False), META)
    sample = raw(size, ".png", noise=255)
    image = cv2.cvtColor(cv2.imdecode(np.frombuffer(sample.members["jpg"], np.uint8), 1), cv2.COLOR_BGR2RGB)
    for example in transform(sample):
        x1, y1, x2, y2 = (round(side) for side in example.source["window"])
        assert (y2 - y1, x2 - x1) == (128, 96) and example.source["start"] == (y1, x1)
        assert np.array_equal(example.image.permute(1, 2, 0).numpy(), image[y1:y2, x1:x2])
    covered = np.zeros(size, bool)
    for example in transform(sample):
        x1, y1, x2, y2 = (round(side) for side in example.source["window"])
        covered[y1:y2, x1:x2] = True
    assert covered.all()


def test_a_picture_that_fits_into_a_tile_is_not_cut():
    for size in [(100, 100), (128, 128), (128, 60)]:
        assert tile_places(size, (64, 64), 128, 0.2) == []
    transform = ViewTransform(DetConfig(size=(64, 64)), DetViews(tiles=128, whole=False), META)
    assert [example.source["window"] for example in transform(raw((100, 120)))] == [(0, 0, 120, 100)]
    assert len(tile_places((128, 129), (64, 64), 128, 0.2)) == 2


def two_tiles(near=2.0):
    windows = np.array([[0, 0, 100, 100], [80, 0, 180, 100]], np.float64)
    return Tiles(windows, np.array([[0, 0, 1, 0], [1, 0, 0, 0]], bool), near)


def boxes(*rows):
    table = np.array(rows, np.float64).reshape(-1, 5)
    return Found(table[:, :4], table[:, 4], np.zeros(len(table), np.int64))


def test_a_cut_box_gives_way_to_the_neighbours_whole_one_and_its_opinion():
    merged = merge_tiles([boxes((90, 10, 99, 30, 0.9)), boxes((88, 10, 120, 30, 0.5))], two_tiles(), 0.5)
    assert merged.boxes.tolist() == [[88, 10, 120, 30]] and merged.scores.tolist() == [0.5]
    assert len(merge_tiles([boxes((90, 10, 99, 30, 0.9)), boxes()], two_tiles(), 0.5)) == 0
    kept = merge_tiles([boxes((40, 10, 99, 30, 0.9)), boxes()], two_tiles(), 0.5)
    assert kept.boxes.tolist() == [[40, 10, 99, 30]], "no neighbour sees all of it"


def test_boxes_near_a_border_are_put_together_and_others_are_not():
    merged = merge_tiles([boxes((40, 10, 99, 30, 0.9)), boxes((81, 11, 150, 31, 0.5))], two_tiles(), 0.5)
    assert merged.boxes.tolist() == [[40, 10, 150, 30]] and merged.scores.tolist() == [0.9]
    apart = merge_tiles([boxes((40, 10, 95, 30, 0.9)), boxes((85, 10, 150, 30, 0.5))], two_tiles(), 0.5)
    assert len(apart) == 2, "whole by their own accounts, and not the same box"


def test_doubles_of_two_tiles_count_once_and_neighbours_of_one_tile_do_not():
    both = boxes((84, 10, 96, 30, 0.8), (84, 50, 96, 70, 0.7))
    merged = merge_tiles([both, boxes((84, 10.5, 96, 30, 0.9), (84, 50, 96, 69, 0.6))], two_tiles(), 0.5)
    assert merged.boxes.tolist() == [[84, 10.5, 96, 30], [84, 50, 96, 70]]
    close = boxes((40, 10, 60, 30, 0.9), (42, 10, 62, 30, 0.8))
    assert box_iou(close.boxes, close.boxes)[0, 1] > 0.5
    assert len(merge_tiles([close, boxes()], two_tiles(), 0.5)) == 2, "what a tile tells apart stays apart"

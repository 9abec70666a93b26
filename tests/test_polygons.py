"""Masks as polygons, exact to the pixel under the official rasteriser."""

import json
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ufo_ds import polygons as polygons_module
from ufo_ds.errors import UserError
from ufo_ds.polygons import mask_to_polygons, polygons_to_mask


def official_mask(polygons, size):
    """What the challenge's code makes of an entry, written from its description and nothing of ours."""
    canvas = np.zeros(size, dtype=np.uint8)
    for name, contours in polygons.items():
        long_enough = [np.array(contour, dtype=np.int32) for contour in contours if len(contour) > 2]
        if name != "0" and long_enough:
            cv2.fillPoly(canvas, long_enough, int(name))
    return canvas


def assert_exact(mask):
    polygons = json.loads(json.dumps(mask_to_polygons(mask)))
    assert sorted(map(int, polygons)) == np.unique(mask).tolist()
    assert np.array_equal(official_mask(polygons, mask.shape), mask)
    assert np.array_equal(polygons_to_mask(polygons, mask.shape), mask)
    backwards = dict(reversed(polygons.items()))
    assert np.array_equal(official_mask(backwards, mask.shape), mask)


small_masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 255])))


@settings(max_examples=400, deadline=None)
@given(small_masks)
def test_any_small_mask_is_exact(mask):
    assert_exact(mask)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 70), st.integers(1, 70), st.integers(1, 5), st.floats(0, 1))
def test_noise_of_any_density_is_exact(seed, height, width, classes, density):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, classes + 1, (height, width)) * (rng.random((height, width)) < density)
    assert_exact(mask.astype(np.uint8))


def test_every_pattern_of_three_by_three_is_exact():
    for code in range(512):
        assert_exact(np.array([code >> bit & 1 for bit in range(9)], np.uint8).reshape(3, 3))


def test_every_class_is_exact():
    mask = np.arange(256, dtype=np.uint8).repeat(3)[None].repeat(2, 0)
    assert_exact(mask)
    assert len(mask_to_polygons(mask)) == 256


def rings(size):
    distance = np.abs(np.arange(size) - size // 2)
    return (np.maximum(distance[:, None], distance[None]) % 2).astype(np.uint8)


SHAPES = {
    "one pixel": np.array([[7]], np.uint8),
    "one background pixel": np.array([[0]], np.uint8),
    "dot": np.pad(np.array([[3]], np.uint8), 2),
    "row": np.pad(np.full((1, 5), 4, np.uint8), 1),
    "column at the edge": np.eye(1, 6, dtype=np.uint8).repeat(6, 0),
    "diagonal": np.eye(9, dtype=np.uint8),
    "checkerboard": (np.indices((17, 18)).sum(0) % 2).astype(np.uint8),
    "nested rings": rings(31),
    "full": np.full((6, 4), 18, np.uint8),
    "ignored frame": np.pad(rings(9), 2, constant_values=255),
    "hole touching a hole": 1 - np.eye(8, dtype=np.uint8) - np.eye(8, k=1, dtype=np.uint8),
}


@pytest.mark.parametrize("name", SHAPES)
def test_awkward_shapes_are_exact(name):
    assert_exact(SHAPES[name])


@pytest.mark.parametrize("classes", [2, 19, 255])
def test_large_noise_is_exact(classes):
    assert_exact(np.random.default_rng(classes).integers(0, classes, (200, 300)).astype(np.uint8))


def test_runs_stand_in_where_the_tracing_fails(monkeypatch):
    monkeypatch.setattr(polygons_module.cv2, "findContours", lambda *_: ((), None))
    assert_exact(np.random.default_rng(0).integers(0, 4, (40, 50)).astype(np.uint8))
    assert_exact(rings(15))


def test_real_masks_are_exact_and_fast(real_data):
    paths = sorted((real_data / "bdd24" / "masks").rglob("*.png"))
    if not paths:
        pytest.skip("no bdd24 in the real data")
    seconds = []
    for path in paths:
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        started = time.perf_counter()
        polygons = mask_to_polygons(mask)
        seconds.append(time.perf_counter() - started)
        assert np.count_nonzero(official_mask(polygons, mask.shape) != mask) == 0, path
    assert np.median(seconds) < 0.1


def test_reader_paints_in_order_and_drops_short_contours():
    square = [[0, 0], [4, 0], [4, 4], [0, 4]]
    over = [[[0, 0], [4, 0], [4, 1], [0, 1]], [[9, 9]], [[0, 4], [4, 4]]]
    mask = polygons_to_mask({"2": [square], "1": over}, (10, 10))
    assert (mask[:2, :5] == 1).all() and (mask[2:5, :5] == 2).all()
    assert mask[9, 9] == 0 and mask.sum() == 10 * 1 + 15 * 2
    assert not polygons_to_mask({"3": []}, (2, 2)).any()
    assert polygons_to_mask({"1": [[[-5, -5], [50, -5], [50, 50], [-5, 50]]]}, (3, 4)).all()


def test_reader_cuts_holes_and_never_paints_the_background():
    outer, inner = [[0, 0], [8, 0], [8, 8], [0, 8]], [[2, 2], [6, 2], [6, 6], [2, 6]]
    mask = polygons_to_mask({"5": [outer, inner], "0": [outer]}, (9, 9))
    assert not mask[3:6, 3:6].any() and np.count_nonzero(mask) == 81 - 9
    assert (mask[mask > 0] == 5).all()


def test_a_street_scene_takes_well_under_a_tenth_of_a_second():
    mask, rng = np.zeros((720, 1280), np.uint8), np.random.default_rng(0)
    for class_id in range(1, 120):
        centre, axes = rng.integers([0, 0], [1280, 720]).tolist(), rng.integers(2, 120, 2).tolist()
        cv2.ellipse(mask, centre, axes, class_id, 0, 360, class_id % 19, -1)
    seconds = []
    for _ in range(5):
        started = time.process_time()  # not the clock on the wall, since the machine may be busy
        polygons = mask_to_polygons(mask)
        seconds.append(time.process_time() - started)
    assert sum(map(len, polygons.values())) > 100 and min(seconds) < 0.1


def test_masks_of_other_integer_types():
    mask = np.array([[0, 3], [255, 3]])
    assert mask_to_polygons(mask) == mask_to_polygons(mask.astype(np.uint8))
    assert mask_to_polygons(np.asfortranarray(mask)[:, ::-1]) == mask_to_polygons(mask[:, ::-1].copy())
    assert mask_to_polygons(np.empty((0, 4), np.uint8)) == {}
    for bad in (np.zeros((2, 2, 1), np.uint8), np.zeros((2, 2)), np.array([[256]]), np.array([[-1]])):
        with pytest.raises(UserError, match="class ids"):
            mask_to_polygons(bad)


@pytest.mark.parametrize("bad", [
    {"256": []}, {"-1": []}, {"a": []}, {"1": [[[0, 0.5]] * 3]}, {"1": [[[0]] * 3]},
    {"1": [["ab", "cd", "ef"]]}, {"1": [[[0, 1], [2]]]}, {"1": [[[0, 2**40]] * 3]}])
def test_broken_polygons_are_refused(bad):
    with pytest.raises(UserError):
        polygons_to_mask(bad, (4, 4))

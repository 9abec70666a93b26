import cv2
import numpy as np
import pytest

from ufo_ds import drawing, lettering
from ufo_ds.data.schema import ClassInfo, TaskMeta
from ufo_ds.tasks.classification.picture import picture as class_picture
from ufo_ds.tasks.classification.score import ClassPrediction
from ufo_ds.tasks.detection.picture import picture as box_picture
from ufo_ds.tasks.detection.score import BoxPrediction, BoxTruth
from ufo_ds.tasks.segmentation.picture import picture as mask_picture
from ufo_ds.tasks.segmentation.score import MaskPrediction

GREY = np.full((400, 400, 3), 120, np.uint8)


def meta(task: str, ids: list[int]) -> TaskMeta:
    return TaskMeta(task, "toy", [ClassInfo(i, f"name {i}") for i in ids], {})


def strip_height(width: int) -> int:
    return drawing.strip_height(drawing.text_size(width))


def is_picture(image: np.ndarray) -> bool:
    return image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


@pytest.mark.parametrize("colours", [drawing.mask_colours, drawing.box_colours])
@pytest.mark.parametrize("count", [0, 1, 19, 45, 196])
def test_colours_are_distinct_and_always_the_same(colours, count):
    table = colours(count)
    assert table.shape == (count, 3) and table.dtype == np.uint8
    assert len(np.unique(table, axis=0)) == count
    assert (table == colours.__wrapped__(count)).all()
    assert (colours(max(count, 3))[:count] == table).all()


def test_road_scene_colours():
    assert drawing.mask_colours(19)[13].tolist() == [0, 0, 142]


def test_more_classes_than_colours_still_get_one():
    assert drawing.mask_colours(2000).shape == (2000, 3)


@pytest.mark.parametrize(("side", "factor"), [(64, 6.0), (130, 3.0), (256, 2.0), (500, 1.0), (1440, 0.5)])
def test_fit(side, factor):
    image, got = drawing.fit(np.zeros((side // 2, side, 3), np.uint8))
    assert got == factor
    assert image.shape == (side // 2 * factor, side * factor, 3)


def test_fit_mask_keeps_ids():
    mask = np.array([[3, 255], [7, 9]], np.uint8)
    assert set(np.unique(drawing.fit_mask(mask, (50, 70, 3)))) == {3, 7, 9, 255}


def test_label_stays_inside_the_picture():
    image = GREY.copy()
    x1, y1, x2, y2 = drawing.label(image, "sign", (390, -20), (255, 0, 0))
    assert 0 <= x1 < x2 <= 400 and 0 <= y1 < y2 <= 400
    assert (image[y1, x1] == (255, 0, 0)).all()
    assert (image != GREY).any(axis=-1).sum() == (x2 - x1) * (y2 - y1)


def test_text_without_the_fonts_of_opencv_5(monkeypatch):
    monkeypatch.delattr(cv2, "FontFace", raising=False)
    lettering._font.cache_clear()
    image = GREY.copy()
    drawing.write(image, "sign", (10, 20), (0, 0, 0), 13)
    assert (image != GREY).any() and drawing.text_width("sign", 13) > drawing.text_width("s", 13)
    lettering._font.cache_clear()


def test_shorten():
    long = "a very long name of a class " * 4
    assert drawing.text_width(drawing.shorten(long, 100, 13), 13) <= 100
    assert drawing.shorten(long, 100, 13).endswith("...")
    assert drawing.shorten("short", 100, 13) == "short"


def test_strip_marks():
    right, wrong, none = (drawing.strip(200, "x", mark) for mark in (True, False, None))
    assert right.shape == wrong.shape == none.shape == (strip_height(200), 200, 3)
    assert not (right == wrong).all() and not (right == none).all()


def test_boxes_leave_the_given_picture_alone_and_take_what_lies_outside():
    corners = [[10, 10, 60, 50], [-30, 350, 900, 1e9], [np.nan, 0, 10, 10]]
    drawn = drawing.boxes(GREY, np.array(corners), ["one", "", "three"], [0.5, 0.25, 0.125])
    assert (GREY == 120).all() and (drawn != GREY).any()
    assert (drawing.boxes(GREY, np.empty((0, 4)), []) == GREY).all()


def test_names_of_neighbours_do_not_cover_one_another(monkeypatch):
    placed = []
    real = drawing.label
    monkeypatch.setattr(drawing, "label", lambda *arguments: placed.append(real(*arguments)) or placed[-1])
    drawing.boxes(GREY, np.array([[200, 200, 220, 220]]) + np.array([[0], [2], [-2]]), list("abc"))
    assert len(placed) == 3
    assert not any(drawing._overlap(placed[i], placed[j]) for i in range(3) for j in range(i))


def test_overlay_mask():
    mask = np.zeros((400, 400), np.uint8)
    mask[:, 100:] = 2
    mask[:, 200:] = 255
    mask[:, 300:] = 77
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)
    drawn = drawing.overlay_mask(GREY, mask, colours, alpha=1.0)
    assert drawn[50, 50].tolist() == [255, 0, 0]
    assert drawn[50, 150].tolist() == [0, 0, 255]
    assert len(np.unique(drawn[50, 210:290], axis=0)) == 2  # hatched
    assert drawn[50, 350].tolist() == [120, 120, 120]  # no class: left bare


def test_beside_pads_the_lower_one():
    image = drawing.beside(GREY[:100], GREY[:, :200], ("left", "right"))
    assert image.shape == (strip_height(400) + 400, 400 + 4 + 200, 3)


# ---- the pictures of the tasks ----


def test_class_picture_marks_right_and_wrong():
    of = meta("cls", [0, 1])
    right = class_picture(GREY, 1, ClassPrediction("a.jpg", 1, 0.9), of)
    wrong = class_picture(GREY, 0, ClassPrediction("a.jpg", 1), of)
    unknown = class_picture(GREY, None, ClassPrediction("a.jpg", 99, 0.5), of)
    assert all(map(is_picture, (right, wrong, unknown)))
    assert (right == drawing.RIGHT).all(axis=-1).any() and not (right == drawing.WRONG).all(axis=-1).any()
    assert (wrong == drawing.WRONG).all(axis=-1).any()
    assert right.shape[0] - unknown.shape[0] == strip_height(400)


def predicted_boxes(scores: list[float], category: int = 7) -> BoxPrediction:
    count = len(scores)
    corners = np.arange(count)[:, None] * 30 + np.array([[5, 5, 25, 25]])
    return BoxPrediction(1, corners.astype(float), np.full(count, category), np.array(scores, np.float32))


@pytest.mark.parametrize("scores", [[], [0.9, 0.1], [0.2, 0.1, 0.05, 0.01]])
@pytest.mark.parametrize("category", [3, 7, 1000])
def test_box_picture(scores, category):
    corners, crowd = np.array([[5.0, 5, 20, 20], [50, 50, 9, 9]]), np.array([False, True])
    truth = BoxTruth(1, corners, np.array([3, 7]), crowd, np.array([400.0, 81]))
    image, of = np.zeros((96, 128, 3), np.uint8), meta("det", [3, 7])
    pair = box_picture(image, truth, predicted_boxes(scores, category), of)
    alone = box_picture(image, None, predicted_boxes(scores, category), of)
    assert is_picture(pair) and is_picture(alone)
    assert pair.shape == (96 * 3 + strip_height(384), 2 * 128 * 3 + 4, 3)
    assert (pair[:, -alone.shape[1] :] == alone).all()


def test_weak_boxes_are_drawn_only_where_there_are_no_others(monkeypatch):
    drawn = []
    real = drawing.label
    monkeypatch.setattr(drawing, "label", lambda *arguments: drawn.append(arguments[1]) or real(*arguments))
    box_picture(GREY, None, predicted_boxes([0.9, 0.1, 0.35]), meta("det", [7]))
    assert sorted(drawn) == ["name 7 0.35", "name 7 0.90"]
    drawn.clear()
    box_picture(GREY, None, predicted_boxes([0.1, 0.05, 0.2, 0.01]), meta("det", [7]))
    assert sorted(drawn) == ["name 7 0.05", "name 7 0.10", "name 7 0.20"]


def test_mask_picture():
    truth = np.zeros((90, 160), np.uint8)
    truth[:40] = 255
    prediction = MaskPrediction("a.jpg", np.full((90, 160), 2, np.uint8))
    image, of = np.zeros((90, 160, 3), np.uint8), meta("seg", [0, 1, 2])
    pair, alone = mask_picture(image, truth, prediction, of), mask_picture(image, None, prediction, of)
    assert is_picture(pair) and is_picture(alone)
    assert pair.shape == (270 + strip_height(480), 964, 3)
    assert (pair[:, -480:] == alone).all()

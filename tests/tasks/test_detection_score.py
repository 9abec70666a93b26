"""COCO's mAP against COCOeval itself and against figures by hand; its merge over ranks; the section `dec`."""

import contextlib
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ufo_ds.data.schema import ClassInfo, RawSample, TaskMeta
from ufo_ds.errors import UserError
from ufo_ds.tasks.detection.score import (
    BoxMetric,
    BoxPrediction,
    BoxTruth,
    no_boxes,
    read_coco,
    read_section,
    read_truth,
    truth_of,
    write_section,
)

CATEGORIES = (3, 7, 20)


def draw(seed, images=12):
    """Random COCO ground truth as JSON, and predictions near it."""
    rng = np.random.default_rng(seed)
    value = {"images": [{"id": 5 * i + 1} for i in range(images)], "annotations": [],
             "categories": [{"id": c, "name": f"c{c}"} for c in (*CATEGORIES, 99)]}
    predictions = []
    for image in value["images"]:
        count = rng.integers(0, 5)
        boxes = rng.integers([0, 0, 4, 4], [80, 80, 40, 40], (count, 4)).astype(float)
        categories = rng.choice(CATEGORIES, count)
        for box, category in zip(boxes, categories, strict=True):
            value["annotations"].append({"id": len(value["annotations"]) + 1, "image_id": image["id"],
                                         "category_id": int(category), "bbox": box.tolist(),
                                         "area": float(box[2] * box[3]), "iscrowd": int(rng.random() < 0.2)})
        found = np.concatenate([boxes, boxes]) + rng.normal(0, 2, (2 * count, 4))
        found = np.concatenate([found[:, :2], found[:, :2] + np.maximum(found[:, 2:], 1)], 1)
        labels = np.where(rng.random(2 * count) < 0.8, np.tile(categories, 2), 99)
        predictions.append(BoxPrediction(image["id"], found.astype(np.float32), labels,
                                         rng.choice([0.2, 0.5, 0.9], 2 * count).astype(np.float32)))
    return value, predictions


def reference(value, entries):
    """`stats[1]` and `stats[0]` of COCOeval as everyone calls it."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = json.loads(json.dumps(value))
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(json.loads(json.dumps(entries))), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[1], evaluation.stats[0]


def truths_of(value, tmp_path):
    (tmp_path / "det.json").write_text(json.dumps(value))
    return read_truth(tmp_path / "det.json")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 30), st.sampled_from([0.0, 0.3, 1.0]))
def test_any_boxes_have_cocoevals_figures(tmp_path_factory, seed, images, most, crowds):
    # A coarse grid, so that overlaps and scores tie; images without boxes, without truths, and out of order.
    rng = np.random.default_rng(seed)
    value = {"images": [{"id": int(i)} for i in rng.permutation(images)], "annotations": [],
             "categories": [{"id": c} for c in CATEGORIES]}
    entries = []
    for image in range(images):
        for _ in range(rng.integers(0, most + 1)):
            box = (rng.integers([0, 0, 0, 0], [6, 6, 4, 4]) * 4.0).tolist()
            large = 10.0 ** rng.choice([0, 0, 0, 9])
            value["annotations"].append({"id": len(value["annotations"]) + 1, "image_id": image, "bbox": box,
                                         "category_id": int(rng.choice(CATEGORIES)), "area": box[2] * box[3] * large,
                                         "iscrowd": int(rng.random() < crowds)})
        for _ in range(rng.choice([0, 5, 350])):
            box = (rng.integers([0, 0, 0, 0], [6, 6, 4, 4]) * 4.0 * rng.choice([1, 1, 1, 10**5])).tolist()
            entries.append({"image_id": image, "category_id": int(rng.choice((*CATEGORIES, 99))), "bbox": box,
                            "score": float(rng.integers(0, 8) / 8)})
    if not value["annotations"] or not entries:
        return
    truths = truths_of(value, tmp_path_factory.mktemp("any"))
    found = read_section(entries, Path("s.json"))
    metric = BoxMetric()
    metric.update([found.get(key) or no_boxes(key) for key in truths], list(truths.values()))
    at_50, over_all = reference(value, entries)  # -1 where there is nothing to find
    assert metric.compute() == pytest.approx({"mAP50": max(at_50, 0), "mAP": max(over_all, 0)}, rel=0, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_figures_are_cocoevals(seed, tmp_path, capsys):
    value, predictions = draw(seed)
    truths = truths_of(value, tmp_path)
    metric = BoxMetric()
    metric.update(predictions, [truths[item.image_id] for item in predictions])
    figures = metric.compute()
    expected = reference(value, write_section(predictions))
    assert (figures["mAP50"], figures["mAP"]) == pytest.approx(expected, abs=1e-12)
    assert np.mean(list(metric.per_class().values())) == pytest.approx(figures["mAP50"])
    assert capsys.readouterr().out == ""


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.integers(1, 4), st.randoms(use_true_random=False))
def test_any_split_over_ranks_gives_the_whole(tmp_path_factory, seed, ranks, chance):
    value, predictions = draw(seed, images=8)
    truths = truths_of(value, tmp_path_factory.mktemp("gt"))
    whole, parts = BoxMetric(), [BoxMetric() for _ in range(ranks)]
    for item in predictions:
        whole.update([item], [truths[item.image_id]])
        chance.choice(parts).update([item], [truths[item.image_id]])
    merged = BoxMetric()
    chance.shuffle(parts)
    merged.merge([pickle.loads(pickle.dumps(part.state())) for part in parts])
    assert merged.compute() == whole.compute()


def test_submission_scores_what_validation_scored(tmp_path):
    value, predictions = draw(42)
    truths = truths_of(value, tmp_path)
    trained, submitted = BoxMetric(), BoxMetric()
    trained.update(predictions, [truths[item.image_id] for item in predictions])
    read = read_section(json.loads(json.dumps(write_section(predictions))), Path("s.json"))
    submitted.update([read.get(key) or no_boxes(key) for key in truths], list(truths.values()))
    assert submitted.compute() == trained.compute()


def truth(image_id, boxes, categories, crowd=None):
    boxes = np.array(boxes, float).reshape(-1, 4)
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd)
    return BoxTruth(image_id, boxes, np.array(categories, np.int64), crowd, boxes[:, 2] * boxes[:, 3])


def found(image_id, boxes, categories, scores):
    return BoxPrediction(image_id, np.array(boxes, np.float32).reshape(-1, 4), np.array(categories, np.int64),
                         np.array(scores, np.float32))


def test_by_hand():
    # Category 1 has two boxes: a hit at rank 1, a miss at rank 2, a hit at rank 3. So the precision is 1 up
    # to recall 0.5 (51 of 101 recall points) and 2/3 beyond. Category 2: one box, IoU exactly 0.5.
    metric = BoxMetric()
    metric.update([found(1, [[0, 0, 10, 10], [50, 50, 60, 60]], [1, 1], [0.9, 0.8]),
                   found(2, [[0, 0, 10, 10], [20, 20, 30, 25]], [1, 2], [0.7, 0.1])],
                  [truth(1, [[0, 0, 10, 10]], [1]), truth(2, [[0, 0, 10, 10], [20, 20, 10, 10]], [1, 2])])
    first = (51 + 50 * 2 / 3) / 101
    assert metric.per_class() == pytest.approx({1: first, 2: 1.0})
    assert metric.compute() == pytest.approx({"mAP50": (first + 1) / 2, "mAP": (first + 0.1) / 2})


def test_crowds_neither_help_nor_hurt():
    metric = BoxMetric()
    boxes = [[0, 0, 10, 10], [40, 40, 45, 45], [44, 44, 49, 49]]
    metric.update([found(1, boxes, [1, 1, 1], [0.5, 0.9, 0.8])],
                  [truth(1, [[0, 0, 10, 10], [40, 40, 20, 20]], [1, 1], [False, True])])
    assert metric.compute()["mAP50"] == pytest.approx(1)


@pytest.mark.parametrize("truths", [
    [], [truth(1, [], [])], [truth(1, [[0, 0, 9, 9]], [1], [True])],
], ids=["no image", "no box", "crowds"])
def test_nothing_to_find_is_zero(truths):
    metric = BoxMetric()
    metric.update([found(item.image_id, [[0, 0, 1, 1]], [1], [0.5]) for item in truths], truths)
    assert metric.compute() == {"mAP50": 0.0, "mAP": 0.0}
    assert metric.per_class() == {}


def test_an_annotation_numbered_zero_can_be_found(tmp_path):
    # COCOeval takes the id 0 for "no match": such a box would be missed, and what hits it a false alarm.
    value = {"images": [{"id": 0}], "categories": [{"id": 0, "name": "x"}],
             "annotations": [{"id": 0, "image_id": 0, "category_id": 0, "bbox": [0, 0, 9, 9], "area": 81}]}
    metric = BoxMetric()
    metric.update([found(0, [[0, 0, 9, 9]], [0], [0.5])], [truths_of(value, tmp_path)[0]])
    assert metric.compute() == pytest.approx({"mAP50": 1, "mAP": 1})


def test_only_the_hundred_best_of_an_image_count():
    for misses, expected in ((99, 1 / 100), (100, 0)):
        boxes = [[50, 50, 60, 60]] * misses + [[0, 0, 10, 10]]
        metric = BoxMetric()
        metric.update([found(1, boxes, [1] * (misses + 1), np.linspace(1, 0.1, misses + 1))],
                      [truth(1, [[0, 0, 10, 10]], [1])])
        assert metric.compute()["mAP50"] == pytest.approx(expected)


def test_nothing_found_is_zero():
    metric = BoxMetric()
    metric.update([no_boxes(1)], [truth(1, [[0, 0, 9, 9]], [4])])
    assert metric.compute() == {"mAP50": 0.0, "mAP": 0.0}
    assert metric.per_class() == {4: 0.0}


def test_an_image_counts_once():
    metric = BoxMetric()
    metric.update([no_boxes(1)], [truth(1, [], [])])
    with pytest.raises(AssertionError):
        metric.update([no_boxes(1)], [truth(1, [], [])])
    with pytest.raises(AssertionError):
        metric.merge([metric.state(), metric.state()])


def test_section_is_lossless_where_it_matters():
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.random((50, 2, 2)) * 1280, axis=1).reshape(50, 4).astype(np.float32)
    item = BoxPrediction(3, boxes, rng.integers(1, 9, 50), (rng.random(50) * 1e-4).astype(np.float32))
    entries = write_section([item])
    assert entries == write_section([item], as_objects=True)
    read = read_section(json.loads(json.dumps(entries)), Path("s.json"))[3]
    order = np.argsort(-item.scores, kind="stable")
    assert np.array_equal(read.scores.astype(np.float32), item.scores[order])
    assert np.array_equal(read.category_ids, item.category_ids[order])
    assert np.abs(read.boxes - boxes[order]).max() < 2e-3
    assert write_section([read]) == entries


def test_section_refuses_what_is_not_finite():
    for boxes, scores in (([[0, 0, np.nan, 1]], [0.5]), ([[0, 0, 1, 1]], [np.inf])):
        with pytest.raises(UserError, match="diverged"):
            write_section([found(1, boxes, [1], scores)])


def test_bare_annotations_are_filled_in(tmp_path):
    (tmp_path / "det.json").write_text(json.dumps(
        {"images": [{"id": 9}, {"id": 4}],
         "annotations": [{"image_id": 9, "category_id": 44, "bbox": [1, 2, 3, 4]}]}))
    truths, names = read_coco(tmp_path / "det.json")
    assert list(truths) == [9, 4] and names == {44: ""}
    assert truths[9].areas.tolist() == [12] and truths[9].is_crowd.tolist() == [False]
    assert truths[9].boxes.tolist() == [[1, 2, 4, 6]] and truths[4].boxes.shape == (0, 4)


@pytest.mark.parametrize(("change", "message"), [
    ({"images": None}, "no COCO file"), ({"images": []}, "lists no image"),
    ({"images": [{"id": "1"}]}, r"images\[0\]"), ({"images": [{"id": 1}, {"id": 1}]}, r"images\[1\]"),
    ({"categories": [3]}, "categories"),
    ({"annotations": [3]}, r"annotations\[0\] is no object"),
    ({"annotations": [{"image_id": 2}]}, "image_id 2"),
    ({"annotations": [{"image_id": 1, "category_id": 9}]}, "category_id 9"),
    ({"annotations": [{"image_id": 1, "category_id": 3, "bbox": [1, 2, -3, 4]}]}, "bbox"),
    ({"annotations": [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 2}]}, "iscrowd")])
def test_broken_annotations_are_named(tmp_path, change, message):
    value = {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 3, "name": "x"}], **change}
    (tmp_path / "det.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match=message) as caught:
        read_truth(tmp_path / "det.json")
    assert "det.json" in str(caught.value)


def test_truth_of_a_sample():
    meta = TaskMeta("det", "track1", [ClassInfo(3, "x")], {})
    label = {"image_id": 8, "file_name": "a.jpg", "width": 9, "height": 9,
             "annotations": [{"bbox": [1, 2, 3, 4], "category_id": 3, "iscrowd": 1, "area": 7}]}
    item = truth_of(RawSample("a.jpg", {"jpg": b"", "json": json.dumps(label).encode()}), meta)
    assert (item.image_id, item.areas.tolist(), item.is_crowd.tolist()) == (8, [7.0], [True])
    label["annotations"][0]["category_id"] = 4
    for members in ({"json": json.dumps(label).encode()}, {"json": b'{"image_id": 8}'}, {}):
        with pytest.raises(UserError):
            truth_of(RawSample("a.jpg", members), meta)

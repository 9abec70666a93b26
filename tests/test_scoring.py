"""The figures of a submission: which images and tasks count, what is warned of, one score for both forms."""

import json

import numpy as np
import pytest
from PIL import Image

from ufo_ds.data.schema import ClassInfo, TaskMeta
from ufo_ds.errors import UserError
from ufo_ds.scoring import SCORE_KEYS, SECTIONS, format_scores, score_submission
from ufo_ds.submission import mask_to_polygons, write_submission
from ufo_ds.tasks import get_task

BOX = {"image_id": 1, "category_id": 7, "bbox": [10.0, 10.0, 20.0, 20.0], "score": 0.9}


@pytest.fixture
def truths(tmp_path):
    """Ground truth of 4 + 3 + 2 images."""
    (tmp_path / "cls.txt").write_text("".join(f"{i}.jpg {i}\n" for i in range(4)))
    boxes = [{"id": i, "image_id": i, "category_id": 7, "bbox": BOX["bbox"]} for i in (1, 2)]
    (tmp_path / "det.json").write_text(json.dumps({
        "images": [{"id": i} for i in (1, 2, 3)], "annotations": boxes,
        "categories": [{"id": 7, "name": "stop"}]}))
    (tmp_path / "seg").mkdir()
    for name, mask in masks().items():
        Image.fromarray(mask).save(tmp_path / "seg" / f"{name}.png")
    return {"cls": tmp_path / "cls.txt", "det": tmp_path / "det.json", "seg": tmp_path / "seg"}


def masks():
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 3, size).astype(np.uint8) for name, size in (("a", (8, 9)), ("b", (5, 4)))}


def right():
    return {"cls": {f"{i}.jpg": i for i in range(4)}, "dec": [{**BOX, "image_id": i} for i in (1, 2)],
            "seg": {f"{name}.png": mask_to_polygons(mask) for name, mask in masks().items()}}


@pytest.fixture
def score(tmp_path, truths):
    def run(sections, tasks=("cls", "det", "seg"), as_objects=False):
        path = tmp_path / "submission.json"
        write_submission(path, sections, as_objects)
        return score_submission(path, {name: truths[name] for name in tasks}, seg_classes=4)

    return run


def test_a_perfect_submission_in_both_forms(score):
    scores = score(right())
    assert scores.as_json() == score(right(), as_objects=True).as_json()
    value = scores.as_json()
    expected = {"top1": 1, "top1_all": 1, "mAP50": 1, "mAP": 1, "mIoU": 0.75, "mIoU_present": 1,
                "average": (1 + 1 + 0.75) / 3}
    assert {key: value[key] for key in expected} == pytest.approx(expected)
    assert value["tasks"] == ["cls", "det", "seg"] and not any(value["warnings"].values())
    assert value["counts"]["det"] == {"images": 3, "submitted": 2, "scored": 3, "missing": 0, "unknown": 0}


def test_official_top1_forgives_omissions_and_top1_all_does_not(score):
    scores = score({"cls": {"0.jpg": 0, "1.jpg": 0, "new.jpg": 1, "other.jpg": 2}}, ["cls"])
    task = scores.tasks["cls"]
    assert task.figures == {"top1": 0.5, "top1_all": 0.25}
    assert task.counts == {"images": 4, "submitted": 4, "scored": 2, "missing": 2, "unknown": 2}
    assert "2 submitted images are not in the ground truth" in task.warnings[0]
    assert "new.jpg, other.jpg" in task.warnings[0]
    assert "2 of 4 images are missing" in task.warnings[1]


def test_boxes_are_scored_over_all_images(score):
    scores = score({"dec": [BOX, {**BOX, "category_id": 8}, {**BOX, "image_id": 77}]}, ["det"])
    task = scores.tasks["det"]
    assert task.figures["mAP50"] == pytest.approx(51 / 101)
    assert task.counts == {"images": 3, "submitted": 2, "scored": 3, "missing": 1, "unknown": 1}
    wanted = ("77", "1 of 3 images are missing", "1 of 3 boxes")
    for warning, words in zip(task.warnings, wanted, strict=True):
        assert words in warning


def test_masks_are_scored_where_submitted(score):
    sections = {"seg": {"a.jpg": right()["seg"]["a.png"], "x.png": {}}}
    task = score(sections, ["seg"]).tasks["seg"]
    assert task.figures["mIoU_present"] == 1
    assert task.counts == {"images": 2, "submitted": 2, "scored": 1, "missing": 1, "unknown": 1}
    assert len(task.warnings) == 3 and "a.jpg" in task.warnings[1]


def test_average_is_over_the_tasks_scored(score):
    scores = score(right(), ["det", "seg"])
    assert scores.average == pytest.approx((1 + 0.75) / 2)
    assert scores.as_json()["top1"] is None
    assert "over det, seg; not scored: cls (no ground truth given)" in format_scores(scores)


@pytest.mark.parametrize("empty", [{}, {"cls": {}, "dec": [], "seg": []}])
def test_an_absent_section_scores_zero(score, empty):
    sections = empty or {"cls": right()["cls"]}
    scores = score(sections)
    for name in {"cls", "det", "seg"} - (set() if empty else {"cls"}):
        assert set(scores.tasks[name].figures.values()) == {0.0}
        assert "scores 0" in scores.tasks[name].warnings[0]
    assert scores.average == pytest.approx(0 if empty else 1 / 3)


def test_another_splits_ground_truth_is_an_error(score):
    for task, sections in {"cls": {"cls": {"z.jpg": 1}}, "det": {"dec": [{**BOX, "image_id": 9}]},
                           "seg": {"seg": {"z.png": {}}}}.items():
        with pytest.raises(UserError, match="none of its images"):
            score(sections, [task])


@pytest.mark.parametrize("name", SECTIONS)
def test_sections_and_figures_are_those_of_the_task(name):
    task = get_task(name)
    assert (task.name, task.section, task.score_key) == (name, SECTIONS[name], SCORE_KEYS[name])
    meta = TaskMeta(name, "toy", [ClassInfo(i, f"class {i}") for i in range(4)], {})
    assert task.score_key in task.metric(meta).compute()


def test_table_with_classes(score):
    text = format_scores(score(right()), per_class=True)
    assert "det   mAP50         1.0000  3       3" in text
    assert "7    1.0000  stop" in text and "average" in text
    assert max(map(len, text.splitlines())) < 80


def test_real_labels_as_predictions_score_one(tmp_path, real_data):
    from ufo_ds.tasks.segmentation.score import MaskPrediction, read_truth, write_section

    labels = real_data / "track1_mini" / "track1_train_data" / "seg" / "label" / "val"
    truth = read_truth(labels)
    few = [MaskPrediction(stem, truth[stem]) for stem in list(truth)[:10]]
    write_submission(tmp_path / "s.json", {"seg": write_section(few)})
    figures = score_submission(tmp_path / "s.json", {"seg": labels}).tasks["seg"].figures
    assert figures["mIoU_present"] == 1 and figures["mIoU"] < 1


@pytest.mark.multiprocess
def test_the_figures_do_not_depend_on_the_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("ufo_ds.scoring._BYTES_A_WORKER", 1)
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 5, (40, 30, 50)).astype(np.uint8)
    (tmp_path / "seg").mkdir()
    for number, mask in enumerate(masks[:38]):
        label = np.where(rng.random(mask.shape) < 0.3, 255, np.roll(mask, 1))
        Image.fromarray(label.astype(np.uint8)).save(tmp_path / "seg" / f"{number}.png")
    polygons = {f"{number}.png": mask_to_polygons(mask) for number, mask in enumerate(masks)}
    write_submission(tmp_path / "s.json", {"seg": polygons})
    # With a whole number written as a float, the file is read the thorough way.
    text = (tmp_path / "s.json").read_text()
    (tmp_path / "odd.json").write_text(text[::-1].replace("]]]", "]]]0.", 1)[::-1])
    scores = [score_submission(tmp_path / name, {"seg": tmp_path / "seg"}, 5, workers).as_json()
              for name in ("s.json", "odd.json") for workers in (1, 2, 3)]
    assert 0 < scores[0]["mIoU"] < 1 and scores[0]["counts"]["seg"]["unknown"] == 2
    assert all(item == scores[0] for item in scores)
    write_submission(tmp_path / "s.json", {"seg": {**polygons, "39.png": {"1": [[[1, 1]], [[0, 0]]]}}})
    (tmp_path / "bad.json").write_text((tmp_path / "s.json").read_text().replace("[[1,1]]", "[[1]]"))
    with pytest.raises(UserError, match=r"entry '39\.png', class '1': \[\[1\]\] is no contour"):
        score_submission(tmp_path / "bad.json", {"seg": tmp_path / "seg"}, 5, 2)
    (tmp_path / "seg" / "20.png").write_bytes(b"")
    for workers in (1, 2):
        with pytest.raises(UserError, match=r"20\.png: .*mend"):
            score_submission(tmp_path / "odd.json", {"seg": tmp_path / "seg"}, 5, workers)

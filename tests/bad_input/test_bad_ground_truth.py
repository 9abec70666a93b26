"""Ground truth of the three tasks, broken; and the scorer's command line over it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from refusals import FILES, HUGE, JSON, make_folder, nested, parametrized, put, refusal
from small_download import jpeg, png

from ufo_ds.scoring import score_submission

SUBMISSION = {
    "cls": {"a.jpg": 1, "b.jpg": 0},
    "dec": [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}],
    "seg": {"a.png": {"1": [[[0, 0], [3, 0], [3, 3]]]}},
}
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
    "annotations": [{"id": 5, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 0, "area": 12}],
    "categories": [{"id": 3, "name": "x"}, {"id": 4, "name": "y"}],
}


@pytest.fixture
def truth(tmp_path):
    """A submission with ground truth in one folder."""
    (tmp_path / "submission.json").write_text(json.dumps(SUBMISSION))
    (tmp_path / "cls.txt").write_text("a.jpg 1\nb.jpg 0\n")
    (tmp_path / "det.json").write_text(json.dumps(COCO))
    (tmp_path / "seg").mkdir()
    for name in "ab":
        (tmp_path / f"seg/{name}.png").write_bytes(png(np.ones((4, 4), np.uint8)))
    return tmp_path


def score(folder, *tasks):
    names = {"cls": "cls.txt", "det": "det.json", "seg": "seg"}
    return score_submission(folder / "submission.json", {name: folder / names[name] for name in tasks or names})


def test_the_sound_ground_truth_is_scored(truth):
    assert score(truth).as_json()["top1"] == 1


LINES = {
    "no label": ("a.jpg\n", "line 1: 'a.jpg' is not '<file name> <class id>'"),
    "comma": ("a.jpg,1\n", "line 1: 'a.jpg,1' is not"),
    "other way round": ("1 a.jpg\n", "line 1: 'a.jpg' is no class id"),
    "label text": ("a.jpg 1\nb.jpg car\n", "line 2: 'car' is no class id"),
    "label negative": ("a.jpg -1\n", "line 1: '-1' is no class id"),
    "label float": ("a.jpg 1.0\n", "line 1: '1.0' is no class id"),
    "label NaN": ("a.jpg nan\n", "line 1: 'nan' is no class id"),
    "label underscored": ("a.jpg 1_0\n", "line 1: '1_0' is no class id"),
    "label in other digits": ("a.jpg \u0661\n", "is no class id"),
    "label raised": ("a.jpg \u00b2\n", "is no class id"),
    "label huge": (f"a.jpg {HUGE}\n", "line 1: '9999"),
    "label alone": (" 1\n", "line 1: '1' is not"),
    "label of NUL": ("a.jpg 1\0\n", "is no class id"),
    "twice": ("a.jpg 1\n\na.jpg 2\n", "line 3: 'a.jpg' has stood before with class 1"),
    "blank": ("\n \n\t\n", "holds no label"),
    "long line": ("x" * 10**6 + "\n", "is not '<file name> <class id>'"),
    "JSON": ('{"a.jpg":1}\n', "is not '<file name>"),
    "of another split": ("z.jpg 1\n", "none of its images (a.jpg, b.jpg) is in"),
}


@parametrized(LINES)
def test_a_broken_list_of_labels_is_named(truth, case):
    text, fragment = case
    (truth / "cls.txt").write_text(text)
    refusal(lambda: score(truth, "cls"), truth, str(truth / "cls.txt"), fragment)


def test_absurd_names_in_the_list_are_no_mistake(truth):
    (truth / "cls.txt").write_text("\ufeffa.jpg 1\r\nb.jpg\t0\r\nwith blank.jpg 3\n../climbs.jpg 4")
    assert score(truth, "cls").tasks["cls"].counts["images"] == 4


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_list_is_named(truth, name):
    FILES[name](truth / "cls.txt")
    refusal(lambda: score(truth, "cls"), truth, str(truth / "cls.txt"))


def part(key, number, **change):
    """A change of one entry of a list of the COCO file."""
    return {key: [{**item, **(change if i == number else {})} for i, item in enumerate(COCO[key])]}


def without(key, number, name):
    return {key: [{k: v for k, v in item.items() if i != number or k != name} for i, item in enumerate(COCO[key])]}


def annotation(**change):
    return part("annotations", 0, **change)


ENTRIES = {
    "images null": ({"images": None}, "is no COCO file"),
    "images an object": ({"images": {"1": {}}}, "is no COCO file"),
    "images empty": ({"images": []}, "lists no image"),
    "annotations null": ({"annotations": None}, "is no COCO file"),
    "annotations text": ({"annotations": "x"}, "is no COCO file"),
    "image a number": ({"images": [1]}, "images[0] has no integer id"),
    "image without id": (without("images", 1, "id"), "images[1] has no integer id"),
    "image id text": (part("images", 1, id="2"), "images[1] has no integer id"),
    "image id float": (part("images", 1, id=2.0), "images[1] has no integer id"),
    "image id true": (part("images", 1, id=True), "images[1] has no integer id"),
    "image id huge": (part("images", 1, id=10**30), "images[1] has no integer id"),
    "image id a list": (part("images", 1, id=[2]), "images[1] has no integer id"),
    "image id twice": (part("images", 1, id=1), "images[1] has no integer id of its own"),
    "categories text": ({"categories": "x"}, "categories are no objects"),
    "categories of numbers": ({"categories": [3]}, "categories are no objects"),
    "category id null": (part("categories", 0, id=None), "categories are no objects"),
    "category id huge": (part("categories", 0, id=10**30), "categories are no objects"),
    "category name a list": (part("categories", 0, name=[1]), "objects with an integer id and a name"),
    "category name deep": (part("categories", 0, name=json.loads(nested(900))), "categories are no objects"),
    "category twice": (part("categories", 0, id=4), "categories have an id twice"),
    "annotation null": ({"annotations": [None]}, "annotations[0] is no object"),
    "annotation a list": ({"annotations": [[1, 2]]}, "annotations[0] is no object"),
    "no image": (without("annotations", 0, "image_id"), "annotations[0] has image_id None"),
    "image unknown": (annotation(image_id=9), "annotations[0] has image_id 9, which the file does not list"),
    "image text": (annotation(image_id="1"), "annotations[0] has image_id '1'"),
    "image a list": (annotation(image_id=[1]), "annotations[0] has image_id [1]"),
    "no category": (without("annotations", 0, "category_id"), "annotations[0] has category_id None"),
    "category unknown": (annotation(category_id=9), "annotations[0] has category_id 9"),
    "category true": (annotation(category_id=True), "annotations[0] has category_id True"),
    "no box": (without("annotations", 0, "bbox"), "annotations[0] has the bbox None"),
    "box of corners and more": (annotation(bbox=[1, 2, 3, 4, 5]), "annotations[0] has the bbox"),
    "box text": (annotation(bbox="1,2,3,4"), "annotations[0] has the bbox '1,2,3,4'"),
    "box negative": (annotation(bbox=[5, 5, -1, 2]), "annotations[0] has the bbox [5, 5, -1, 2]"),
    "box absurd": (annotation(bbox=[0, 0, 1e308, 1e308]), "annotations[0] has the bbox [0, 0, 1e+308"),
    "box NaN": (annotation(bbox=[float("nan"), 0, 1, 1]), "NaN is no JSON number"),
    "area text": (annotation(area="12"), "annotations[0] has the area '12'"),
    "area negative": (annotation(area=-12), "annotations[0] has the area -12"),
    "area NaN": (annotation(area=float("nan")), "NaN is no JSON number"),
    "crowd text": (annotation(iscrowd="0"), "annotations[0] has iscrowd '0'"),
    "crowd two": (annotation(iscrowd=2), "annotations[0] has iscrowd 2"),
    "of another split": ({"images": [{"id": 77}], "annotations": []}, "none of its images (1) is in"),
}


@parametrized(ENTRIES)
def test_a_broken_annotation_file_is_named(truth, case):
    change, fragment = case
    (truth / "det.json").write_text(json.dumps({**COCO, **change}))
    refusal(lambda: score(truth, "det"), truth, str(truth / "det.json"), fragment)


@pytest.mark.parametrize("name", JSON)
def test_a_file_that_is_no_coco_is_named(truth, name):
    JSON[name](truth / "det.json")
    refusal(lambda: score(truth, "det"), truth, str(truth / "det.json"), ";")


def only_text(folder):
    for path in folder.iterdir():
        path.rename(path.with_suffix(".txt"))


MASKS = {
    "empty": (lambda folder: put(b"")(folder / "a.png"), "a.png: the mask is not a PNG"),
    "cut": (lambda folder: put(png(np.eye(99, dtype=np.uint8))[:-40])(folder / "a.png"), "a.png: the mask cannot be"),
    "JPEG": (lambda folder: put(jpeg(1))(folder / "a.png"), "a.png: the mask is not a PNG"),
    "colour": (lambda folder: put(png(np.zeros((4, 4, 3), np.uint8)))(folder / "a.png"), "of one 8-bit channel"),
    "16 bits": (lambda folder: put(png(np.zeros((4, 4), np.uint16)))(folder / "a.png"), "of one 8-bit channel"),
    "undeclared class": (lambda folder: put(png(np.full((4, 4), 19, np.uint8)))(folder / "a.png"), "class id 19, but"),
    "folder": (lambda folder: make_folder(folder / "a.png"), "a.png: cannot be read (Is a directory)"),
    "link to itself": (lambda folder: ((folder / "a.png").unlink(), (folder / "a.png").symlink_to(folder / "a.png")),
                       "a.png: cannot be read (Too many levels"),
    "two spellings": (lambda folder: put(png(np.zeros((4, 4), np.uint8)))(folder / "a.PNG"), "stands beside a.PNG"),
    "no PNG": (only_text, "holds no PNG"),
    "of another split": (lambda folder: (folder / "a.png").unlink(), "none of its images (a) is in"),
    "a file": (lambda folder: (only_text(folder), folder.rename(folder.with_name("x")), folder.write_bytes(b"")),
               "is no folder that can be read (Not a directory)"),
    "absent": (lambda folder: folder.rename(folder.with_name("x")), "is no folder that can be read (No such file"),
}  # fmt: skip


@parametrized(MASKS)
def test_broken_masks_are_named(truth, case):
    spoil, fragment = case
    spoil(truth / "seg")
    refusal(lambda: score(truth, "seg"), truth, fragment)


@pytest.mark.parametrize("spoiled", ["submission.json", "cls.txt", "det.json"])
def test_the_command_line_ends_with_one_line_and_status_2(truth, spoiled):
    (truth / spoiled).write_text('{"cls": [[[[')
    program = Path(__file__).resolve().parents[2] / "launch/evaluate.py"
    arguments = ["--cls-gt", truth / "cls.txt", "--det-gt", truth / "det.json", "--json", truth / "scores.json"]
    ended = subprocess.run([sys.executable, program, truth / "submission.json", *arguments], capture_output=True,
                           text=True, check=False, env={**os.environ, "RANK": "0"})  # fmt: skip
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith(f"error: {truth / spoiled}: ") and ended.stderr.count("\n") == 1
    assert not (truth / "scores.json").exists()

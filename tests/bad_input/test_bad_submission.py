"""Submissions in both forms, broken field by field."""

import json

import pytest
from refusals import HUGE, JSON, nested, parametrized, refusal

from ufo_ds.errors import UserError
from ufo_ds.submission import read_submission, write_submission

SOUND = {
    "cls": [{"a.jpg": 1}, {"b.jpg": 0}],
    "dec": [{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}],
    "seg": [{"a.png": {"0": [[[0, 0], [9, 0], [9, 9]]], "1": []}}],
}


def text(**sections):
    return json.dumps({**SOUND, **sections})


def box(**change):
    return text(dec=[SOUND["dec"][0], {**SOUND["dec"][0], **change}])


def without(key):
    return text(dec=[{name: value for name, value in SOUND["dec"][0].items() if name != key}])


def label(spelled):
    """A class id as it is spelled in the file, which JSON's own writer would not write."""
    return f'{{"cls": {{"a.jpg": {spelled}}}}}'


def contours(value):
    return text(seg=[{"a.png": {"1": value}}])


CASES = {
    "section unknown": (text(classification=[]), "unknown section 'classification'"),
    "section det": (text(det=[]), "called dec there"),
    "section empty name": (text(**{"": []}), "unknown section ''"),
    "cls null": (text(cls=None), "section 'cls' is null"),
    "cls text": (text(cls="a.jpg 1"), "section 'cls' is a string"),
    "cls of lists": (text(cls=[["a.jpg", 1]]), "section 'cls', entry 0: is a list"),
    "cls of empty objects": (text(cls=[{}]), "section 'cls', entry 0: is an object of 0 keys"),
    "cls two images an entry": (text(cls=[{"a": 1, "b": 2}]), "entry 0: is an object of 2 keys"),
    "cls twice": (text(cls=[{"a": 1}, {"a": 2}]), "entry 1: 'a' has stood before"),
    "cls twice in an object": ('{"cls": {"a": 1, "a": 2}}', "key 'a' stands twice"),
    "cls section twice": ('{"cls": {"a": 1}, "cls": {"a": 2}}', "key 'cls' stands twice"),
    "cls twice and deep": (f'{{"cls": [{{"a": {nested(900)}}}, {{"a": {nested(900, "2")}}}]}}', "entry 1: 'a' has"),
    "cls no name": (text(cls={"": 1}), "the image has an empty name"),
    "label text": (label('"1"'), "'a.jpg': '1' is no class id"),
    "label float": (label("1.0"), "1.0 is no class id"),
    "label exponent": (label("1e0"), "1.0 is no class id"),
    "label true": (label("true"), "True is no class id"),
    "label null": (label("null"), "None is no class id"),
    "label list": (label("[1]"), "[1] is no class id"),
    "label deep": (label(nested(900)), "is no class id"),
    "label NaN": (label("NaN"), "NaN is no JSON number"),
    "label -Infinity": (label("-Infinity"), "-Infinity is no JSON number"),
    "label beyond 64 bits": (label(str(2**63)), "is no class id"),
    "label of thousands of digits": (label(HUGE), "not valid JSON"),
    "label leading zero": (label("01"), "not valid JSON"),
    "label hexadecimal": (label("0x1"), "not valid JSON"),
    "single quotes": ("{'cls': {'a.jpg': 1}}", "not valid JSON"),
    "trailing comma": ('{"cls": {"a.jpg": 1,}}', "not valid JSON"),
    "comment": ('{"cls": {} /* none */}', "not valid JSON"),
    "control sign in a name": ('{"cls": {"a\n.jpg": 1}}', "not valid JSON"),
    "two objects": ('{"cls": {}}{"dec": []}', "not valid JSON"),
    "lines of objects": ('{"cls": {}}\n{"dec": []}', "not valid JSON"),
    "dec an object": (text(dec={"1": []}), "section 'dec' is an object"),
    "dec null": (text(dec=None), "section 'dec' is null"),
    "box a list": (text(dec=[[1, 2, 3, 4]]), "section 'dec', entry 0: is a list"),
    "box without image": (without("image_id"), "entry 0: has no image_id"),
    "box without category": (without("category_id"), "entry 0: has no category_id"),
    "box without bbox": (without("bbox"), "entry 0: has no bbox"),
    "box without score": (without("score"), "entry 0: has no score"),
    "image id a name": (box(image_id="a.jpg"), "entry 1: image_id is 'a.jpg', no integer"),
    "image id float": (box(image_id=1.0), "entry 1: image_id is 1.0, no integer"),
    "image id huge": (box(image_id=10**30), "entry 1: image_id is 1000"),
    "category null": (box(category_id=None), "entry 1: category_id is None"),
    "category true": (box(category_id=True), "entry 1: category_id is True"),
    "bbox null": (box(bbox=None), "entry 1: bbox None is not four finite numbers"),
    "bbox three": (box(bbox=[1, 2, 3]), "bbox [1, 2, 3] is not four"),
    "bbox five": (box(bbox=[1, 2, 3, 4, 5]), "is not four finite numbers"),
    "bbox text": (box(bbox="1 2 3 4"), "bbox '1 2 3 4' is not four"),
    "bbox object": (box(bbox={"x": 1}), "is not four finite numbers"),
    "bbox nested": (box(bbox=[[1, 2], [3, 4]]), "is not four finite numbers"),
    "bbox deep": (box(bbox=json.loads(nested(900))), "is not four finite numbers"),
    "bbox of true": (box(bbox=[True, 2, 3, 4]), "is not four finite numbers"),
    "bbox of null": (box(bbox=[1, None, 3, 4]), "is not four finite numbers"),
    "bbox negative width": (box(bbox=[1, 2, -3, 4]), "width and height of at least 0"),
    "bbox negative height": (box(bbox=[1, 2, 3, -0.001]), "width and height of at least 0"),
    "bbox overflows": (text().replace("[1, 2, 3, 4]", "[1, 2, 1e999, 4]"), "bbox [1, 2, inf, 4] is not four finite"),
    "bbox absurd": (box(bbox=[1e300, 0, 1e300, 1e300]), "bbox [1e+300"),
    "bbox of huge integers": (box(bbox=[0, 0, 10**400, 1]), "is not four finite numbers"),
    "score text": (box(score="0.5"), "score '0.5' is no finite number"),
    "score null": (box(score=None), "score None is no finite number"),
    "score true": (box(score=True), "score True is no finite number"),
    "score NaN": (box(score=float("nan")), "NaN is no JSON number"),
    "score overflows": (text().replace("0.5", "-1e999"), "score -inf is no finite number"),
    "seg null": (text(seg=None), "section 'seg' is null"),
    "seg text": (text(seg=["a.png"]), "section 'seg', entry 0: is a string"),
    "image a list": (text(seg=[{"a.png": [[[0, 0]]]}]), "entry 'a.png': is a list"),
    "image twice": (text(seg=[{"a.png": {}}, {"a.png": {"1": []}}]), "entry 1: 'a.png' has stood before"),
    "class a name": (text(seg={"a.png": {"road": []}}), "'road' is no class id"),
    "class negative": (text(seg={"a.png": {"-1": []}}), "'-1' is no class id"),
    "class 256": (text(seg={"a.png": {"256": []}}), "'256' is no class id"),
    "class 1.0": (text(seg={"a.png": {"1.0": []}}), "'1.0' is no class id"),
    "class in other digits": (text(seg={"a.png": {"\u0661": []}}), "is no class id"),
    "class of thousands of digits": (text(seg={"a.png": {HUGE: []}}), "is no class id"),
    "contours null": (contours(None), "class '1' is null"),
    "contours an object": (contours({"x": 1}), "class '1' is an object"),
    "contour a number": (contours([1]), "is no contour"),
    "contour a text": (contours(["0 0 1 1"]), "is no contour"),
    "contour null": (contours([None]), "is no contour"),
    "contour of numbers": (contours([[0, 0, 9, 0, 9, 9]]), "is no contour"),
    "contour too deep by one": (contours([[[[0, 0]]]]), "is no contour"),
    "contour deep": (contours([json.loads(nested(900))]), "is no contour"),
    "contour ragged": (contours([[[0, 0], [1]]]), "is no contour"),
    "point of three": (contours([[[0, 0, 0]]]), "is no contour"),
    "point empty": (contours([[[], []]]), "is no contour"),
    "point of text": (contours([[["0", "0"]]]), "is no contour"),
    "point of null": (contours([[[None, 0]]]), "is no contour"),
    "point of true": (contours([[[True, False]]]), "is no contour"),
    "point of halves": (contours([[[0.5, 1]]]), "is no contour"),
    "point NaN": (contours([[[float("nan"), 1]]]), "NaN is no JSON number"),
    "point overflows": (contours([[[7, 1]]]).replace("7", "1e999"), "a coordinate beyond 32767"),
    "point far": (contours([[[0, 32768]]]), "a coordinate beyond 32767"),
    "point far left": (contours([[[-32768, 0]]]), "a coordinate beyond 32767"),
    "point beyond 64 bits": (contours([[[2**63, 0]]]), "a coordinate beyond 32767"),
    "point huge": (contours([[[10**400, 0]]]), "is no contour"),
    "lone surrogate": (text(cls={"\ud800.jpg": "x"}), "is no class id"),
    "long name": (text(cls={"x" * 10**6: "x"}), "is no class id"),
}  # fmt: skip


@parametrized(CASES)
def test_a_mistake_is_named(tmp_path, case):
    content, fragment = case
    path = tmp_path / "submission.json"
    path.write_text(content)
    refusal(lambda: read_submission(path), tmp_path, str(path), fragment)


@parametrized(JSON)
def test_a_file_that_is_no_submission_is_named(tmp_path, case):
    path = tmp_path / "submission.json"
    path.write_text(text())
    case(path)
    refusal(lambda: read_submission(path), tmp_path, str(path), ";")


def test_the_sound_one_is_read_in_both_forms_with_or_without_a_mark(tmp_path):
    objects = {"cls": {"a.jpg": 1, "b.jpg": 0}, "dec": SOUND["dec"], "seg": SOUND["seg"][0]}
    for number, value in enumerate((SOUND, objects)):
        for mark in ("", "\ufeff"):
            (tmp_path / f"{number}.json").write_text(mark + json.dumps(value))
            assert read_submission(tmp_path / f"{number}.json")["cls"] == objects["cls"]


@pytest.mark.parametrize("place", ["folder", "file/below.json", "x" * 300])
def test_a_place_that_cannot_be_written_is_refused(tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        write_submission(tmp_path / place, SOUND)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]

"""The submission file: one content in both forms, written whole or not at all, mistakes named."""

import contextlib
import errno
import json
import os
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ufo_ds.errors import UserError
from ufo_ds.polygons import encode_mask
from ufo_ds.submission import mask_to_polygons, polygons_to_mask, read_submission, write_submission

masks = hnp.arrays(np.uint8, (5, 7), elements=st.sampled_from([0, 1, 2, 255]))
names = st.text(min_size=1, max_size=12)
labels = st.dictionaries(names, st.integers(0, 500), max_size=5)
finite = st.floats(-1e4, 1e4)
boxes = st.fixed_dictionaries({
    "image_id": st.integers(0, 2**40), "category_id": st.integers(0, 90),
    "bbox": st.tuples(finite, finite, st.floats(0, 1e4), st.floats(0, 1e4)).map(list),
    "score": st.floats(0, 1)})
sections_of_any_kind = st.fixed_dictionaries({}, optional={
    "cls": labels, "dec": st.lists(boxes, max_size=5),
    "seg": st.dictionaries(names, masks.map(mask_to_polygons), max_size=2)}).filter(bool)


@settings(max_examples=60, deadline=None)
@given(sections_of_any_kind)
def test_both_forms_read_back_the_same(tmp_path_factory, sections):
    folder = tmp_path_factory.mktemp("forms")
    for as_objects in (False, True):
        write_submission(folder / "a.json", sections, as_objects)
        assert read_submission(folder / "a.json") == sections
        value = json.loads((folder / "a.json").read_text())
        for name in {"cls", "seg"} & set(value):
            assert isinstance(value[name], dict if as_objects else list)
            assert as_objects or all(len(entry) == 1 for entry in value[name])
        write_submission(folder / "b.json", value, as_objects)
        assert (folder / "a.json").read_bytes() == (folder / "b.json").read_bytes()


def test_writing_is_all_or_nothing(tmp_path):
    path = tmp_path / "new" / "submission.json"
    write_submission(path, {"cls": {"a.jpg": 1}})
    with pytest.raises(UserError, match="category_id"):
        write_submission(path, {"dec": [{"image_id": 1}], "cls": {"a.jpg": 2}})
    with pytest.raises(UserError, match="'det'"):
        write_submission(path, {"det": []})
    assert read_submission(path) == {"cls": {"a.jpg": 1}}
    assert [item.name for item in path.parent.iterdir()] == ["submission.json"]
    for blocked in (tmp_path / "new", path / "below a file.json", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match="cannot be written"):
            write_submission(blocked, {"cls": {}})


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "submission.json"
    write_submission(path, {"cls": {"a.jpg": 1}})

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_submission(path, {"cls": {"a.jpg": 2}})
    assert read_submission(path) == {"cls": {"a.jpg": 1}}
    assert [item.name for item in tmp_path.iterdir()] == ["submission.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "submission.json"
    write_submission(path, {"cls": {"a.jpg": 1}})

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); make room"):
        write_submission(path, {"cls": {"a.jpg": 2}})
    assert read_submission(path) == {"cls": {"a.jpg": 1}}
    assert [item.name for item in tmp_path.iterdir()] == ["submission.json"]


def test_many_boxes_and_odd_values_are_written_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    boxes = [{"image_id": number, "category_id": 1, "bbox": box, "score": score}
             for number, (*box, score) in enumerate(np.exp(rng.normal(0, 4, (10_000, 5))).tolist())]
    boxes[5000].update(score=np.float64(0.1), more="\ud800")  # NumPy's, and half a pair of surrogates
    names = {"\ud800\n\"\u00e4": 3, "x" * 10_000: 2**62}
    for as_objects in (False, True):
        write_submission(tmp_path / "s.json", {"dec": boxes, "cls": names}, as_objects)
        assert read_submission(tmp_path / "s.json") == {"cls": names, "dec": boxes}
        assert (tmp_path / "s.json").read_bytes().isascii()


@pytest.mark.parametrize("as_objects", [False, True])
def test_masks_that_are_text_already_give_the_same_file(tmp_path, as_objects):
    found = {f"{seed}.png": np.random.default_rng(seed).integers(0, 9, (20, 30), np.uint8) for seed in (1, 2)}
    lists = {name: mask_to_polygons(mask) for name, mask in found.items()}
    texts = {name: msgspec.Raw(encode_mask(mask)) for name, mask in found.items()}
    write_submission(tmp_path / "lists.json", {"seg": lists}, as_objects)
    write_submission(tmp_path / "texts.json", {"seg": [{name: text} for name, text in texts.items()]}, as_objects)
    assert (tmp_path / "lists.json").read_bytes() == (tmp_path / "texts.json").read_bytes()
    with pytest.raises(UserError, match="has stood before"):
        write_submission(tmp_path / "x.json", {"seg": [{"a": texts["1.png"]}, {"a": texts["2.png"]}]})


@settings(max_examples=30, deadline=None)
@given(masks)
def test_masks_survive_the_file(tmp_path_factory, mask):
    path = tmp_path_factory.mktemp("masks") / "submission.json"
    write_submission(path, {"seg": {"a.png": mask_to_polygons(mask)}})
    assert np.array_equal(polygons_to_mask(read_submission(path)["seg"]["a.png"], mask.shape), mask)


BOX = '{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}'
MISTAKES = {
    "": "not valid JSON",
    '{"cls": [': "not valid JSON",
    "[]": "is a list",
    "{}": "no section",
    '{"det": []}': "called dec",
    '{"cls": 3}': "section 'cls' is a number",
    '{"cls": [{"a.jpg": 1, "b.jpg": 2}]}': "entry 0: is an object of 2 keys",
    '{"cls": [{"a.jpg": 1}, "b"]}': "entry 1: is a string",
    '{"cls": [{"a.jpg": "x"}]}': "'a.jpg': 'x' is no class id",
    '{"cls": {"a.jpg": true}}': "True is no class id",
    '{"cls": {"a.jpg": 1.5}}': "1.5 is no class id",
    '{"cls": {"": 1}}': "empty name",
    '{"cls": [{"a.jpg": 1}, {"a.jpg": 2}]}': "entry 1: 'a.jpg' has stood before",
    '{"cls": {"a.jpg": 1, "a.jpg": 2}}': "'a.jpg' stands twice",
    '{"cls": {"a.jpg": NaN}}': "NaN is no JSON number",
    '{"cls": {"a.jpg": ' + "9" * 5000 + "}}": "not valid JSON",
    '{"cls": ' + "[" * 100000 + "]" * 100000 + "}": "nested far too deeply",
    '{"dec": {}}': "section 'dec' is an object",
    '{"dec": [' + BOX + ", 3]}": "entry 1: is a number",
    '{"dec": [' + BOX.replace("score", "conf") + "]}": "entry 0: has no score",
    '{"dec": [' + BOX.replace("0.5", "Infinity") + "]}": "Infinity is no JSON number",
    '{"dec": [' + BOX.replace("0.5", "1e999") + "]}": "score inf",
    '{"dec": [' + BOX.replace("0.5", "null") + "]}": "score None",
    '{"dec": [' + BOX.replace("3, 4", "-3, 4") + "]}": "bbox .* is not four finite",
    '{"dec": [' + BOX.replace(", 4]", "]") + "]}": "bbox",
    '{"dec": [' + BOX.replace('"image_id": 1', '"image_id": "1"') + "]}": "image_id is '1'",
    '{"seg": [{"a.png": []}]}': "'a.png': is a list",
    '{"seg": [{"a.png": {"road": []}}]}': "'road' is no class id",
    '{"seg": [{"a.png": {"1": 3}}]}': "class '1' is a number",
    '{"seg": [{"a.png": {"1": [[1, 2]]}}]}': "no contour",
    '{"seg": [{"a.png": {"1": [[[1, 2], [3]]]}}]}': "no contour",
    '{"seg": [{"a.png": {"1": [[[1, 2], ["x", 3]]]}}]}': "no contour",
    '{"seg": [{"a.png": {"1": [[[1, 99999]]]}}]}': "beyond 32767",
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.items(), ids=range(len(MISTAKES)))
def test_mistakes_are_named(tmp_path, text, message):
    path = tmp_path / "submission.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_submission(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_what_is_no_mistake(tmp_path):
    path = tmp_path / "submission.json"
    path.write_text('\ufeff{"cls": [{"a.jpg": 1}, {"a.jpg": 1}], "seg": {"a.png": {"1": [[], [[0, 0]]]}}}')
    assert read_submission(path)["cls"] == {"a.jpg": 1}
    with pytest.raises(UserError, match="cannot be read"):
        read_submission(tmp_path)
    (tmp_path / "latin").write_bytes(b'{"cls": {"\xe9.jpg": 1}}')
    with pytest.raises(UserError, match="not valid JSON"):
        read_submission(tmp_path / "latin")


def test_garbled_files_never_escape_as_another_exception(tmp_path):
    path = tmp_path / "submission.json"
    seg = {"a.png": mask_to_polygons(np.eye(5, dtype=np.uint8))}
    write_submission(path, {"cls": {"a.jpg": 1}, "dec": [json.loads(BOX)], "seg": seg})
    whole, chance = path.read_bytes(), random.Random(0)
    for _ in range(300):
        garbled = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            garbled[chance.randrange(len(garbled))] = chance.choice(b'{}[]",:0e-.n')
        path.write_bytes(garbled)
        with contextlib.suppress(UserError):
            read_submission(path)

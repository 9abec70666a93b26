"""The quick way into a submission accepts nothing that the thorough way refuses, and finds the same values."""

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from ufo_ds import scoring
from ufo_ds.errors import UserError
from ufo_ds.submission import mask_to_polygons
from ufo_ds.submission_pieces import DoubtError, parse_polygons

sys.path.insert(0, str(Path(__file__).parent / "bad_input"))

from test_bad_submission import CASES

TASKS = ("cls", "det", "seg")
SIZE = (12, 16)
BOXES = [{"image_id": 7, "category_id": 2, "bbox": [1, 2.5, 3e0, 4], "score": 0.5},
         {"score": 1, "image_id": 3, "bbox": [-1.25, 0, 0, 1e-3], "category_id": 1},
         {"image_id": 7, "category_id": 5, "bbox": [0.1, 0.2, 0.3, 0.4], "score": 1e-7}]
MASKS = {f"{seed}.png": mask_to_polygons(np.random.default_rng(seed).integers(0, 4, SIZE, np.uint8)) for seed in (1, 2)}
SOUND = {"cls": [{"a.jpg": 1}, {"b.jpg": 0}], "dec": BOXES, "seg": [{name: item} for name, item in MASKS.items()]}
FORMS = {
    "lists": json.dumps(SOUND),
    "objects": json.dumps({**SOUND, "cls": {"a.jpg": 1, "b.jpg": 0}, "seg": MASKS}, separators=(",", ":")),
    "lines": "\ufeff" + json.dumps(SOUND, indent=1),
    "names": json.dumps({"cls": {"\u00e4\u2713.jpg": 1}, "seg": {"\u00e4.png": MASKS["1.png"]}}),
    "raw names": json.dumps({"seg": {"\u00e4 \U0001f600": {}}}, ensure_ascii=False),
    "few": '{"seg": [{"a.png": {"1": [], "0": [[], [[0, 0]]]}}], "dec": []}',
    "none": '{"cls": [], "dec": [], "seg": {}}',
}


def plain(sections):
    """Predictions as values that can be compared; every mask painted."""
    values = {}
    for name, items in sections.items():
        values[name] = [(key, {"cls": lambda item: item.label,
                               "dec": lambda item: [item.image_id, item.boxes_xywh.reshape(-1, 4).tolist(),
                                                    item.category_ids.tolist(), item.scores.tolist()],
                               "seg": lambda item: [item.file_name, item.raster(SIZE).tolist()]}[name](item))
                        for key, item in items.items()]
    return values


def quickly(data):
    return plain(scoring._read_pieces(data, Path("s.json"), TASKS))


def thoroughly(data):
    return plain(scoring._read_whole(data, Path("s.json"), TASKS))


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_both_ways_find_the_same(text):
    assert quickly(text.encode()) == thoroughly(text.encode())


@pytest.mark.parametrize("text", [
    '{"cls": {}, "cls": {}}', '{"seg": [{"a.png": {}}, {"a.png": {}}]}',
    '{"dec": [{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5, "score": 0.5}]}',
    '{"dec": [{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5, "more": 1}]}',
    '{"seg": {"a.png": {"1": [], "1": []}}}', '{"seg": {"a.png": {"01": []}}}', '{"seg": {"a:b.png": {}}}',
    '{"seg": {"a.png": {"1": [[[-1, 0], [1, 0], [1, 1]]]}}}',
    '{"seg": {"a.png": {"1": [[[0.0, 0], [1, 0], [1, 1]]]}}}', '{"seg": {"a.png": {}, "a.jpg": {}}}',
])  # fmt: skip
def test_the_unusual_is_left_to_the_thorough_way(text):
    with pytest.raises(DoubtError):
        quickly(text.encode())
    thoroughly(text.encode())


@pytest.mark.parametrize("contours", [
    "3", "[3]", "[[3]]", "[[3],[4]]", "[[3,4]]", "[[[3]]]", "[[[3]],[[4]]]", "[[[3,4,5]]]", "[[[[3,4]]]]",
    "[[3,4],[[5,6]]]", "[[[3,4]],5]", "[[[3,4],5]]", "[[],5,[]]", "[[[3,4],[]]]", "[[[3,[4]]]]", "[[[32768,0]]]",
    "[[[100000,0]]]", '"[[[3,4]]]"', "[[[3,4]],null]", "[[[3,true]]]", '[[["3",4]]]', "{}", "[{}]", "[[[3,4e0]]]",
])  # fmt: skip
def test_only_lists_of_lists_of_points_pass(contours):
    with pytest.raises(DoubtError):
        quickly(f'{{"seg": {{"a.png": {{"1": {contours}}}}}}}'.encode())


@pytest.mark.parametrize("contours", ["[]", "[[]]", "[[],[]]", "[[[3,4]],[]]", "[[],[[3,4],[50,6],[7,8]]]",
                                      "[ [ [ 3 , 4 ]\n, [32767,11] ,[1,12345]] ]", "[[[1,2],[2,3],[4,5]],[[0,0]]]"])
def test_lists_of_lists_of_points_pass(contours):
    text = f'{{"seg": {{"a.png": {{"1": {contours}}}}}}}'.encode()
    assert quickly(text) == thoroughly(text)
    found = parse_polygons(f'{{"7": {contours}}}'.encode())[7]
    assert [contour.tolist() for contour in found] == json.loads(contours)


@pytest.mark.parametrize("text", [case[0] for case in CASES.values()], ids=list(CASES))
def test_no_mistake_passes(text):
    with pytest.raises((DoubtError, UserError)):
        quickly(text.encode())


def test_whatever_passes_is_sound():
    chance, passed = random.Random(0), 0
    boxes = json.dumps({"dec": BOXES})
    mask = json.dumps({"seg": [{"a.png": {"0": [], "1": [[[0, 1], [12, 3], [4, 15]]]}}]}, indent=1)
    texts = [text.encode() for text in (boxes, mask, *FORMS.values())]
    spoilers = [b"", b",", b":", b'"', b"[", b"]", b"{", b"}", b" ", b"0", b"-", b".", b"e9", b"\\", b"\xc3", b"n"]
    for _ in range(4000):
        garbled = bytearray(chance.choice(texts))
        for _ in range(chance.randint(1, 2)):
            place = chance.randrange(len(garbled) + 1)
            garbled[place : place + chance.randint(0, 2)] = chance.choice(spoilers)
        try:
            found = quickly(bytes(garbled))
        except (DoubtError, UserError):
            continue
        passed += 1
        assert found == thoroughly(bytes(garbled)), bytes(garbled)
    assert passed > 100

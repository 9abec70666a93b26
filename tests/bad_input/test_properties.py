"""Whatever stands in a file: it is taken, or refused with a `UserError`; nothing else ever comes out."""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import nested
from safetensors.torch import save
from targets import Targets, accepts

quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

KEYS = ["cls", "dec", "seg", "image_id", "category_id", "bbox", "score", "images", "annotations", "categories", "id",
        "name", "file_name", "iscrowd", "area", "format", "task", "layout", "classes", "splits", "train", "labelled",
        "found", "samples", "shards", "bytes", "sha256", "rejected", "unmatched", "file", "reason", "entry", "0", "1",
        "255", "a.jpg"]  # fmt: skip
scalars = (
    st.none() | st.booleans() | st.integers(-2, 9) | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([*KEYS, 2**63, 2**64, 10**400, 1e308, "\ud800", "train-000000.tar", "f" * 64])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=12,
)
SOUND = {
    "submission": {
        "cls": [{"a.jpg": 1}],
        "dec": [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}],
        "seg": [{"a.png": {"0": [[[0, 0], [3, 0], [3, 3]]]}}],
    },
    "coco": {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 0, "area": 12}],
        "categories": [{"id": 3, "name": "x"}],
    },
    "raw_coco": {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 0, "area": 12}],
        "categories": [{"id": 3, "name": "x"}],
    },
    "sample": {
        "image_id": 1,
        "file_name": "a.jpg",
        "annotations": [{"bbox": [1, 2, 3, 4], "category_id": 3, "iscrowd": 0, "area": 12}],
    },
}


@pytest.fixture(scope="module")
def targets(built):
    made = Targets(built.out)
    SOUND["meta"] = json.loads(made.sound[made.meta_path])
    yield made
    made.close()


def places(value, route=()):
    """Routes to everything in a JSON value, itself included."""
    yield route
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*route, key))


def replaced(value, route, new):
    """A copy of the value with `new` at the route."""
    if not route:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[route[0]] = replaced(value[route[0]], route[1:], new)
    return copy


TEXTS = {
    "labels": b"a.jpg 1\nb.jpg 2\n",
    "raw_list": b"car\nbus\n",
    "yaml": b"a: &b {c: [1, ~, 'x']}\nd: {<<: *b, e: 2024-01-01}\n? f\n: !!str 1\n",
    "recipe": b"train: {steps: 5, clip: 1.0}\nseed: 1\n",
    "voc": b"<a><size><width>40</width><height>30</height></size><object><name>x</name><bndbox><xmin>1</xmin>"
           b"<ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></a>",
    "yolo": b"0 0.5 0.5 0.5 0.5\n7 0.1 0.1 0.2 0.1 0.2 0.3\n",
    "data_yaml": b"path: x\ntrain: shards/cls\nval: ../shards\nnames: {0: a, 7: b}\nnc: 2\n",
    "mask_classes": b"name,r,g,b\nroad,1,2,3\nvoid,0,0,0\n",
}
JSON_READERS = ["submission", "coco", "sample", "raw_coco", "meta"]


@pytest.mark.parametrize("name", [*JSON_READERS, *sorted(set(TEXTS) - {"yaml"})])
def test_the_sound_ones_are_taken(targets, name):
    assert accepts(getattr(targets, name), TEXTS.get(name) or json.dumps(SOUND[name]).encode())


@pytest.mark.parametrize("name", JSON_READERS)
@quick
@given(value=values)
def test_any_json_is_taken_or_refused(targets, name, value):
    accepts(getattr(targets, name), json.dumps(value).encode())


@pytest.mark.parametrize("name", JSON_READERS)
@quick
@given(data=st.data())
def test_any_value_at_any_place_is_taken_or_refused(targets, name, data):
    value = SOUND[name]
    for _ in range(data.draw(st.integers(1, 2))):
        route = data.draw(st.sampled_from(list(places(value))))
        value = replaced(value, route, data.draw(values))
    accepts(getattr(targets, name), json.dumps(value).encode())


@pytest.mark.parametrize("name", [*JSON_READERS, *TEXTS, "index", "weights"])
@quick
@given(data=st.data())
def test_any_damage_to_a_file_is_taken_or_refused(targets, name, data):
    weights = save({"a": torch.zeros(2, 3), "b.c": torch.ones(1, dtype=torch.float16)})
    files = {**TEXTS, "index": targets.sound[targets.index_path], "weights": weights}
    sound = files.get(name) or json.dumps(SOUND[name]).encode()
    accepts(getattr(targets, name), damage(data.draw, sound))


@pytest.mark.parametrize("depth", [100, 300, 500, 700, 850, 900, 930, 950, 960, 970, 980, 990, 1000, 5000])
@pytest.mark.parametrize("name", JSON_READERS)
def test_any_depth_is_taken_or_refused(targets, name, depth):
    """Python's limit of recursion lies somewhere there: what just parses may be too deep to compare or to print."""
    marker = '"HERE"'
    kinds = {tuple(0 if isinstance(key, int) else key for key in route): route for route in places(SOUND[name])}
    for route in kinds.values():  # one of each list's items
        text = json.dumps(replaced(SOUND[name], route, "HERE"))
        if len(route) < 5:
            accepts(getattr(targets, name), text.replace(marker, nested(depth, "")).encode())
    first, second = nested(depth, ""), nested(depth)
    twice = f'{{"cls": [{{"a": {first}}}, {{"a": {second}}}]}}'
    accepts(getattr(targets, name), twice.encode())


def damage(draw, data):
    """Bytes flipped, cut out, put in, at up to four places."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.sampled_from([0, 1, 2, 8, 512, 10**6])))
        data[start:stop] = draw(st.binary(max_size=8) | st.sampled_from([b"", b"-1", b"9" * 30, b"\0" * 512, b"\n"]))
    return bytes(data)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), which=st.sampled_from(["tar", "index", "both"]))
def test_any_damage_to_a_shard_is_taken_or_refused(targets, data, which):
    tar, index = targets.sound[targets.tar_path], targets.sound[targets.index_path]
    if which != "index":
        tar = damage(data.draw, tar)
    if which != "tar":
        index = damage(data.draw, index)
    accepts(targets.shard, tar, index)


@quick
@given(data=st.data())
def test_any_damage_to_an_image_or_a_label_is_taken_or_refused(targets, data, built):
    image = built.image("cls", "train", "train_0.jpg").read_bytes()
    mask = built.mask("train", "train_0.jpg").read_bytes()
    targets.pixels(damage(data.draw, data.draw(st.sampled_from([image, mask]))))
    targets.label(data.draw(st.binary(max_size=30) | st.text("0123456789_ +-.\n", max_size=25).map(str.encode)))

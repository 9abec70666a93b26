"""The layout `coco`: where the JSON files and the images may stand."""

import json
import re

import pytest
from small_layouts import boxes, build, edit, fail, image, make_coco, rejected, write

from ufo_ds.data.schema import TaskMeta

OFFICIAL = "annotations/instances_{}2017.json"
ROBOFLOW = "{}/_annotations.coco.json"


@pytest.mark.parametrize(("folder", "file", "sub"), [
    ("{}2017", OFFICIAL, ""),
    ("images/{}2017", OFFICIAL, ""),
    ("{}", OFFICIAL, ""),
    ("images", OFFICIAL, "{}2017/"),
    ("", OFFICIAL, "{}2017/"),
    ("{}", ROBOFLOW, ""),
    ("images/{}", "annotations/{}.json", "city/"),
    ("{}/images", "{}.json", ""),
])  # fmt: skip
def test_places(tmp_path, folder, file, sub):
    raw = tmp_path / "raw"
    for split, count in (("train", 4), ("val", 2)):
        make_coco(raw, {split: count}, folder, file, sub.format(split))
    if file == ROBOFLOW:
        (raw / "val").rename(raw / "valid")
    meta = build("coco", raw, tmp_path / "out")
    assert [(item.id, item.name) for item in meta.classes] == [(3, "a"), (8, "b")]
    assert {s: (meta.splits[s].samples, meta.splits[s].found) for s in meta.splits} == {"train": (4, 4), "val": (2, 2)}
    found = boxes(tmp_path / "out", "train")
    sub = sub.format("train")
    assert found[f"{sub}1.jpg"] == [(8, [1, 2, 10, 12], 0)] and found[f"{sub}3.jpg"] == []


def test_whole_numbers_may_be_floats(tmp_path):
    raw = make_coco(tmp_path / "raw")
    expected = build("coco", raw, tmp_path / "out") and boxes(tmp_path / "out", "train")
    file = raw / OFFICIAL.format("train")
    write(file, re.sub(r'"(id|image_id|category_id|width|height)": (\d+)', r'"\1": \2.0', file.read_text()))
    assert '"category_id": 3.0' in file.read_text()
    meta = build("coco", raw, tmp_path / "floats")
    assert boxes(tmp_path / "floats", "train") == expected and meta.class_ids == [3, 8]
    edit(file, lambda v: v["images"][0].update(width=40.5))
    assert "images[0].width is 40.5, not a number of pixels" in fail("coco", raw, tmp_path / "floats")


def test_names_in_capitals_and_a_part_of_the_images(tmp_path):
    raw = make_coco(tmp_path / "raw", {"Train": 40, "Validation": 2}, "{}", "annotations/instances_{}.json")
    for number in range(30):
        (raw / f"Train/{number}.jpg").unlink()
    meta = build("coco", raw, tmp_path / "out")
    assert meta.splits["train"].samples == 10 and len(meta.splits["train"].unmatched) == 30
    assert meta.splits["val"].samples == 2


def test_the_images_of_test_dev_are_those_of_test(tmp_path):
    raw = make_coco(tmp_path / "raw")
    image(raw / "test2017/a.jpg")
    value = {"images": [{"id": 5, "file_name": "a.jpg"}], "categories": [{"id": 3, "name": "a"}]}
    for name in ("test2017", "test-dev2017"):
        write(raw / f"annotations/image_info_{name}.json", json.dumps(value))
    assert build("coco", raw, tmp_path / "out").splits["test"].samples == 1


def test_annotations_of_nothing_are_refused_and_nulls_are_absent(tmp_path):
    raw = make_coco(tmp_path / "raw")
    file = raw / OFFICIAL.format("train")
    edit(file, lambda v: [item.update(iscrowd=None, area=None) for item in v["annotations"]])
    build("coco", raw, tmp_path / "out")
    assert boxes(tmp_path / "out", "train")["0.jpg"] == [(3, [1, 2, 10, 12], 0)]
    edit(file, lambda v: [item.update(image_id=str(item["image_id"])) for item in v["annotations"]])
    assert "none of its images has an annotation; image_id must be" in fail("coco", raw, tmp_path / "out")


def test_one_json_is_divided(tmp_path):
    raw = make_coco(tmp_path / "raw", {"default": 20}, "images/{}", "annotations/instances_{}.json")
    meta = build("coco", raw, tmp_path / "out")
    assert (meta.splits["train"].samples, meta.splits["val"].samples) == (18, 2)


def test_test_images_with_and_without_a_json(tmp_path):
    raw, out = make_coco(tmp_path / "raw"), tmp_path / "out"
    image(raw / "test2017/b.jpg")
    image(raw / "test2017/a.jpg")
    meta = build("coco", raw, out)
    assert not meta.splits["test"].labelled and boxes(out, "test") == {"a.jpg": None, "b.jpg": None}
    images = [{"id": 5, "file_name": "b.jpg"}, {"id": 6, "file_name": "a.jpg"}]
    write(raw / "annotations/image_info_test2017.json", json.dumps({"images": images, "categories": []}))
    assert "categories is empty" in fail("coco", raw, out)
    edit(raw / "annotations/image_info_test2017.json", lambda v: v.update(categories=[{"id": 3, "name": "a"}]))
    assert not build("coco", raw, out).splits["test"].labelled
    assert list(boxes(out, "test")) == ["b.jpg", "a.jpg"]


def test_every_image_and_label_is_accounted_for(tmp_path):
    raw = make_coco(tmp_path / "raw")
    image(raw / "train2017/unlisted.jpg")
    write(raw / "train2017/readme.txt", b"x")
    file = raw / "annotations/instances_train2017.json"
    edit(file, lambda v: v["images"].append({"id": 99, "file_name": "lost.jpg"}))
    edit(file, lambda v: v["annotations"].append({"id": 77, "image_id": 1234, "category_id": 3, "bbox": [1, 1, 2, 2]}))
    edit(file, lambda v: v["annotations"][0].update(category_id=4))
    split = build("coco", raw, tmp_path / "out").splits["train"]
    assert {item.file: item.reason.split(" (")[0] for item in split.rejected} == {
        "unlisted.jpg": "not listed in instances_train2017.json",
        "readme.txt": "not an image file by its extension",
        "0.jpg": "annotation 0: category_id 4 is none of the categories",
    }
    assert [item.entry for item in split.unmatched] == ["instances_train2017.json: annotation 77", "lost.jpg"]


def test_images_shared_by_the_splits_are_each_counted_once(tmp_path):
    raw = make_coco(tmp_path / "raw", {"train": 4}, "images")
    value = {"images": [{"id": 1, "file_name": "v.jpg"}, {"id": 2, "file_name": "0.jpg"}], "annotations": [],
             "categories": [{"id": 3, "name": "a"}]}  # fmt: skip
    write(raw / "annotations/instances_val2017.json", json.dumps(value))
    image(raw / "images/v.jpg")
    image(raw / "images/nobody.jpg")
    meta = build("coco", raw, tmp_path / "out")
    assert meta.splits["val"].found == 1
    assert [(item.entry, item.reason) for item in meta.splits["val"].unmatched] == [
        ("0.jpg", "is in the train split already")
    ]
    assert rejected(meta) == {"nobody.jpg": "not listed in instances_train2017.json, instances_val2017.json"}
    assert meta.class_ids == [3, 8]


BAD = {
    "two JSON files": (lambda raw: write(raw / "annotations/instances_train2014.json", b"{}"), "keep one"),
    "no train": (lambda raw: (raw / "annotations/instances_train2017.json").unlink(), "no such file for train"),
    "no images": (lambda raw: (raw / "train2017").rename(raw / "elsewhere"), "no image '0.jpg' in"),
    "another name": (
        lambda raw: edit(raw / "annotations/instances_val2017.json", lambda v: v["categories"][0].update(name="c")),
        "category 8 is 'c', but 'b' in the train split's; make them agree",
    ),
    "no categories": (
        lambda raw: edit(raw / "annotations/instances_train2017.json", lambda v: v.pop("categories")),
        "instances_train2017.json: categories is missing",
    ),
    "name climbs": (
        lambda raw: edit(raw / "annotations/instances_train2017.json",
                         lambda v: v["images"][1].update(file_name="a/../../b.jpg")),
        "images[1].file_name: 'a/../../b.jpg' is no path inside the raw folder",
    ),
    "empty": (
        lambda raw: edit(raw / "annotations/instances_train2017.json", lambda v: v.update(images=[], annotations=[])),
        "images is empty",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_as_a_whole_is_refused(tmp_path, name):
    raw = make_coco(tmp_path / "raw")
    BAD[name][0](raw)
    assert BAD[name][1] in fail("coco", raw, tmp_path / "out")
    with pytest.raises(Exception, match="unfinished or absent"):
        TaskMeta.read(tmp_path / "out", "det")

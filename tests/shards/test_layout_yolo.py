"""The layout `yolo`: data.yaml, shares of the image, outlines."""

import pytest
from small_layouts import boxes, build, fail, image, make_folder, make_masks, make_yolo, rejected, write

HALF = [10.0, 7.5, 20.0, 15.0]


@pytest.fixture
def raw(tmp_path):
    return make_yolo(tmp_path / "raw")


def test_shares_become_pixels_and_a_missing_file_means_no_objects(raw, tmp_path):
    meta = build("yolo", raw, tmp_path / "out")
    assert [(item.id, item.name) for item in meta.classes] == [(0, "sign"), (1, "lamp")]
    assert boxes(tmp_path / "out", "train") == {
        "0.jpg": [(0, HALF, 0)], "1.jpg": [(1, HALF, 0)], "2.jpg": [(0, HALF, 0)], "3.jpg": [],
    }  # fmt: skip
    assert set(meta.splits) == {"train", "val"}


YAMLS = {
    "a list": ("train: images/train\nval: images/val\nnames: [sign, lamp]\nnc: 2\n", [0, 1]),
    "holes": ("train: images/train\nval: images/val\nnames: {0: sign, 1: lamp, 7: horn}\n", [0, 1, 7]),
    "numbers as names": ("train: images/train\nval: images/val\nnames: [3, 4.5]\n", [0, 1]),
    "another machine's": ("path: /home/me/d\ntrain: ../images/train\nval: C:\\d\\images\\val\nnames: [a, b]\n", [0, 1]),
    "no folders": ("names: [a, b]\n", [0, 1]),
    "test is not there": ("train: images/train\nval: images/val\ntest: images/test\nnames: [a, b]\n", [0, 1]),
}  # fmt: skip


@pytest.mark.parametrize("name", YAMLS)
def test_forms_of_the_yaml(raw, tmp_path, name):
    text, ids = YAMLS[name]
    write(raw / "data.yaml", text)
    meta = build("yolo", raw, tmp_path / "out")
    assert meta.class_ids == ids and {s: meta.splits[s].samples for s in meta.splits} == {"train": 4, "val": 2}


@pytest.mark.parametrize(("shape", "points"), [("[2, 2]", ".4 .42 .6 .58"), ("[2, 3]", ".4 .42 1 .6 .58 0")])
def test_the_points_of_a_pose_are_no_outline(raw, tmp_path, shape, points):
    write(raw / "data.yaml", f"names: [a, b]\nkpt_shape: {shape}\n")
    write(raw / "labels/train/0.txt", f"0 .5 .5 .5 .5 {points}\n")
    build("yolo", raw, tmp_path / "out")
    assert boxes(tmp_path / "out", "train")["0.jpg"] == [(0, HALF, 0)]
    write(raw / "data.yaml", "names: [a, b]\nkpt_shape: 17\n")
    assert "key 'kpt_shape' is 17, not [points, numbers a point]" in fail("yolo", raw, tmp_path / "out")


@pytest.mark.parametrize("place", ["train/classes.txt", "train/_darknet.labels", "labels/train/classes.txt"])
def test_places_of_the_class_names(tmp_path, place):
    raw = make_yolo(tmp_path / "raw")
    (raw / "data.yaml").unlink()
    write(raw / place, "sign\nlamp\n")
    assert build("yolo", raw, tmp_path / "out").class_names == ["sign", "lamp"]


def test_roboflows_folders(raw, tmp_path):
    for split, name in (("train", "train"), ("val", "valid")):
        (raw / name).mkdir()
        (raw / "images" / split).rename(raw / name / "images")
        (raw / "labels" / split).rename(raw / name / "labels")
    write(raw / "data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: [sign, lamp]\n")
    meta = build("yolo", raw, tmp_path / "out")
    assert {s: meta.splits[s].samples for s in meta.splits} == {"train": 4, "val": 2}
    assert len(boxes(tmp_path / "out", "val")["0.jpg"]) == 1


def beside(raw, *folders, count=3):
    for folder in folders:
        for number in range(count):
            image(raw / folder / f"{number}.jpg")
            write(raw / folder / f"{number}.txt", "1 0.5 0.5 0.5 0.5\n")
    return raw


@pytest.mark.parametrize(
    ("folders", "names", "samples"),
    [
        (["."], "classes.txt", {"train": 4, "val": 1}),
        (["train", "valid"], "classes.txt", {"train": 5, "val": 5}),
        (["images"], "classes.txt", {"train": 4, "val": 1}),
        (["obj_train_data"], "obj.names", {"train": 4, "val": 1}),
        (["obj_train_data", "obj_valid_data"], "obj.names", {"train": 5, "val": 5}),
    ],
)
def test_labels_beside_the_images(tmp_path, folders, names, samples):
    raw = beside(tmp_path / "raw", *folders, count=5)
    write(raw / names, "sign\r\nlamp\r\n")
    write(raw / "obj.data", "classes = 2\n")
    meta = build("yolo", raw, tmp_path / "out")
    assert {split: item.samples for split, item in meta.splits.items()} == samples
    assert not rejected(meta) and not meta.splits["train"].unmatched
    assert list(boxes(tmp_path / "out", "train").values()) == [[(1, HALF, 0)]] * samples["train"]


def test_a_test_folder_of_images_alone_beside_labelled_ones(tmp_path):
    raw = beside(tmp_path / "raw", "train")
    write(raw / "classes.txt", "sign\nlamp\n")
    image(raw / "test/9.jpg")
    meta = build("yolo", raw, tmp_path / "out")
    assert not meta.splits["test"].labelled and boxes(tmp_path / "out", "test") == {"9.jpg": None}


def test_without_a_yaml_and_without_splits(tmp_path):
    raw = make_yolo(tmp_path / "raw", {"": 20}, yaml=False)
    meta = build("yolo", raw, tmp_path / "out")
    assert (meta.splits["train"].samples, meta.splits["val"].samples) == (18, 2)
    (raw / "classes.txt").rename(raw / "labels/classes.txt")
    assert build("yolo", raw, tmp_path / "out").class_names == ["sign", "lamp"]


def test_one_folder_for_both_splits_is_divided(tmp_path):
    raw = make_yolo(tmp_path / "raw", {"train2017": 10})
    write(raw / "data.yaml", "train: images/train2017\nval: images/train2017\nnames: [a, b]\n")
    meta = build("yolo", raw, tmp_path / "out")
    assert (meta.splits["train"].samples, meta.splits["val"].samples) == (9, 1)


def test_images_in_sub_folders_find_their_labels(raw, tmp_path):
    image(raw / "images/train/deep/0.jpg")
    write(raw / "labels/train/deep/0.txt", "1 0.5 0.5 0.5 0.5\n")
    build("yolo", raw, tmp_path / "out")
    found = boxes(tmp_path / "out", "train")
    assert found["deep/0.jpg"] == [(1, HALF, 0)] and found["0.jpg"] == [(0, HALF, 0)]


FOLDER = "train: [images/train, images/more]\nval: images/val\nnames: [a, b]\n"
LISTS = {
    "from the list's folder": "./images/train/{}",
    "from the raw folder": "images/train/{}",
    "another machine's": "/home/me/d/images/train/{}",
    "another system's": "D:\\d\\images\\train\\{}",
}


@pytest.mark.parametrize("form", LISTS)
def test_lists_of_files(raw, tmp_path, form):
    write(raw / "train.txt", "".join(LISTS[form].format(f"{number}.jpg") + "\n" for number in (0, 3, 7)))
    write(raw / "val.txt", "./images/val/0.jpg\n")
    write(raw / "data.yaml", "path: ../there\ntrain: train.txt\nval: val.txt\nnames: [sign, lamp]\n")
    meta = build("yolo", raw, tmp_path / "out")
    assert boxes(tmp_path / "out", "train") == {"train/0.jpg": [(0, HALF, 0)], "train/3.jpg": []}
    assert boxes(tmp_path / "out", "val") == {"val/0.jpg": [(0, HALF, 0)]}
    assert rejected(meta) == dict.fromkeys(["train/1.jpg", "train/2.jpg", "val/1.jpg"], "in none of the lists")
    entry = "train.txt:3 " + LISTS[form].format("7.jpg")
    assert [item.entry for item in meta.splits["train"].unmatched] == [entry]


def test_lists_divide_one_folder(tmp_path):
    raw = make_yolo(tmp_path / "raw", {"": 6})
    write(raw / "lists/train.txt", "".join(f"images/{number}.jpg\n" for number in (0, 1, 2, 2)))
    write(raw / "lists/val.txt", "images/4.jpg\nimages/2.jpg\n")
    write(raw / "data.yaml", "train: lists/train.txt\nval: lists/val.txt\nnames: [sign, lamp]\n")
    meta = build("yolo", raw, tmp_path / "out")
    assert sorted(boxes(tmp_path / "out", "train")) == ["0.jpg", "1.jpg", "2.jpg"]
    assert list(boxes(tmp_path / "out", "val")) == ["4.jpg"]
    assert [(item.entry, item.reason) for item in meta.splits["val"].unmatched] == [
        ("2.jpg", "is in the train split already")
    ]
    assert set(rejected(meta)) == {"3.jpg", "5.jpg"}
    write(raw / "data.yaml", "train: lists/train.txt\nval: lists/train.txt\nnames: [sign, lamp]\n")
    assert build("yolo", raw, tmp_path / "out").splits["train"].samples == 3


def test_several_folders_of_a_split(raw, tmp_path):
    image(raw / "images/more/0.jpg")
    image(raw / "images/else/0.jpg")
    write(raw / "labels/more/0.txt", "1 0.5 0.5 0.5 0.5\n")
    write(raw / "labels/more/lost.txt", "1 0.5 0.5 0.5 0.5\n")
    write(raw / "data.yaml", FOLDER)
    meta = build("yolo", raw, tmp_path / "out")
    found = boxes(tmp_path / "out", "train")
    assert found["more/0.jpg"] == [(1, HALF, 0)] and found["train/0.jpg"] == [(0, HALF, 0)] and len(found) == 5
    assert list(boxes(tmp_path / "out", "val")) == ["val/0.jpg", "val/1.jpg"] and not rejected(meta)
    assert [item.entry for item in meta.splits["train"].unmatched] == ["more/lost.txt"]


def test_a_list_with_labels_beside_the_images(tmp_path):
    raw = tmp_path / "raw"
    for number in range(3):
        image(raw / f"obj/{number}.jpg")
        write(raw / f"obj/{number}.txt", "0 0.5 0.5 0.5 0.5\n")
    write(raw / "train.txt", "data/obj/0.jpg\ndata/obj/1.jpg\n")
    write(raw / "valid.txt", "data/obj/2.jpg\n")
    write(raw / "data.yaml", "train: train.txt\nval: valid.txt\nnames: [sign]\n")
    meta = build("yolo", raw, tmp_path / "out")
    assert not rejected(meta) and boxes(tmp_path / "out", "val") == {"2.jpg": [(0, HALF, 0)]}
    assert len(boxes(tmp_path / "out", "train")) == 2


def test_labels_beside_their_images(tmp_path):
    raw = tmp_path / "raw"
    for split in ("train", "val"):
        image(raw / split / "0.jpg")
        write(raw / split / "0.txt", "0 0.5 0.5 0.5 0.5\n")
    write(raw / "train/classes.txt", "sign\n")
    write(raw / "data.yaml", "train: train\nval: val\nnames: [sign]\n")
    meta = build("yolo", raw, tmp_path / "out")
    assert not rejected(meta) and boxes(tmp_path / "out", "train") == {"0.jpg": [(0, HALF, 0)]}


def test_a_test_split_without_labels(raw, tmp_path):
    image(raw / "images/test/9.jpg")
    meta = build("yolo", raw, tmp_path / "out")
    assert not meta.splits["test"].labelled and boxes(tmp_path / "out", "test") == {"9.jpg": None}


LINES = {
    "an outline": ("0 0.25 0.25 0.75 0.25 0.75 0.75\n", None),
    "blank lines, more digits": ("\n0 0.500000 0.5 .5 5e-1\n\n", None),
    "class as a float": ("0.0 0.5 0.5 0.5 0.5\n", None),
    "no such class": ("2 0.5 0.5 0.5 0.5\n", "0.txt:1: class '2' is none of the classes"),
    "class negative": ("-1 0.5 0.5 0.5 0.5\n", "class '-1'"),
    "class of digits": (f"{'9' * 5000} 0.5 0.5 0.5 0.5\n", "is none of the classes"),
    "with confidence": ("0 0.5 0.5 0.5 0.5 0.9\n", "0.txt:1: 6 numbers; an object has 5"),
    "words": ("0 0.5 0.5 half 0.5\n", "is not a class and numbers"),
    "not finite": ("0 0.5 nan 0.5 0.5\n", "a number that is not finite"),
    "pixels": ("0 20 15 10 10\n", "lies outside 0..1; coordinates are shares of the image"),
    "no area": ("0 0.5 0.5 0 0.5\n", "has no area"),
    "not text": (b"\xff\xfe\x00", "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_lines(raw, tmp_path, name):
    text, reason = LINES[name]
    write(raw / "labels/train/0.txt", text)
    meta = build("yolo", raw, tmp_path / "out")
    if reason:
        assert set(rejected(meta)) == {"0.jpg"} and reason in rejected(meta)["0.jpg"]
    else:
        assert boxes(tmp_path / "out", "train")["0.jpg"] == [(0, HALF, 0)]


def test_labels_without_an_image_are_unmatched(raw, tmp_path):
    write(raw / "labels/train/lost.txt", "0 0.5 0.5 0.5 0.5\n")
    meta = build("yolo", raw, tmp_path / "out")
    assert [item.entry for item in meta.splits["train"].unmatched] == ["lost.txt"]


def test_no_label_at_all_is_refused(raw, tmp_path):
    (raw / "labels").rename(raw / "label")
    assert "raw/labels/train: no label file here" in fail("yolo", raw, tmp_path / "out")


def test_layouts_of_several_tasks_share_a_folder(raw, tmp_path, contents):
    out = tmp_path / "out"
    build("yolo", raw, out)
    before = contents(out)
    build("folder", make_folder(tmp_path / "cars"), out)
    build("masks", make_masks(tmp_path / "roads"), out)
    after = contents(out)
    assert {name.split("/")[0] for name in after} == {"cls", "det", "seg"}
    assert {name: data for name, data in after.items() if name.startswith("det")} == before

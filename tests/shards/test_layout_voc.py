"""The layout `voc`: XML annotations, lists, corners counted from 1."""

import pytest
from small_layouts import OBJECT, XML, boxes, build, fail, image, make_voc, rejected, write

SIGN, LAMP = (1, [0, 1, 10, 10], 0), (0, [4, 4, 26, 16], 1)


@pytest.fixture
def raw(tmp_path):
    return make_voc(tmp_path / "raw")


def put(raw, stem, objects, size=(40, 30)):
    return write(raw / f"Annotations/{stem}.xml", XML.format(stem=stem, size=size, objects=objects))


def test_corners_count_from_1_and_difficult_ones_are_crowds(raw, tmp_path):
    meta = build("voc", raw, tmp_path / "out")
    assert [(item.id, item.name) for item in meta.classes] == [(0, "lamp"), (1, "sign")]
    assert boxes(tmp_path / "out", "train") == {
        f"train_{n}.jpg": [SIGN, LAMP] if n % 2 else [SIGN] for n in range(4)
    }  # fmt: skip
    assert meta.splits["val"].samples == 2


def test_the_devkit_of_the_download_is_entered(tmp_path):
    make_voc(tmp_path / "raw/VOCdevkit/VOC2007")
    assert build("voc", tmp_path / "raw", tmp_path / "out").splits["train"].samples == 4


def test_trainval_and_no_list_are_divided(raw, tmp_path):
    lists = raw / "ImageSets/Main"
    (lists / "trainval.txt").write_text((lists / "train.txt").read_text() + (lists / "val.txt").read_text())
    (lists / "train.txt").unlink()
    meta = build("voc", raw, tmp_path / "out")
    assert (meta.splits["train"].samples, meta.splits["val"].samples) == (4, 2)
    (lists / "val.txt").unlink()
    meta = build("voc", raw, tmp_path / "out")
    assert (meta.splits["train"].samples, meta.splits["val"].samples) == (5, 1)
    (lists / "trainval.txt").unlink()
    image(raw / "JPEGImages/nobody.jpg")
    meta = build("voc", raw, tmp_path / "out")
    assert (meta.splits["train"].samples, meta.splits["val"].samples) == (5, 1)
    assert rejected(meta) == {"nobody.jpg": "no annotation nobody.xml"}


def test_lines_of_lists_by_class_and_with_extensions_are_read(raw, tmp_path):
    write(raw / "ImageSets/Main/train.txt", "train_0  1\ntrain_1 -1\ntrain_2.jpg\ntrain_3\n")
    assert build("voc", raw, tmp_path / "out").splits["train"].samples == 4


def test_a_test_list_without_annotations_is_unlabelled(raw, tmp_path):
    image(raw / "JPEGImages/t.jpg")
    write(raw / "ImageSets/Main/test.txt", "t\n")
    meta = build("voc", raw, tmp_path / "out")
    assert not meta.splits["test"].labelled and boxes(tmp_path / "out", "test") == {"t.jpg": None}


def test_every_image_and_label_is_accounted_for(raw, tmp_path):
    image(raw / "JPEGImages/unlisted.jpg")
    image(raw / "JPEGImages/bare.jpg")
    write(raw / "ImageSets/Main/val.txt", "val_0\nval_1\ntrain_0\nlost\nbare\n")
    put(raw, "stray", "")
    meta = build("voc", raw, tmp_path / "out")
    assert rejected(meta) == {"unlisted.jpg": "in none of the lists of ImageSets/Main"}
    assert rejected(meta, "val") == {"bare.jpg": "no annotation bare.xml"}
    assert {(item.entry, item.reason) for item in meta.splits["val"].unmatched} == {
        ("train_0.jpg", "is in the train split already"), ("lost.jpg", "no such image file"),
    }  # fmt: skip
    assert [item.entry for item in meta.splits["train"].unmatched] == ["stray.xml"]


def test_class_files_name_the_classes(raw, tmp_path):
    write(raw / "classes.txt", "sign\nlamp\nhorn\n")
    assert build("voc", raw, tmp_path / "out").class_names == ["sign", "lamp", "horn"]
    write(raw / "classes.txt", "sign\nhorn\n")
    meta = build("voc", raw, tmp_path / "out")
    assert rejected(meta) == {f"train_{n}.jpg": f"train_{n}.xml: class 'lamp' is not in classes.txt" for n in (1, 3)}


@pytest.mark.parametrize(("box", "reason"), [
    ((1, 1, 40, 30), None),
    ((0, 0, 40, 30), None),
    (("1.5", "1.5", "20.25", "9"), None),
    ((10, 10, 9, 20), "bndbox [10.0, 10.0, 9.0, 20.0] has no area"),
    ((1, 1, 50, 30), "sticks out of the 40 x 30 image"),
    (("nan", 1, 5, 5), "has no area"),
    (("", 1, 5, 5), "no bndbox of xmin, ymin, xmax, ymax"),
])  # fmt: skip
def test_boxes(raw, tmp_path, box, reason):
    put(raw, "train_0", OBJECT.format(name="sign", difficult=0, box=box))
    found = rejected(build("voc", raw, tmp_path / "out"))
    assert (reason in found["train_0.jpg"]) if reason else not found


def test_an_image_without_objects_is_a_sample(raw, tmp_path):
    put(raw, "train_0", "", size=(0, 0))
    build("voc", raw, tmp_path / "out")
    assert boxes(tmp_path / "out", "train")["train_0.jpg"] == []


def test_nothing_named_is_refused(tmp_path):
    raw = make_voc(tmp_path / "raw", {"train": 1})
    put(raw, "train_0", "")
    assert "name the classes in classes.txt" in fail("voc", raw, tmp_path / "out")


def split_folders(raw, images, xmls):
    """Splits as folders, each `images` and `xmls` of it; equal stems in both."""
    for split, name, count in (("train", "train", 4), ("val", "valid", 2)):
        for number in range(count):
            image(raw / images.format(name) / f"{number}.jpg")
            objects = OBJECT.format(name=f"{split} sign", difficult=0, box=(1, 2, 10, 11))
            text = XML.format(stem=number, size=(40, 30), objects=objects)
            write(raw / xmls.format(name) / f"{number}.xml", text)
    return raw


PLACES = {
    "beside the images": ("{}", "{}"),
    "in folders of each split": ("{}/images", "{}/annotations"),
    "in folders of all splits": ("images/{}", "annotations/{}"),
    "in a folder of images": ("images/{}", "images/{}"),
    "unwrapped": ("signs.voc/{}", "signs.voc/{}"),
}


@pytest.mark.parametrize("form", PLACES)
def test_splits_that_are_folders(tmp_path, form):
    raw = split_folders(tmp_path / "raw", *PLACES[form])
    place = raw / PLACES[form][0].format("train")
    image(place / "bare.jpg")
    write(raw / PLACES[form][1].format("train") / "lost.xml", XML.format(stem="lost", size=(40, 30), objects=""))
    meta = build("voc", raw, tmp_path / "out")
    assert meta.class_names == ["train sign", "val sign"]
    assert boxes(tmp_path / "out", "train") == {f"{n}.jpg": [(0, [0, 1, 10, 10], 0)] for n in range(4)}
    assert boxes(tmp_path / "out", "val") == {f"{n}.jpg": [(1, [0, 1, 10, 10], 0)] for n in range(2)}
    assert rejected(meta) == {"bare.jpg": "no annotation bare.xml"}
    assert [item.entry for item in meta.splits["train"].unmatched] == ["lost.xml"]


def test_lists_as_cvat_names_its_subsets(tmp_path):
    raw = make_voc(tmp_path / "raw")
    for old, new in (("train", "Train"), ("val", "Validation")):
        (raw / f"ImageSets/Main/{old}.txt").rename(raw / f"ImageSets/Main/{new}.txt")
    write(raw / "ImageSets/Main/sign_train.txt", "train_0 1\n")
    meta = build("voc", raw, tmp_path / "out")
    assert {split: part.samples for split, part in meta.splits.items()} == {"train": 4, "val": 2}


def test_splits_that_share_a_folder_of_xml(tmp_path):
    raw = make_voc(tmp_path / "raw", {"train": 3, "val": 2, "test": 1})
    for path in list((raw / "JPEGImages").iterdir()):
        split = path.name.partition("_")[0]
        write(raw / "images" / split / path.name, path.read_bytes())
        path.unlink()
    (raw / "JPEGImages").rmdir()
    write(raw / "Annotations/lost.xml", XML.format(stem="lost", size=(40, 30), objects=""))
    (raw / "Annotations/val_1.xml").unlink()
    meta = build("voc", raw, tmp_path / "out")
    assert {split: item.samples for split, item in meta.splits.items()} == {"train": 3, "val": 1, "test": 1}
    assert rejected(meta, "val") == {"val_1.jpg": "no annotation val_1.xml"}
    assert {split: [item.entry for item in part.unmatched] for split, part in meta.splits.items()} == {
        "train": ["lost.xml"], "val": [], "test": []
    }  # fmt: skip


def test_a_folder_of_test_images_has_no_labels(tmp_path):
    raw = split_folders(tmp_path / "raw", "{}", "{}")
    image(raw / "test/9.jpg")
    meta = build("voc", raw, tmp_path / "out")
    assert not meta.splits["test"].labelled and boxes(tmp_path / "out", "test") == {"9.jpg": None}


def test_one_folder_of_images_and_xml_is_divided(tmp_path):
    raw = make_voc(tmp_path / "voc")
    for path in [*(raw / "JPEGImages").iterdir(), *(raw / "Annotations").iterdir()]:
        write(tmp_path / "raw" / path.name, path.read_bytes())
    write(tmp_path / "raw/README.txt", "exported\n")
    meta = build("voc", tmp_path / "raw", tmp_path / "out")
    assert (meta.splits["train"].samples, meta.splits["val"].samples) == (5, 1) and not rejected(meta)


def test_a_split_without_xml_is_refused(tmp_path):
    raw = split_folders(tmp_path / "raw", "{}", "{}")
    for path in (raw / "valid").glob("*.xml"):
        path.unlink()
    assert "raw/valid: holds no XML file; it must hold an annotation for each image" in fail(
        "voc", raw, tmp_path / "out"
    )
    (raw / "train").rename(raw / "test")
    assert "has images for val, test, but none for train" in fail("voc", raw, tmp_path / "out")

"""Raw data of the generic layouts from a stranger: what is wrong with one file is a rejection, the rest one line."""

import os
import shutil

import pytest
from refusals import DEEP, FILES, HUGE, JSON, make_folder, parametrized, refusal, sparse
from small_layouts import (
    OBJECT,
    XML,
    build,
    image,
    make_coco,
    make_masks,
    make_voc,
    make_yolo,
    rejected,
    write,
)  # fmt: skip
from small_layouts import (
    make_folder as folder_of_classes,
)
from test_bad_samples import png_of

from shards.layouts.safe_xml import MAX_BYTES

MAKE = {"folder": folder_of_classes, "voc": make_voc, "yolo": make_yolo, "coco": make_coco, "masks": make_masks}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Raw data of each layout; not to be changed."""
    folder = tmp_path_factory.mktemp("layouts")
    return {layout: make(folder / layout) for layout, make in MAKE.items()}


@pytest.fixture
def raw(sound, tmp_path, request):
    return shutil.copytree(sound[request.param], tmp_path / "raw", symlinks=True)


def of(layout):
    return pytest.mark.parametrize("raw", [layout], indirect=True)


def xml(objects="", stem="train_0", size=(40, 30)):
    return XML.format(stem=stem, size=size, objects=objects)


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
XMLS = {
    "empty": (b"", "not well-formed XML (no element found"),
    "text": (b"hello", "not well-formed XML"),
    "cut": (xml()[:60], "not well-formed XML"),
    "zeros": (bytes(4000), "not well-formed XML"),
    "billion laughs": (f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]><x>&l9;</x>', "has a document type"),
    "outer entity": ('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>', "has a document type"),
    "outer type": ('<!DOCTYPE x SYSTEM "http://localhost/x.dtd"><x/>', "has a document type"),
    "undeclared entity": (xml("&nobody;"), "not well-formed XML (undefined entity"),
    "deep": ("<a>" * DEEP + "</a>" * DEEP, "elements more than 32 deep"),
    "unknown encoding": (b'<?xml version="1.0" encoding="klingon"?><a/>', "not well-formed XML"),
    "two roots": ("<a/><b/>", "not well-formed XML (junk after document element"),
    "name empty": (xml(OBJECT.format(name="", difficult=0, box=(1, 1, 2, 2))), "object 1: name '' is no name"),
    "name of two lines": (xml(OBJECT.format(name="a\nb", difficult=0, box=(1, 1, 2, 2))), "object 1: name 'a\\nb'"),
    "no box": (xml("<object><name>sign</name></object>"), "object 1 (sign): no bndbox"),
    "box of digits": (xml(OBJECT.format(name="sign", difficult=0, box=(HUGE, 1, 2, 2))), "has no area"),
    "box infinite": (xml(OBJECT.format(name="sign", difficult=0, box=(1, 1, "inf", 2))), "has no area"),
    "size of digits": (xml(OBJECT.format(name="sign", difficult=0, box=(1, 1, 99, 99)), size=(HUGE, 1)), "sticks out"),
    "size of another": (xml(size=(41, 30)), "declared as 41 x 30 pixels, but it has 40 x 30"),
}


@of("voc")
@parametrized(XMLS)
def test_a_broken_annotation_is_a_rejection(raw, tmp_path, case):
    data, reason = case
    write(raw / "Annotations/train_0.xml", data)
    found = rejected(build("voc", raw, tmp_path / "out"))
    assert set(found) == {"train_0.jpg"} and reason in found["train_0.jpg"], found


@of("voc")
@pytest.mark.parametrize("kind", ["forbidden", "pipe", "socket", "device", "link to itself"])
def test_an_annotation_that_is_no_file_is_a_rejection(raw, tmp_path, kind):
    FILES[kind](raw / "Annotations/train_0.xml")
    assert "train_0.xml cannot be read" in rejected(build("voc", raw, tmp_path / "out"))["train_0.jpg"]


@of("voc")
def test_a_huge_annotation_is_not_read(raw, tmp_path):
    sparse(raw / "Annotations/train_0.xml", MAX_BYTES + 1)
    found = rejected(build("voc", raw, tmp_path / "out"))
    assert found == {"train_0.jpg": "train_0.xml cannot be read: larger than 8 MiB"}


def refused(layout, raw, *fragments):
    refusal(lambda: build(layout, raw, raw.parent / "out"), raw, *fragments)
    assert not (raw.parent / "out").exists() or not list((raw.parent / "out").rglob("meta.json"))


VOC = {
    "list climbs": (lambda raw: write(raw / "ImageSets/Main/val.txt", "../x\n"), "val.txt:1: '../x' is not a bare"),
    "list empty": (lambda raw: write(raw / "ImageSets/Main/val.txt", "\n"), "val.txt: empty; write a stem a line"),
    "list a folder": (lambda raw: make_folder(raw / "ImageSets/Main/val.txt"), "val.txt: cannot be read"),
    "list a pipe": (lambda raw: FILES["pipe"](raw / "ImageSets/Main/val.txt"), "val.txt: not a regular file"),
    "list of nobody": (lambda raw: write(raw / "ImageSets/Main/val.txt", "a\nb\n"), "the val split's folder is empty"),
    "no annotation": (lambda raw: [path.unlink() for path in (raw / "Annotations").iterdir()], "holds no XML file"),
    "classes blank": (lambda raw: write(raw / "classes.txt", "a\n\nb\n"), "classes.txt:2: a blank line"),
}


@of("voc")
@parametrized(VOC)
def test_voc_that_is_wrong_as_a_whole(raw, case):
    case[0](raw)
    refused("voc", raw, case[1])


YAML = {
    "tag": ("names: !!python/object/apply:os.system [echo]\n", "not valid YAML"),
    "laughs": ("a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
               "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\nnames: [*d,*d,*d]\n", "unfolds to more than"),
    "key twice": ("names: [a]\nnames: [b]\n", "key 'names' stands twice"),
    "deep": ("names: " + "[" * 5000, "data.yaml: not valid YAML"),
    "a list": ("- a\n", "a data.yaml is a mapping of keys"),
    "empty": ("", "a data.yaml is a mapping of keys"),
    "not text": (b"\xff\xfe", "not valid YAML"),
    "no names": ("train: images/train\n", "key 'names' is None, not the names of the classes"),
    "names empty": ("names: []\n", "key 'names' is []"),
    "names a number": ("names: 80\n", "key 'names' is 80"),
    "name a switch": ("names: [off, on]\n", "class 0 is False to YAML; write the name in quotes"),
    "name nothing": ("names: [a, ]\nnc: 2\n", "key 'nc' is 2, but 'names' has 1"),
    "name null": ("names: [a, null]\n", "class 1 is None to YAML"),
    "name a list": ("names: [[a]]\n", "class 0 is ['a'], not a name"),
    "id negative": ("names: {-1: a}\n", "-1 is no class id"),
    "id text": ("names: {x: a}\n", "'x' is no class id"),
    "id huge": ("names: {999999999999: a}\n", "999999999999 is no class id"),
    "split a number": ("names: [a, b]\ntrain: 7\n", "key 'train' is 7, not a folder of images"),
    "split no paths": ("names: [a, b]\ntrain: [images/train, 7]\n", "key 'train' is ['images/train', 7], not a folder"),
    "list not there": ("names: [a, b]\ntrain: train.txt\n", "key 'train' names the list 'train.txt', which is not in"),
    "list of elsewhere": ("names: [a, b]\ntrain: labels/train/0.txt\n", "0.txt: none of its 1 images is in"),
}  # fmt: skip


@of("yolo")
@parametrized(YAML)
def test_a_bad_yaml_is_refused(raw, case):
    write(raw / "data.yaml", case[0])
    refused("yolo", raw, case[1])


@of("yolo")
@pytest.mark.parametrize("kind", ["forbidden", "pipe", "link to itself"])
def test_a_yaml_that_is_no_file_is_refused(raw, kind):
    FILES[kind](raw / "data.yaml")
    refused("yolo", raw, "data.yaml")


@of("yolo")
def test_a_yaml_does_not_lead_out_of_its_folder(raw, tmp_path):
    """Whatever it says, images come from below `--raw`."""
    image(tmp_path / "elsewhere/secret.jpg")
    write(raw / "data.yaml", f"path: {tmp_path}\ntrain: ../elsewhere\nval: /etc\nnames: [a, b]\n")
    meta = build("yolo", raw, tmp_path / "out")
    assert {name: meta.splits[name].samples for name in meta.splits} == {"train": 4, "val": 2}


@of("yolo")
@parametrized({
    "empty": (b"", "train.txt: none of its 0 images is in"),
    "zeros": (bytes(100), "train.txt: none of its 1 images is in"),
    "a long name": (b"a" * 5000, "train.txt: none of its 1 images is in"),
    "not UTF-8": (b"images/\xff\xfe.jpg\n", "train.txt: none of its 1 images is in"),
})
def test_a_list_without_images_is_refused(raw, case):
    write(raw / "train.txt", case[0])
    write(raw / "data.yaml", "names: [a, b]\ntrain: train.txt\nval: images/val\n")
    refused("yolo", raw, case[1])


@of("yolo")
def test_a_list_does_not_lead_out_of_its_folder(raw, tmp_path):
    image(tmp_path / "elsewhere/secret.jpg")
    write(raw / "train.txt", f"../elsewhere/secret.jpg\n{tmp_path}/elsewhere/secret.jpg\nimages/train/0.jpg\n")
    write(raw / "data.yaml", "names: [a, b]\ntrain: train.txt\nval: images/val\n")
    meta = build("yolo", raw, tmp_path / "out")
    assert meta.splits["train"].samples == 1 and len(meta.splits["train"].unmatched) == 2


@of("yolo")
@pytest.mark.parametrize("kind", ["forbidden", "pipe", "socket", "link to itself"])
def test_a_label_that_is_no_file_is_a_rejection(raw, tmp_path, kind):
    FILES[kind](raw / "labels/train/0.txt")
    assert rejected(build("yolo", raw, tmp_path / "out"))["0.jpg"].startswith("0.txt cannot be read: ")


@of("coco")
@pytest.mark.parametrize("name", [name for name in JSON if name != "absent"])
def test_a_spoiled_json_is_refused(raw, name):
    JSON[name](raw / "annotations/instances_train2017.json")
    refused("coco", raw, "instances_train2017.json")


MASKS = {
    "bomb": (png_of(100_000, 100_000), "100000 x 100000 pixels, more than 100 million"),
    "colour bomb": (png_of(20_000, 20_000, colour=2), "20000 x 20000 pixels, more than 100 million"),
    "empty": (b"", "mask 0.png: not a readable PNG"),
    "header alone": (png_of(40, 30)[:33], "mask 0.png: not a readable PNG"),
}


@of("masks")
@parametrized(MASKS)
def test_a_broken_mask_is_a_rejection(raw, tmp_path, case):
    write(raw / "masks/train/0.png", case[0])
    found = rejected(build("masks", raw, tmp_path / "out"))
    assert set(found) == {"0.jpg"} and case[1] in found["0.jpg"]


CLASSES = {
    "a field of a megabyte": "a" * 2**20 + ",1,2,3\n",
    "quotes": '"' + "a\n" * 50 + ",1,2,3\n",
    "NUL": "a\0,1,2,3\n",
    "digits": f"a,{HUGE},2,3\n",
    "negative": "a,-1,2,3\n",
    "not text": b"\xff\xfe,1,2,3\n",
}


@of("masks")
@parametrized(CLASSES)
def test_bad_colours_are_refused(raw, case):
    write(raw / "classes.csv", case)
    refused("masks", raw, "classes.csv")


@of("masks")
@pytest.mark.parametrize("kind", ["forbidden", "pipe", "folder"])
def test_a_class_file_that_is_none_is_refused(raw, kind):
    path = write(raw / "classes.txt", "a\n")
    make_folder(path) if kind == "folder" else FILES[kind](path)
    refused("masks", raw, "classes.txt")


@of("folder")
def test_entries_that_are_no_images_are_rejected(raw, tmp_path):
    os.mkfifo(raw / "train/cat/pipe.jpg")
    (raw / "train/cat/device.jpg").symlink_to("/dev/zero")
    (raw / "train/cat/loop").symlink_to(raw / "train")
    image(raw / "train/cat/a\\b.jpg")
    sparse(raw / "train/cat/large.jpg", 2**28 + 1)
    found = rejected(build("folder", raw, tmp_path / "out"))
    assert {name: reason.split(" ")[0] for name, reason in found.items()} == {
        "cat/pipe.jpg": "not", "cat/device.jpg": "not", "cat/loop": "a", "cat/a\\b.jpg": "a", "cat/large.jpg": "larger",
    }  # fmt: skip


@of("folder")
def test_a_folder_that_cannot_be_listed_is_refused(raw):
    os.chmod(raw / "train/cat", 0)
    try:
        refused("folder", raw, "train/cat: cannot be listed (Permission denied)")
    finally:
        os.chmod(raw / "train/cat", 0o755)


FORBIDDEN = {"folder": "cat", "voc": "JPEGImages", "yolo": "images", "coco": "train2017", "masks": "images"}


@pytest.mark.parametrize("layout", FORBIDDEN)
def test_a_folder_without_rights_is_refused(sound, tmp_path, layout):
    raw = shutil.copytree(sound[layout], tmp_path / "raw")
    if layout == "folder":
        shutil.move(raw / "train/cat", raw / "cat")
        shutil.rmtree(raw / "train")
    os.chmod(raw / FORBIDDEN[layout], 0)
    try:
        refused(layout, raw, "(Permission denied); mend the rights")
    finally:
        os.chmod(raw / FORBIDDEN[layout], 0o755)


@of("folder")
def test_a_class_name_that_is_no_text_is_refused(raw):
    (raw / "train/cat").rename(raw / "train/c\nat")
    refused("folder", raw, "the name of a class folder must be printable text")


@pytest.mark.parametrize("layout", MAKE)
def test_an_empty_folder_says_what_belongs_there(tmp_path, layout):
    (tmp_path / "raw").mkdir()
    refused(layout, tmp_path / "raw", "nothing to build, it must hold")

"""What of a Track 1 download is written, rejected, unmatched or refused."""

import json
import os
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image
from small_download import HEIGHT, WIDTH, jpeg, png

from ufo_ds.data.schema import file_name_of, read_index


def members(folder, task, split):
    """Samples as stock WebDataset reads them: key -> members."""
    meta = json.loads((folder / task / "meta.json").read_text())
    urls = [str(folder / task / shard["name"]) for shard in meta["splits"][split]["shards"]]
    samples = {}
    for sample in webdataset.WebDataset(urls, shardshuffle=False, empty_check=False):
        samples[sample["__key__"]] = {k: v for k, v in sample.items() if not k.startswith("__")}
    return samples


# ---- what a sound download becomes ----


def test_every_sample_is_read_back_byte_for_byte(download):
    out = download.build()
    for task in ("cls", "det", "seg"):
        for split, count in download.counts.items():
            samples = members(out, task, split)
            assert len(samples) == count
            for key, sample in samples.items():
                assert sample["jpg"] == download.image(task, split, f"{key}.jpg").read_bytes()
    assert {key: sample["cls"] for key, sample in members(out, "cls", "train").items()} == {
        f"train_{i}": str(i % 5).encode() for i in range(7)
    }
    for key, sample in members(out, "seg", "val").items():
        assert sample["png"] == download.mask("val", f"{key}.jpg").read_bytes()
    assert all(set(sample) == {"jpg"} for sample in members(out, "seg", "test").values())
    assert all(set(sample) == {"jpg"} for sample in members(out, "cls", "test").values())


def test_boxes_keep_their_ids_and_lose_unknown_keys(download):
    out = download.build()
    sample = json.loads(members(out, "det", "train")["train_1"]["json"])
    box = {"bbox": [1, 2.5, 10, 12], "category_id": 8, "iscrowd": 0, "area": 120}
    assert sample == {
        "image_id": 11,
        "file_name": "train_1.jpg",
        "width": WIDTH,
        "height": HEIGHT,
        "annotations": [box],
    }
    assert json.loads(members(out, "det", "train")["train_6"]["json"])["annotations"] == []
    meta = download.meta("det")
    assert [(item.id, item.name) for item in meta.classes] == [(3, "a"), (8, "b")]


def test_a_test_image_is_named_by_its_line(download):
    out = download.build()
    samples = [json.loads(sample["json"]) for sample in members(out, "det", "test").values()]
    assert samples == [
        {"image_id": 1, "file_name": "test_1.jpg", "width": WIDTH, "height": HEIGHT},
        {"image_id": 2, "file_name": "test_0.jpg", "width": WIDTH, "height": HEIGHT},
    ]


def test_the_index_finds_every_payload(download):
    out = download.build("--samples-per-shard", "3")
    for task in ("cls", "det", "seg"):
        meta = download.meta(task)
        assert [shard.samples for shard in meta.splits["train"].shards] == [2, 2, 3]
        for split in meta.splits.values():
            for shard in split.shards:
                data = (out / task / shard.name).read_bytes()
                index = read_index(out / task / shard.index_name)
                with tarfile.open(out / task / shard.name) as tar:
                    in_tar = [(item.name, item.offset_data, item.size) for item in tar]
                    assert all((item.mtime, item.uid, item.mode, item.uname) == (0, 0, 0o644, "") for item in tar)
                flat = [member for sample in index for member in sample]
                assert [(m.name, m.offset, m.size) for m in flat] == in_tar
                for sample in index:
                    name = file_name_of(sample[0].name)
                    split_name = shard.name.split("-")[0]
                    raw = download.image(task, split_name, name).read_bytes()
                    assert data[sample[0].offset : sample[0].offset + sample[0].size] == raw


def test_train_is_mixed_and_the_rest_in_natural_order(download):
    out = download.build()
    order = {split: list(members(out, "seg", split)) for split in download.counts}
    assert order["train"] != sorted(order["train"])
    assert order["val"] == ["val_0", "val_1", "val_2"] and order["test"] == ["test_0", "test_1"]


@pytest.mark.parametrize("stem", ["a.b.c", "two words", "häuser_été", "100%", "%2E", "日本", "x" * 200, "-~_"])
def test_any_stem_survives(download, stem):
    name = f"{stem}.JPG"
    data = jpeg(99)
    for task in ("cls", "det", "seg"):
        download.image(task, "train", name).write_bytes(data)
    with (download.data / "cls/train.txt").open("a", encoding="utf-8") as file:
        file.write(f"{name} 4\n")
    download.edit_json(lambda v: v["images"].append({"id": 99, "file_name": name}))
    download.mask("train", name).write_bytes(png(np.zeros((HEIGHT, WIDTH), np.uint8)))
    out = download.build()
    for task, label in (("cls", "cls"), ("det", "json"), ("seg", "png")):
        index = read_index(out / task / "train-000000.idx")
        names = [file_name_of(sample[0].name) for sample in index]
        assert name in names
        key = index[names.index(name)][0].name.partition(".")[0]
        sample = members(out, task, "train")[key]
        assert set(sample) == {"jpg", label} and sample["jpg"] == data  # stock WebDataset lowers extensions


def test_a_name_that_is_not_utf8_survives(download):
    name = os.fsdecode(b"caf\xe9.jpg")
    download.image("cls", "train", name).write_bytes(jpeg(1))
    with (download.data / "cls/train.txt").open("ab") as file:
        file.write(b"caf\xe9.jpg 4\n")
    out = download.build("--tasks", "cls")
    assert name in {file_name_of(sample[0].name) for sample in read_index(out / "cls/train-000000.idx")}


def test_class_files_name_the_classes(download):
    (download.data / "cls/classes.txt").write_text("Volvo 240\nFiat 500\nMini\nBora\nUno\n")
    (download.data / "seg/classes.txt").write_text("".join(f"s{i}\n" for i in range(7)))
    download.build()
    assert download.meta("cls").class_names == ["Volvo 240", "Fiat 500", "Mini", "Bora", "Uno"]
    assert download.meta("seg").class_names == [f"s{i}" for i in range(7)]


def test_without_class_files_they_are_track_1s(download):
    for split in ("train", "val"):
        download.edit_json(lambda v: v.pop("categories"), split)
    download.build()
    assert download.meta("cls").num_classes == 196
    assert download.meta("det").class_ids == list(range(1, 46))
    assert download.meta("seg").class_names[13] == "car" and download.meta("seg").num_classes == 19


def test_category_0_makes_track_1s_ids_begin_there(download):
    for split in ("train", "val"):
        download.edit_json(lambda v: v.pop("categories"), split)
    download.edit_json(lambda v: v["annotations"][0].update(category_id=0))
    download.build("--tasks", "det")
    assert download.meta("det").class_ids == list(range(45))


def test_links_to_files_are_followed_and_links_to_folders_are_not(download):
    path = download.image("cls", "train", "train_0.jpg")
    moved = download.raw / "elsewhere.jpg"
    path.rename(moved)
    path.symlink_to(moved)
    download.image("cls", "train", "more").symlink_to(download.data)
    download.image("cls", "train", "lost.jpg").symlink_to(download.raw / "nowhere")
    download.build("--tasks", "cls")
    split = download.meta("cls").splits["train"]
    assert split.samples == 7
    assert {r.file: r.reason.split(":")[0] for r in split.rejected} == {
        "more": "a folder",
        "lost.jpg": "cannot be read",
    }


def test_a_palette_mask_holds_ids(download):
    mask = np.full((HEIGHT, WIDTH), 18, np.uint8)
    download.mask("train", "train_0.jpg").write_bytes(png(mask, "P"))
    out = download.build("--tasks", "seg")
    assert members(out, "seg", "train")["train_0"]["png"] == png(mask, "P")


def test_a_box_may_stick_out_by_a_pixel(download):
    download.edit_json(lambda v: v["annotations"][0].update(bbox=[-1, -0.5, WIDTH + 2, HEIGHT + 1], area=3, iscrowd=1))
    out = download.build("--tasks", "det")
    box = json.loads(members(out, "det", "train")["train_0"]["json"])["annotations"][0]
    assert box == {"bbox": [-1, -0.5, WIDTH + 2, HEIGHT + 1], "category_id": 3, "iscrowd": 1, "area": 3}


def test_an_exif_orientation_changes_nothing(download):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = jpeg(5, exif=exif)
    download.image("det", "train", "train_0.jpg").write_bytes(data)
    out = download.build("--tasks", "det")
    sample = members(out, "det", "train")["train_0"]
    assert sample["jpg"] == data and json.loads(sample["json"])["width"] == WIDTH


# ---- rejections ----


def put(data):
    return lambda download, path: path.write_bytes(data)


def bomb():
    """A PNG that announces 30000 x 30000 pixels in a few bytes."""
    import struct
    import zlib

    def chunk(kind, payload):
        body = kind + payload
        return struct.pack(">I", len(payload)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


BROKEN = {
    "empty": (b"", "not a readable"),
    "text": (b"hello", "not a readable"),
    "gif": (b"GIF89a" + bytes(50), "not a readable"),
    "truncated": (jpeg(1, (300, 200))[:-2000], "cannot be decoded (image file is truncated"),
    "zeros": (jpeg(1, (300, 200))[:-20000] + bytes(20000), "cannot be decoded (no end of image)"),
    "bomb": (bomb(), "30000 x 30000 pixels, more than 100 million"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("task", ["cls", "det", "seg"])
def test_a_broken_image_is_rejected(download, task, kind):
    data, reason = BROKEN[kind]
    download.image(task, "train", "train_3.jpg").write_bytes(data)
    download.build("--tasks", task)
    split = download.meta(task).splits["train"]
    assert (split.found, split.samples) == (7, 6)
    assert [r.file for r in split.rejected] == ["train_3.jpg"] and reason in split.rejected[0].reason


def add_line(line):
    def spoil(download):
        with (download.data / "cls/train.txt").open("a") as file:
            file.write(line + "\n")

    return spoil


def add(task, name, data=b"x", split="train"):
    return lambda download: download.image(task, split, name).write_bytes(data)


def annotation(**change):
    return lambda download: download.edit_json(lambda v: v["annotations"][0].update(change))


def mask(data, name="train_0.jpg"):
    return lambda download: download.mask("train", name).write_bytes(data)


def twin(task):
    return lambda download: download.image(task, "train", "train_0.jpeg").write_bytes(jpeg(3))


def pixels(value, size=(HEIGHT, WIDTH)):
    return np.full(size, value, np.uint8)


ONE = {"file": "train_0.jpg"}
REJECTED = {
    "label too large": ("cls", add_line("train_0.jpg 200"), "listed with labels 0 and 200"),
    "label unlisted": ("cls", add("cls", "new.jpg", jpeg(1)), "new.jpg: not listed in train.txt"),
    "no image": ("cls", add("cls", "readme.txt"), "readme.txt: not an image file by its extension"),
    "hidden file": ("cls", add("cls", ".DS_Store"), ".DS_Store: not an image file"),
    "folder": ("cls", lambda d: d.image("cls", "train", "sub.jpg").mkdir(), "sub.jpg: a folder"),
    "twin": ("cls", twin("cls"), "train_0.jpg: same stem as train_0.jpeg"),
    "unlisted in json": ("det", add("det", "new.jpg", jpeg(1)), "new.jpg: not listed in train.json"),
    "nan": ("det", annotation(bbox=[float("nan"), 1, 2, 3]), "annotation 100: bbox [nan, 1, 2, 3] is not four finite"),
    "infinite": ("det", annotation(bbox=[1, 1, 10**400, 3]), "annotation 100: bbox"),
    "three": ("det", annotation(bbox=[1, 2, 3]), "annotation 100: bbox [1, 2, 3] is not four finite"),
    "text box": ("det", annotation(bbox="1,2,3,4"), "annotation 100: bbox '1,2,3,4'"),
    "flat": ("det", annotation(bbox=[1, 1, 0, 3]), "annotation 100: bbox [1, 1, 0, 3] has no area"),
    "negative": ("det", annotation(bbox=[5, 5, 4, -3]), "annotation 100: bbox [5, 5, 4, -3] has no area"),
    "outside right": ("det", annotation(bbox=[30, 1, 12, 3]), "sticks out of the 40 x 30 image"),
    "outside left": ("det", annotation(bbox=[-1.5, 1, 12, 3]), "sticks out of the 40 x 30 image"),
    "category": ("det", annotation(category_id=4), "annotation 100: category_id 4 is none of the categories"),
    "category type": ("det", annotation(category_id="3"), "annotation 100: category_id '3'"),
    "crowd": ("det", annotation(iscrowd=7), "annotation 100: iscrowd 7"),
    "area": ("det", annotation(area=float("inf")), "annotation 100: area inf"),
    "size": ("det", lambda d: d.edit_json(lambda v: v["images"][0].update(width=41)), "declared as 41 x 30 pixels"),
    "listed twice": ("det", lambda d: d.edit_json(lambda v: v["images"].append({"id": 77, "file_name": "train_0.jpg"})),
                     "train.json lists it twice, with ids 10 and 77"),
    "no mask": ("seg", lambda d: d.mask("train", "train_0.jpg").unlink(), "train_0.jpg: no mask train_0.png"),
    "ids": ("seg", mask(png(pixels(19))), "mask train_0.png: ids 19 are neither in 0..18 nor 255"),
    "mask size": ("seg", mask(png(pixels(1, (9, 8)))), "mask train_0.png: 8 x 9 pixels, but the image has 40 x 30"),
    "rgb mask": ("seg", mask(png(np.zeros((HEIGHT, WIDTH, 3), np.uint8))), "not an 8-bit single-channel PNG"),
    "16 bit": ("seg", mask(png(np.zeros((HEIGHT, WIDTH), np.uint16))), "not an 8-bit single-channel PNG"),
    "1 bit": ("seg", mask(png(np.zeros((HEIGHT, WIDTH), bool))), "not an 8-bit single-channel PNG"),
    "jpeg mask": ("seg", mask(jpeg(1)), "mask train_0.png: not a readable PNG"),
    "cut mask": ("seg", mask(png(np.random.default_rng(0).integers(0, 19, (HEIGHT, WIDTH), np.uint8))[:-100]),
                 "mask train_0.png: cannot be decoded"),
}  # fmt: skip


@pytest.mark.parametrize("case", REJECTED)
def test_what_is_wrong_with_one_image_rejects_it(download, case):
    task, spoil, reason = REJECTED[case]
    spoil(download)
    entries = len(list(download.image(task, "train", "").iterdir()))
    download.build("--tasks", task)
    split = download.meta(task).splits["train"]
    assert split.found == entries == split.samples + len(split.rejected)
    assert any(reason in f"{r.file}: {r.reason}" for r in split.rejected), split.rejected
    assert len(split.rejected) == (2 if case == "twin" else 1)


def test_a_png_image_has_its_mask_beside_it(download):
    image = png(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    download.image("seg", "train", "new.png").write_bytes(image)
    download.mask("train", "new.png").write_bytes(png(pixels(3)))
    out = download.build("--tasks", "seg")
    assert not download.meta("seg").splits["train"].rejected
    assert members(out, "seg", "train")["new"] == {"png": image, "mask.png": png(pixels(3))}


def test_a_label_outside_the_classes_rejects(download):
    (download.data / "cls/train.txt").write_text(
        "".join(f"train_{i}.jpg {(-1, 196, 195, 0, 1, 2, 3)[i]}\n" for i in range(7))
    )
    download.build("--tasks", "cls")
    reasons = [r.reason for r in download.meta("cls").splits["train"].rejected]
    assert reasons == ["label -1 is outside 0..195", "label 196 is outside 0..195"]


def test_test_images_without_a_line_are_rejected(download):
    path = download.test / "dec/test.txt"
    path.write_text("gone.jpg\n\ntest_1.jpg\ntest_0.jpg\ntest_0.jpg\n")
    download.image("det", "test", "new.jpg").write_bytes(jpeg(3))
    download.build("--tasks", "det")
    split = download.meta("det").splits["test"]
    assert {r.file: r.reason for r in split.rejected} == {
        "new.jpg": "not listed in test.txt",
        "test_0.jpg": "listed on lines 4 and 5 of test.txt",
    }
    assert [u.entry for u in split.unmatched] == ["test.txt:1 gone.jpg"]
    assert json.loads(members(download.out, "det", "test")["test_1"]["json"])["image_id"] == 3


def test_labels_without_an_image_are_unmatched_and_not_found(download):
    add_line("gone.jpg 1")(download)
    download.edit_json(lambda v: v["images"].append({"id": 50, "file_name": "gone.jpg"}))
    download.edit_json(
        lambda v: v["annotations"].append({"id": 7, "image_id": 999, "category_id": 3, "bbox": [1, 1, 2, 2]})
    )
    mask(png(pixels(1)), "gone.jpg")(download)
    (download.data / "seg/label/train/notes.txt").write_text("x")
    download.build()
    found = {}
    for task in ("cls", "det", "seg"):
        split = download.meta(task).splits["train"]
        assert split.found == split.samples == 7
        found[task] = [u.entry for u in split.unmatched]
    assert found == {
        "cls": ["train.txt:8 gone.jpg"],
        "det": ["train.json: annotation 7", "train.json: image 50 gone.jpg"],
        "seg": ["gone.png", "notes.txt"],
    }


def test_an_emptied_shard_leaves_no_hole(download):
    for number in range(7):
        if number != 4:
            download.image("cls", "train", f"train_{number}.jpg").write_bytes(b"broken")
    out = download.build("--tasks", "cls", "--samples-per-shard", "1")
    split = download.meta("cls").splits["train"]
    assert (split.found, split.samples, len(split.rejected)) == (7, 1, 6)
    assert sorted(path.name for path in (out / "cls").glob("train-*")) == ["train-000000.idx", "train-000000.tar"]


# ---- refusals ----


def lines(text):
    return lambda download: (download.data / "cls/train.txt").write_text(text)


def coco(change):
    return lambda download: download.edit_json(change)


def image0(**change):
    return coco(lambda v: v["images"][0].update(change))


REFUSED = {
    "no list": (lambda d: (d.data / "cls/train.txt").unlink(), "cls/train.txt: cannot be read (No such file"),
    "no json": (lambda d: (d.data / "dec/val.json").unlink(), "dec/val.json: cannot be read (No such file"),
    "no test list": (lambda d: (d.test / "dec/test.txt").unlink(), "dec/test.txt: cannot be read (No such file"),
    "no masks": (lambda d: (d.data / "seg/label/val").rename(d.raw / "x"), "seg/label/val: no such folder"),
    "no label": (lines("train_0.jpg 0\ntrain_1.jpg\n"), "cls/train.txt:2: 'train_1.jpg' is not '<file name>"),
    "no number": (lines("train_0.jpg zero\n"), "cls/train.txt:1: 'train_0.jpg zero' is not"),
    "folder in list": (lines("train/train_0.jpg 0\n"), "cls/train.txt:1: 'train/train_0.jpg' is not a bare file name"),
    "parent in list": (lines("../train_0.jpg 0\n"), "cls/train.txt:1: '../train_0.jpg' is not a bare file name"),
    "no names": (lambda d: (d.data / "cls/classes.txt").write_text("\n"), "cls/classes.txt: empty"),
    "blank name": (lambda d: (d.data / "cls/classes.txt").write_text("a\n\nb\n"), "cls/classes.txt:2: a blank line"),
    "many classes": (lambda d: (d.data / "seg/classes.txt").write_text("x\n" * 256), "256 classes, but 8-bit masks"),
    "malformed": (lambda d: d.write_json("train", '{"images": ['), "dec/train.json: malformed JSON"),
    "deep": (lambda d: d.write_json("train", "[" * 100000), "dec/train.json: malformed JSON"),
    "list": (lambda d: d.write_json("train", "[]"), "dec/train.json: not a JSON object"),
    "no images": (coco(lambda v: v.pop("images")), "dec/train.json: images is missing"),
    "no annotations": (coco(lambda v: v.pop("annotations")), "dec/train.json: annotations is missing"),
    "images type": (coco(lambda v: v.update(images={})), "dec/train.json: images is not a list"),
    "annotation type": (coco(lambda v: v["annotations"].append(3)), "dec/train.json: annotations[6] is not an object"),
    "categories type": (coco(lambda v: v.update(categories="x")), "dec/train.json: categories is not a list"),
    "no categories": (coco(lambda v: v.update(categories=[])), "dec/train.json: categories is empty"),
    "category id": (coco(lambda v: v["categories"][0].update(id="8")), "categories[0].id is '8'"),
    "category name": (coco(lambda v: v["categories"][0].pop("name")), "categories[0].name is None"),
    "category twice": (coco(lambda v: v["categories"][0].update(id=3)), "categories[1].id 3 is given twice"),
    "other categories": (coco(lambda v: v["categories"][0].update(name="c")),
                         "val.json: its categories are not those of train.json (only one of them has 8 'b')"),
    "image id": (image0(id=-1), "images[0].id is -1"),
    "image id type": (image0(id=True), "images[0].id is True"),
    "image id twice": (image0(id=11), "images[1].id 11 is given twice"),
    "width": (image0(width="40"), "images[0].width is '40'"),
    "no name": (image0(file_name=None), "images[0].file_name: None is not a bare file name"),
    "absolute": (image0(file_name="/etc/passwd"), "images[0].file_name: '/etc/passwd' is not a bare file name"),
    "empty split": (lambda d: [p.unlink() for p in d.image("cls", "val", "").iterdir()],
                    "cls: the val split's folder is empty; put its files there, or remove the folder and its list; "
                    "no cls/meta.json is written"),
    "all bad": (lambda d: [p.write_bytes(b"") for p in d.image("seg", "val", "").iterdir()],
                "seg: none of the 3 files of the val split can be used (the first: val_0.jpg: not a readable"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_spoils_a_task_is_refused(download, case):
    spoil, line = REFUSED[case]
    spoil(download)
    assert line in download.fail()
    task = (
        "seg"
        if case in ("no masks", "many classes", "all bad")
        else "cls"
        if "cls" in line or "list" in line
        else "det"
    )
    assert not (download.out / task / "meta.json").exists()


def test_other_tasks_are_finished_beside_an_empty_one(download):
    REFUSED["all bad"][0](download)
    download.fail()
    assert download.meta("cls").splits["train"].samples == 7
    assert download.meta("det").splits["train"].samples == 7


# ---- what is absent ----


def remove(folder):
    import shutil

    shutil.rmtree(folder)


def test_absent_splits_and_tasks_are_noted(download, capsys):
    remove(download.test)
    remove(download.data / "seg")
    download.build()
    printed = capsys.readouterr().out
    assert "note: cls: no test split (track1_test_data/cls/test is absent)" in printed
    assert "note: seg: skipped, none of its folders is there" in printed
    assert set(download.meta("det").splits) == {"train", "val"}
    assert not (download.out / "seg").exists()


def test_a_named_task_must_be_there(download):
    remove(download.data / "seg")
    remove(download.test / "seg")
    assert "--tasks seg: --raw" in download.fail("--tasks", "seg")


def test_the_test_split_alone_can_be_built(download):
    remove(download.data)
    download.build()
    assert download.meta("det").num_classes == 45 and set(download.meta("det").splits) == {"test"}


# ---- real data ----

EXPECTED = {"cls": (1003, 147, 496), "det": (685, 122, 378), "seg": (367, 101, 233)}


def test_real_data_come_back_byte_for_byte(real_data, tmp_path):
    from shards.build import main

    raw = real_data / "track1_mini"
    main(["--raw", str(raw), "--out", str(tmp_path), "--workers", "2"])
    for task, counts in EXPECTED.items():
        for split, count in zip(("train", "val", "test"), counts, strict=True):
            samples = members(tmp_path, task, split)
            assert len(samples) == count
            folder = raw / ("track1_test_data" if split == "test" else "track1_train_data")
            folder = folder / {"cls": "cls", "det": "dec", "seg": "seg/images"}[task] / split
            assert Counter(sample["jpg"] for sample in samples.values()) == Counter(
                path.read_bytes() for path in Path(folder).iterdir()
            )

"""Raw downloads: one bad image is a rejection that is counted, a bad list refuses the task; and bad places to write."""

import json
import os
import shutil

import numpy as np
import pytest
from refusals import DEEP, FILES, HUGE, JSON, make_folder, nested, parametrized, put, refusal, sparse
from small_download import HEIGHT, WIDTH, jpeg, png
from test_bad_samples import bmp_of, jpeg_of, png_of, saved, text_bomb

from shards.layouts.files import MAX_FILE_BYTES
from ufo_ds.data.shards import ShardSet

BROKEN = {
    "empty": (b"", "not a readable"),
    "text": (b"<html>404</html>", "not a readable"),
    "zeros": (bytes(4000), "not a readable"),
    "cut": (jpeg(1)[:-100], "cannot be decoded"),
    "start of a JPEG": (b"\xff\xd8\xff", "not a readable"),
    "GIF": (saved("GIF"), "not a readable"),
    "TIFF": (saved("TIFF"), "not a readable"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a readable"),
    "PNG bomb": (png_of(100_000, 100_000), "100000 x 100000 pixels, more than 100 million"),
    "JPEG bomb": (jpeg_of(65000, 65000), "65000 x 65000 pixels, more than 100 million"),
    "BMP bomb": (bmp_of(90_000, 90_000), "90000 x 90000 pixels, more than 100 million"),
    "PNG text bomb": (text_bomb(), "broken image"),
    "PNG without data": (png_of(40, 30)[:33], "not a readable"),
}  # fmt: skip


def found(download, task, split="train"):
    """Build one task; its rejections. Nothing is lost, nothing half-written, and what is written can be read."""
    entries = len(list(download.image(task, split, "").iterdir()))
    download.build("--tasks", task)
    meta = download.meta(task).splits[split]
    assert meta.found == entries == meta.samples + len(meta.rejected)
    assert not [path for path in download.out.rglob("*") if path.suffix in (".tmp", ".state", ".partial")]
    samples = ShardSet(download.out, task, split)
    assert len([samples[i] for i in range(len(samples))]) == meta.samples
    return [f"{item.file}: {item.reason}" for item in meta.rejected]


@pytest.mark.parametrize("task", ["cls", "det", "seg"])
@parametrized(BROKEN)
def test_a_broken_image_is_a_rejection(download, task, case):
    data, reason = case
    download.image(task, "train", "train_2.jpg").write_bytes(data)
    rejected = found(download, task)
    assert len(rejected) == 1 and rejected[0].startswith("train_2.jpg: ") and reason in rejected[0]


def entry(**change):
    return lambda download: download.edit_json(lambda value: value["annotations"][0].update(change))


def mask(data):
    return lambda download: download.mask("train", "train_0.jpg").write_bytes(data)


def image(task, name="train_0.jpg"):
    return lambda download: download.image(task, "train", name)


REJECTED = {
    "link to itself": ("cls", lambda d: FILES["link to itself"](image("cls")(d)), "cannot be read: Too many levels"),
    "folder": ("cls", lambda d: make_folder(image("cls")(d)), "train_0.jpg: a folder"),
    "fifo": ("cls", lambda d: os.mkfifo(image("cls", "new.jpg")(d)), "new.jpg: not a regular file"),
    "device": ("cls", lambda d: image("cls", "new.jpg")(d).symlink_to("/dev/zero"), "new.jpg: not a regular file"),
    "archive": ("cls", lambda d: image("cls", "new.tar.gz")(d).write_bytes(b"x"), "new.tar.gz: not an image file"),
    "larger than any": ("cls", lambda d: sparse(image("cls")(d), MAX_FILE_BYTES + 1), "larger than 256 MiB"),
    "forbidden": ("cls", lambda d: FILES["forbidden"](image("cls")(d)), "cannot be read: Permission denied"),
    "box deep": ("det", entry(bbox=json.loads(nested(900))), "annotation 100: bbox [[["),
    "box null": ("det", entry(bbox=None), "annotation 100: bbox None"),
    "box of true": ("det", entry(bbox=[True, 1, 2, 3]), "annotation 100: bbox [True, 1, 2, 3]"),
    "box absurd": ("det", entry(bbox=[0, 0, 1e150, 1e150]), "annotation 100: bbox [0, 0, 1e+150, 1e+150] sticks out"),
    "box of huge integers": ("det", entry(bbox=[1, 1, 10**300, 10**300]), "annotation 100: "),
    "box outside": ("det", entry(bbox=[1000, 1000, 5, 5]), "sticks out of the 40 x 30 image"),
    "area negative": ("det", entry(area=-1), "annotation 100: area -1"),
    "area text": ("det", entry(area="12"), "annotation 100: area '12'"),
    "crowd list": ("det", entry(iscrowd=[]), "annotation 100: iscrowd []"),
    "category null": ("det", entry(category_id=None), "annotation 100: category_id None"),
    "category huge": ("det", entry(category_id=10**30), "annotation 100: category_id 1000"),
    "id deep": ("det", entry(id=json.loads(nested(900)), bbox=0), "annotation [[["),
    "mask empty": ("seg", mask(b""), "mask train_0.png: not a readable PNG"),
    "mask bomb": ("seg", mask(png_of(100_000, 100_000)), "mask train_0.png: 100000 x 100000 pixels, more than"),
    "mask palette bomb": ("seg", mask(png_of(20_000, 20_000, colour=3)), "20000 x 20000 pixels, more than"),
    "mask of one pixel": ("seg", mask(png(np.zeros((1, 1), np.uint8))), "1 x 1 pixels, but the image has 40 x 30"),
    "mask on its side": ("seg", mask(png(np.zeros((WIDTH, HEIGHT), np.uint8))), "30 x 40 pixels, but the image"),
    "mask with alpha": ("seg", mask(saved("PNG", "LA")), "not an 8-bit single-channel PNG"),
    "mask of 4 bits": ("seg", mask(png_of(40, 30, depth=4)), "not an 8-bit single-channel PNG"),
    "mask folder": ("seg", lambda d: make_folder(d.mask("train", "train_0.jpg")), "mask train_0.png: a folder"),
    "mask id 254": ("seg", mask(png(np.full((HEIGHT, WIDTH), 254, np.uint8))), "ids 254 are neither in 0..18 nor 255"),
}  # fmt: skip


@parametrized(REJECTED)
def test_what_is_wrong_with_one_image_is_a_rejection(download, case):
    task, spoil, reason = case
    spoil(download)
    rejected = found(download, task)
    assert len(rejected) == 1 and reason in rejected[0], rejected


COCO = {
    "category name not printable": (lambda v: v["categories"][0].update(name="a\nb"), "categories[0].name is 'a\\nb'"),
    "category name a surrogate": (lambda v: v["categories"][0].update(name="\ud800"), "categories[0].name is"),
    "category name empty": (lambda v: v["categories"][0].update(name=""), "categories[0].name is ''"),
    "category id huge": (lambda v: v["categories"][0].update(id=10**30), "categories[0].id is 1000"),
    "category id NaN": (lambda v: v["categories"][0].update(id=float("nan")), "categories[0].id is nan"),
    "image id huge": (lambda v: v["images"][0].update(id=10**30), "images[0].id is 1000"),
    "image id float": (lambda v: v["images"][0].update(id=10.5), "images[0].id is 10.5"),
    "image id deep": (lambda v: v["images"][0].update(id=json.loads(nested(900))), "images[0].id is [[["),
    "width zero": (lambda v: v["images"][0].update(width=0), "images[0].width is 0"),
    "height negative": (lambda v: v["images"][0].update(height=-30), "images[0].height is -30"),
    "height infinite": (lambda v: v["images"][0].update(height=float("inf")), "images[0].height is inf"),
    "name climbs": (lambda v: v["images"][0].update(file_name="../train_0.jpg"), "is not a bare file name"),
    "name with NUL": (lambda v: v["images"][0].update(file_name="a\0.jpg"), "is not a bare file name"),
    "name of Windows": (lambda v: v["images"][0].update(file_name="..\\a.jpg"), "is not a bare file name"),
    "name a list": (lambda v: v["images"][0].update(file_name=["a.jpg"]), "is not a bare file name"),
    "name two dots": (lambda v: v["images"][0].update(file_name=".."), "is not a bare file name"),
    "name long": (lambda v: v["images"][0].update(file_name="/" * 10**6), "is not a bare file name"),
    "images null": (lambda v: v.update(images=None), "images is not a list"),
    "image text": (lambda v: v["images"].append("x"), "images[7] is not an object"),
}  # fmt: skip


def refused(download, fragment, task):
    """The task is refused in one line, and not a file of it is there."""
    line = refusal(lambda: download.build("--tasks", task), download.raw.parent, fragment)
    assert not list(download.out.rglob("*.*"))
    return line


@parametrized(COCO)
def test_a_broken_coco_file_is_named(download, case):
    change, fragment = case
    download.edit_json(change)
    assert str(download.data / "dec/train.json") in refused(download, fragment, "det")


@pytest.mark.parametrize("name", JSON)
def test_a_file_that_is_no_coco_is_named(download, name):
    path = download.data / "dec/train.json"
    JSON[name](path)
    assert str(path) in refused(download, "", "det")


LISTS = {
    "label huge": f"train_0.jpg {HUGE}",
    "label float": "train_0.jpg 1.0",
    "label in other digits": "train_0.jpg \u0661",
    "comma": "train_0.jpg,1",
    "NUL": "train_0\0.jpg 1",
    "climbs": "../train_0.jpg 1",
    "absolute": "/train_0.jpg 1",
    "JSON": '{"train_0.jpg": 1}',
}


@pytest.mark.parametrize("name", LISTS)
def test_a_broken_list_is_named(download, name):
    path = download.data / "cls/train.txt"
    path.write_text(f"train_1.jpg 1\n{LISTS[name]}\n")
    refused(download, f"{path}:2: ", "cls")


@pytest.mark.parametrize("name", [name for name in FILES if name != "empty"])
@pytest.mark.parametrize("place", ["cls/train.txt", "cls/classes.txt", "seg/classes.txt"])
def test_a_file_that_is_no_list_is_named(download, name, place):
    path, task = download.data / place, place[:3]
    if "classes" in place:
        if name in ("absent", "link to itself"):
            pytest.skip("without this file the challenge's own classes are taken")
        path.write_text("".join(f"class {i}\n" for i in range(19)))
    FILES[name](path)
    refused(download, str(path), task)


def test_a_list_of_absurd_size_is_not_read(download):
    sparse(download.data / "cls/val.txt", 2**30 + 1)
    refused(download, "cls/val.txt: larger than 1024 MiB", "cls")


def test_a_folder_that_cannot_be_listed_is_named(download, monkeypatch):
    from shards.layouts import files

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.Path, "iterdir", refuse)
    with pytest.raises(files.UserError, match=r"cls/train: cannot be listed \(Permission denied\)"):
        files.Folder(download.data / "cls/train")


# ---- where the shards go ----


@pytest.mark.parametrize(
    "spoil",
    [put("x"), lambda path: path.symlink_to(path), lambda path: path.symlink_to("/dev/null")],
    ids=["file", "link to itself", "device"],
)
@pytest.mark.parametrize("place", ["out", "out/cls", "out/below/it"])
def test_a_place_that_cannot_be_written_is_named(download, spoil, place):
    path = download.raw.parent / place.removesuffix("/below/it")
    path.parent.mkdir(exist_ok=True)
    spoil(path)
    out = download.raw.parent / ("out" if place == "out/cls" else place)
    refusal(lambda: download.build("--tasks", "cls", out=out), download.raw, "cannot be written")


def info(**change):
    """A change of what the last build noted of its shard."""

    def spoil(path):
        record = json.loads(path.read_text())
        for name, text in record["shards"].items():
            value = json.loads(text)
            value["info"].update(change)
            record["shards"][name] = json.dumps(value)
        record["plan"] = ""
        path.write_text(json.dumps(record))

    return spoil


RECORDS = {
    **{name: spoil for name, spoil in JSON.items() if name not in ("folder", "link to itself")},
    "shards a list": put('{"plan": "", "shards": []}'),
    "shard a number": put('{"plan": "", "shards": {"train-000000.tar": 3}}'),
    "shard deep": put(json.dumps({"plan": "", "shards": {"train-000000.tar": "[" * DEEP}})),
    "another shard": info(name="../../etc/passwd"),
    "name a number": info(name=7),
    "samples negative": info(samples=-1),
    "samples text": info(samples="7"),
    "sum null": info(sha256=None),
    "more keys": info(more=1),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_spoiled_note_of_the_last_build_is_of_no_effect(built, download, name):
    """It is the builder's own, so it is not the user's mistake: the task is built anew, with the same bytes."""
    shutil.copytree(built.out, download.out)
    RECORDS[name](download.out / "cls/.build.json")
    assert found(download, "cls") == []
    for path in sorted((built.out / "cls").glob("[!.]*")):
        assert (download.out / "cls" / path.name).read_bytes() == path.read_bytes(), path.name

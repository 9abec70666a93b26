"""Public downloads from strangers: a bad list refuses the task in one line, a bad image or label is a rejection."""

import json
import random
import struct
import zlib

import numpy as np
import pytest
import scipy.io
from public_downloads import BOX, Cars, CarsArchive, Scenes, Signs, annotations, cell
from refusals import FILES, HUGE, JSON, nested, parametrized, put, refusal, sparse
from small_download import HEIGHT, WIDTH, png
from test_bad_samples import png_of

from shards.layouts.matlab import MAX_BYTES, read_mat
from ufo_ds.errors import UserError

# ---- MATLAB files ----

HEAD = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind, shape, body, name=b""):
    flags, dimensions = struct.pack("<II", kind, 0), struct.pack(f"<{len(shape)}i", *shape)
    return element(14, element(6, flags) + element(5, dimensions) + element(1, name) + body)


def cells(depth):
    """`annotations` as that many cells within one another, without the recursion that would take."""
    parts, size = [], 0
    for number in range(depth):
        name = b"annotations" if number == depth - 1 else b""
        head = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<2i", 1, 1)) + element(1, name)
        parts.append(struct.pack("<II", 14, size + len(head)) + head)
        size += len(parts[-1])
    return HEAD + b"".join(reversed(parts))


def variable(body, kind=2, shape=(1, 1)):
    return HEAD + matrix(kind, shape, body, b"annotations")


def saved(value):
    return lambda path: scipy.io.savemat(path, {"annotations": value})


def fields(*names, width=8):
    return element(5, struct.pack("<i", width)) + element(1, b"".join(name.ljust(width, b"\0") for name in names))


def bomb(path):
    """64 MiB and more of zeros in 64 kB."""
    data = zlib.compress(element(14, bytes(MAX_BYTES)), 9)
    path.write_bytes(HEAD + struct.pack("<II", 15, len(data)) + data)


row = {**BOX, "class": 1, "fname": "00001.jpg"}
MAT = {
    **FILES,
    "text": put("class_names = {'a'}"),
    "no header": put(HEAD[:100]),
    "header alone": put(HEAD),
    "version 7.3": put(b"MATLAB 7.3 MAT-file".ljust(512)),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "larger than the limit": lambda path: sparse(path, MAX_BYTES + 1),
    "broken zlib": put(HEAD + struct.pack("<II", 15, 40) + bytes(40)),
    "cells within cells": put(cells(200_000)),
    "a billion cells": put(variable(b"", 1, (2**30, 2**30))),
    "a billion structures": put(variable(fields(b"fname"), 2, (2**30, 4))),
    "negative size": put(variable(fields(b"fname"), 2, (-1, -1))),
    "no fields": put(variable(element(5, struct.pack("<i", 8)) + element(1, b""))),
    "fields of no width": put(variable(fields(b"fname", width=0))),
    "a field twice": put(variable(fields(b"fname", b"fname"))),
    "an object": put(variable(b"", 3)),
    "a function": put(variable(element(14, b""), 16)),
    "opaque": put(variable(b"", 17)),
    "sparse": put(variable(b"", 5)),
    "element beyond the end": put(HEAD + struct.pack("<II", 14, 10**6) + bytes(16)),
    "a number": saved(3.0),
    "a cell": saved(cell(["a"])),
    "other fields": saved(annotations([{"a": 1}])),
    "names are numbers": saved(annotations([{**row, "fname": 7}])),
    "a name climbs": saved(annotations([{**row, "fname": "../00001.jpg"}])),
    "a name is absolute": saved(annotations([{**row, "fname": "/00001.jpg"}])),
    "a name with NUL": put(variable(fields(b"fname") + matrix(4, (1, 3), element(16, b"a\0b")))),
    "a name that is no text": put(variable(fields(b"fname") + matrix(4, (1, 3), element(16, b"\xff\xfe\xfd")))),
    "names on two lines": put(variable(fields(b"fname") + matrix(4, (2, 2), element(16, b"abcd")))),
    "an empty name": saved(annotations([{**row, "fname": ""}])),
    "no rows": saved(np.empty((1, 0), [("fname", object), ("class", object)])),
}


@parametrized(MAT)
def test_a_broken_annotations_file_is_named(tmp_path, case):
    cars = Cars(tmp_path)
    path = cars.raw / "devkit/cars_train_annos.mat"
    case(path)
    refusal(cars.build, cars.raw.parent, str(path))


def test_what_unfolds_without_end_is_not_unfolded(tmp_path):
    bomb(tmp_path / "a.mat")
    assert (tmp_path / "a.mat").stat().st_size < 100_000
    refusal(lambda: read_mat(tmp_path / "a.mat", ["a"]), tmp_path, "a.mat", "it unfolds to more than 64 MiB")


NAMES = {
    "absent": lambda path: path.unlink(),
    "text": put("Audi A4"),
    "empty": lambda path: scipy.io.savemat(path, {"class_names": cell([])}),
    "numbers": lambda path: scipy.io.savemat(path, {"class_names": np.arange(4.0)}),
    "a control character": lambda path: scipy.io.savemat(path, {"class_names": cell(["a\x1b[2J"])}),
    "another variable": lambda path: scipy.io.savemat(path, {"names": cell(["a"])}),
}


@parametrized(NAMES)
def test_broken_class_names_are_named(tmp_path, case):
    cars = Cars(tmp_path)
    path = cars.raw / "devkit/cars_meta.mat"
    case(path)
    refusal(cars.build, cars.raw.parent, str(path))


@pytest.mark.parametrize("value", [0, 5, 300])
def test_a_class_that_is_none_is_a_rejection(tmp_path, value):
    cars = Cars(tmp_path)
    cars.train[0]["class"] = value
    cars.save()
    train = cars.build().splits["train"]
    assert [item.file for item in train.rejected] == ["00001.jpg"] and train.found == 7
    assert f"class {value} is outside 1..4" in train.rejected[0].reason


@pytest.mark.parametrize("value", ["x", np.zeros((0, 0)), np.array([[1, 2]]), np.nan, np.inf, 1.5, 1e300])
def test_a_class_that_is_no_number_is_a_rejection(tmp_path, value):
    cars = Cars(tmp_path)
    records = annotations(cars.train)
    records["class"][0, 0] = value
    saved(records)(cars.raw / "devkit/cars_train_annos.mat")
    train = cars.build().splits["train"]
    assert [item.file for item in train.rejected] == ["00001.jpg"] and train.samples == 6


def test_an_archive_without_classes_is_named(tmp_path):
    archive = CarsArchive(tmp_path)
    for entry in archive.rows:
        del entry["class"]
    archive.save()
    refusal(archive.build, archive.raw.parent, "cars_annos.mat: annotations have no class")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_garbled_file_is_read_or_refused(tmp_path, compressed):
    path, draw = tmp_path / "a.mat", random.Random(0)
    scipy.io.savemat(path, {"annotations": annotations([row] * 3)}, do_compression=compressed)
    sound = path.read_bytes()
    refused = 0
    for _ in range(400):
        data = bytearray(sound)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(124, len(data))] = draw.choice((0, 1, 14, 15, 127, 128, 255, draw.randrange(256)))
        path.write_bytes(data)
        try:
            read_mat(path, ["annotations"])
        except UserError:
            refused += 1
    assert refused > 100


# ---- TT100K ----


def edit(change):
    def spoil(signs):
        change(signs.value)
        signs.save()

    return spoil


def first(**change):
    return edit(lambda value: value["imgs"]["100"].update(change))


TT100K = {
    "no types": (edit(lambda v: v.pop("types")), "types is None"),
    "types text": (edit(lambda v: v.update(types="pl5")), "types is 'pl5'"),
    "types empty": (edit(lambda v: v.update(types=[])), "types is []"),
    "type a number": (edit(lambda v: v["types"].append(5)), "types[5] is 5"),
    "type not printable": (edit(lambda v: v["types"].append("a\n")), "types[5] is 'a\\n'"),
    "type twice": (edit(lambda v: v["types"].append("pl5")), "types has 'pl5' twice"),
    "no imgs": (edit(lambda v: v.pop("imgs")), "imgs is missing"),
    "imgs a list": (edit(lambda v: v.update(imgs=[])), "imgs is not an object"),
    "image null": (edit(lambda v: v["imgs"].update({"100": None})), "imgs['100'] is not an object"),
    "no path": (edit(lambda v: v["imgs"]["100"].pop("path")), "imgs['100'].path is None"),
    "path a list": (first(path=["train", "100.jpg"]), "imgs['100'].path is ["),
    "path climbs": (first(path="train/.."), "'..' is not a bare file name"),
    "path of Windows": (first(path="train\\100.jpg"), "is not a bare file name"),
    "path with NUL": (first(path="train/a\0.jpg"), "is not a bare file name"),
    "path of a folder": (first(path="train/"), "'' is not a bare file name"),
}


@parametrized(TT100K)
def test_broken_signs_are_named(tmp_path, case):
    signs, (spoil, fragment) = Signs(tmp_path), case
    spoil(signs)
    refusal(signs.build, signs.raw.parent, str(signs.raw / "data/annotations.json"), fragment)


@pytest.mark.parametrize("name", [name for name in JSON if name != "absent"])
def test_a_file_that_holds_no_signs_is_named(tmp_path, name):
    signs = Signs(tmp_path)
    path = signs.raw / "data/annotations.json"
    JSON[name](path)
    refusal(signs.build, signs.raw.parent, str(path))


def test_a_download_without_annotations_is_named(tmp_path):
    signs = Signs(tmp_path)
    (signs.raw / "data/annotations.json").unlink()
    refusal(signs.build, signs.raw.parent, "data/annotations.json: no such file, nor annotations_all.json")


@pytest.mark.parametrize("name", ["folder", "pipe", "device", "forbidden", "link to itself"])
def test_a_list_of_ids_that_is_none_is_named(tmp_path, name):
    signs = Signs(tmp_path)
    path = signs.raw / "data/test/ids.txt"
    FILES[name](path)
    if name == "link to itself":
        signs.build()  # as if it were absent
    else:
        refusal(signs.build, signs.raw.parent, str(path))


def box(**change):
    value = {"xmin": 1, "ymin": 1, "xmax": 9, "ymax": 9} | change
    return first(objects=[{"category": "pl5", "bbox": value}])


SIGNS = {
    "objects missing": (edit(lambda v: v["imgs"]["100"].pop("objects")), "objects is None"),
    "objects text": (first(objects="pl5"), "objects is 'pl5'"),
    "object a number": (first(objects=[3]), "objects[0].category is None"),
    "category a list": (first(objects=[{"category": ["pl5"]}]), "objects[0].category is ['pl5']"),
    "no box": (first(objects=[{"category": "pl5"}]), "objects[0]: bbox None is not"),
    "box a list": (first(objects=[{"category": "pl5", "bbox": [1, 2, 3]}]), "objects[0]: bbox [1, 2, 3] is not"),
    "box NaN": (box(xmax=float("nan")), "objects[0]: bbox {"),
    "box infinite": (box(xmin=float("-inf")), "objects[0]: bbox {"),
    "box text": (box(ymax="9"), "objects[0]: bbox {"),
    "box null": (box(ymin=None), "objects[0]: bbox {"),
    "box huge": (box(ymax=10**400), "objects[0]: bbox {"),
    "box turned round": (box(xmax=0.5), "objects[0]: bbox [1, 1, -0.5, 8] has no area"),
    "box absurd": (box(xmax=1e300), "objects[0]: bbox [1, 1, 1e+300, 8] sticks out of the 40 x 30 image"),
    "box of huge integers": (box(xmax=10**300), "objects[0]: "),
    "id text": (first(id="100"), "its id is '100', its key '100'"),
    "id float": (first(id=100.0), "its id is 100.0, its key '100'"),
    "id huge": (first(id=10**30), "its id is 1000"),
    "id null": (first(id=None), "its id is None"),
    "id deep": (first(id=json.loads(nested(500))), "its id is [[["),
}


@parametrized(SIGNS)
def test_what_is_wrong_with_one_image_of_signs_is_a_rejection(tmp_path, case):
    signs, (spoil, reason) = Signs(tmp_path), case
    spoil(signs)
    train = signs.build().splits["train"]
    assert [item.file for item in train.rejected] == ["100.jpg"] and reason in train.rejected[0].reason
    assert train.samples == 5 and len(train.rejected[0].reason) < 200


@pytest.mark.parametrize("key", [HUGE, "1e3", "-1", "0100", "\u0661", "", " 1", "a/b"])
def test_a_key_that_is_no_id_is_a_rejection(tmp_path, key):
    signs = Signs(tmp_path)
    entry = signs.value["imgs"].pop("100")
    del entry["id"]
    signs.value["imgs"][key] = entry
    signs.save()
    train = signs.build().splits["train"]
    assert [item.file for item in train.rejected] == ["100.jpg"] and "its key " in train.rejected[0].reason


OPTIONS = {
    "classes": "--layout-option classes: write it as NAME=VALUE",
    "classes=": "write it as NAME=VALUE",
    "=all": "write it as NAME=VALUE",
    "classes=min:": "N must be a whole number from 0 up",
    "classes=min:-1": "N must be a whole number",
    "classes=min:" + HUGE[:40]: "N must be a whole number",
    "classes=min:1000": "there is no box of such a class; try classes=all",
    "classes=pl5,px": "'px' is none of the types of the annotations",
    "colours=all": "no option of the layout tt100k, which has classes: 45 (the paper's, by default), all",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_bad_option_is_named(tmp_path, option):
    signs = Signs(tmp_path)
    refusal(lambda: signs.build("--layout-option", option), signs.raw.parent, OPTIONS[option])


def test_an_option_is_given_once_and_to_the_layout_that_has_it(tmp_path):
    twice = ["--layout-option", "classes=all", "--layout-option", "classes=45"]
    refusal(lambda: Signs(tmp_path / "a").build(*twice), tmp_path / "b", "classes is given twice")
    scenes = Scenes(tmp_path / "c")
    refusal(lambda: scenes.build(*twice[:2]), scenes.raw.parent, "no option of the layout bdd100k, which has none")


def test_signs_of_other_classes_alone_are_not_built(tmp_path):
    signs = Signs(tmp_path)
    for entry in signs.value["imgs"].values():
        entry["objects"] = [sign for sign in entry["objects"] if sign["category"] == "w30"]
    signs.save()
    refusal(signs.build, signs.raw.parent, "classes=45: there is no box of such a class; try classes=all")


# ---- BDD100K, and folders that are not there ----

PIXELS = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
MASKS = {
    "empty": (b"", "not a readable PNG"),
    "text": (b"<html>404</html>", "not a readable PNG"),
    "cut": (png(PIXELS)[:-40], "cannot be decoded"),
    "bomb": (png_of(100_000, 100_000, colour=2), "100000 x 100000 pixels, more than"),
    "palette without colours": (png_of(WIDTH, HEIGHT, colour=3), "mask ta0-00000000.png: "),
    "on its side": (png(PIXELS.transpose(1, 0, 2)), "30 x 40 pixels, but the image has 40 x 30"),
    "other colours": (png(PIXELS + 1), "(1, 1, 1)"),
    "noise": (png(np.random.default_rng(0).integers(0, 256, PIXELS.shape, np.uint8)), "mask ta0-00000000.png: "),
}


@parametrized(MASKS)
def test_a_bad_colour_map_is_a_rejection(tmp_path, case):
    scenes, (data, reason) = Scenes(tmp_path), case
    scenes.colour("RGB")
    (scenes.raw / scenes.MASKS).rename(scenes.raw / "aside")
    (scenes.raw / scenes.COLOURS / "train/ta0-00000000.png").write_bytes(data)
    train = scenes.build().splits["train"]
    assert [item.file for item in train.rejected] == ["ta0-00000000.jpg"] and reason in train.rejected[0].reason
    assert train.samples == 4 and len(train.rejected[0].reason) < 200


def test_masks_that_are_not_there_are_named(tmp_path):
    scenes = Scenes(tmp_path)
    (scenes.raw / scenes.MASKS / "val").rename(scenes.raw / "aside")
    refusal(scenes.build, scenes.raw.parent, "sem_seg/masks/val: no such folder; it must hold the masks (PNG) of")


@pytest.mark.parametrize("kind", [Cars, Signs, Scenes])
def test_another_folder_is_told_what_it_lacks(tmp_path, kind):
    download = kind(tmp_path)
    (tmp_path / "empty").mkdir()
    download.raw = tmp_path / "empty"
    refusal(download.build, tmp_path, "nothing to build, it must hold ")
    other = "seg" if download.task == "cls" else "cls"
    refusal(lambda: download.build("--tasks", other), tmp_path, f"--tasks {other}: ")

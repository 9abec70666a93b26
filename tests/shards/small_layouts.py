"""Small raw data in each generic layout, made on the fly, that a test can spoil. Images are 40 x 30."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_download import HEIGHT, WIDTH, jpeg, png

from shards.build import main
from ufo_ds.data.schema import TaskMeta
from ufo_ds.data.shards import ShardSet
from ufo_ds.errors import UserError

XML = """<annotation><folder>VOC2007</folder><filename>{stem}.jpg</filename>
<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size><segmented>0</segmented>{objects}</annotation>"""
OBJECT = """<object><name>{name}</name><pose>Left</pose><truncated>1</truncated><difficult>{difficult}</difficult>
<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"""


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def image(path, size=(WIDTH, HEIGHT)):
    """A JPEG that no other path gives."""
    return write(path, jpeg(list(str(path).encode()), size))


def build(layout, raw, out, *options):
    """Build in this process; every file is a sample or a rejection, and what is written can be read."""
    main(["--layout", layout, "--raw", str(raw), "--out", str(out), "--workers", "1", *options])
    task = {"folder": "cls", "masks": "seg"}.get(layout, "det")
    meta = TaskMeta.read(out, task)
    for name, split in meta.splits.items():
        assert split.found == split.samples + len(split.rejected)
        samples = ShardSet(out, task, name)
        assert len({samples[number].file_name for number in range(len(samples))}) == split.samples
    return meta


def fail(layout, raw, out, *options):
    with pytest.raises(UserError) as error:
        build(layout, raw, out, *options)
    line = str(error.value)
    assert "\n" not in line and len(line) < 700, line
    return line


def samples(out, task, split):
    """Members of each sample by file name."""
    shards = ShardSet(out, task, split)
    return {shards[number].file_name: shards[number].members for number in range(len(shards))}


def boxes(out, split):
    """(category id, box, crowd) of each object, by file name."""
    found = {}
    for name, members in samples(out, "det", split).items():
        value = json.loads(members["json"])
        assert value["file_name"] == name
        items = value.get("annotations")
        found[name] = None if items is None else [(i["category_id"], i["bbox"], i["iscrowd"]) for i in items]
    return found


def rejected(meta, split="train"):
    return {item.file: item.reason for item in meta.splits[split].rejected}


# ---- the layouts ----


def make_folder(raw, counts=None, size=(WIDTH, HEIGHT)):
    """`<split>/<class>/0.jpg`: equal names in all classes. A split "" means none."""
    for split, count in (counts or {"train": 3, "val": 1}).items():
        for name in ("cat", "dog"):
            for number in range(count):
                image(raw / split / name / f"{number}.jpg", size)
    return raw


def make_voc(raw, counts=None, size=(WIDTH, HEIGHT), name="sign"):
    """Objects: a sign on the pixels 0..9 x 1..10 of every image, and a difficult lamp on each second."""
    for split, count in (counts or {"train": 4, "val": 2}).items():
        stems = [f"{split}_{number}" for number in range(count)]
        for number, stem in enumerate(stems):
            image(raw / f"JPEGImages/{stem}.jpg", size)
            objects = OBJECT.format(name=name, difficult=0, box=(1, 2, 10, 11))
            objects += OBJECT.format(name="lamp", difficult=1, box=(5, 5, 30, 20)) if number % 2 else ""
            write(raw / f"Annotations/{stem}.xml", XML.format(stem=stem, size=size, objects=objects))
        if split:
            write(raw / f"ImageSets/Main/{split}.txt", "".join(f"{stem}\n" for stem in stems))
    return raw


def make_yolo(raw, counts=None, yaml=True, size=(WIDTH, HEIGHT)):
    """A sign of a quarter of the image in its middle; the last image of a split has no label file."""
    for split, count in (counts or {"train": 4, "val": 2}).items():
        for number in range(count):
            image(raw / "images" / split / f"{number}.jpg", size)
            if number < count - 1 or count == 1:
                write(raw / "labels" / split / f"{number}.txt", f"{number % 2} 0.5 0.5 0.5 0.5\n")
    if yaml:
        write(raw / "data.yaml", "path: ../there\ntrain: images/train\nval: images/val\nnames: {0: sign, 1: lamp}\n")
    else:
        write(raw / "classes.txt", "sign\nlamp\n")
    return raw


def make_coco(raw, counts=None, folder="{}2017", file="annotations/instances_{}2017.json", sub=""):
    """Category ids 3 and 8; the last image of a split has no annotation."""
    for split, count in (counts or {"train": 4, "val": 2}).items():
        names = [f"{sub}{number}.jpg" for number in range(count)]
        for name in names:
            image(raw / folder.format(split) / name)
        value = {
            "images": [{"id": n + 7, "file_name": f, "width": WIDTH, "height": HEIGHT} for n, f in enumerate(names)],
            "annotations": [{"id": n, "image_id": n + 7, "category_id": (3, 8)[n % 2], "bbox": [1, 2, 10, 12]}
                            for n in range(count - 1)],
            "categories": [{"id": 8, "name": "b"}, {"id": 3, "name": "a"}],
        }  # fmt: skip
        write(raw / file.format(split), json.dumps(value))
    return raw


def make_masks(raw, counts=None, size=(WIDTH, HEIGHT), ids=3):
    """Masks of one id each, image by image, with a first row of 255."""
    for split, count in (counts or {"train": 4, "val": 2}).items():
        for number in range(count):
            image(raw / "images" / split / f"{number}.jpg", size)
            pixels = np.full(size[::-1], number % ids, np.uint8)
            pixels[0] = 255
            write(raw / "masks" / split / f"{number}.png", png(pixels))
    return raw


def edit(path: Path, change):
    """Change a JSON file."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))

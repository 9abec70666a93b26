"""Readers as functions of bytes, for the properties and the fuzzer: each accepts or raises `UserError`."""

import hashlib
import json
import shutil
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from shards.foreign.samples import examine_tar
from shards.image_check import UnfitError, check_image, check_mask
from shards.layouts.coco import read_coco
from shards.layouts.files import read_class_names, read_lines
from shards.layouts.mask_classes import read_mask_classes
from shards.layouts.voc_xml import number_classes, read_annotations
from shards.layouts.yolo_labels import read_labels
from shards.layouts.yolo_yaml import read_yaml
from shards.mask_codes import values_of
from shards.tar_samples import read_tar_samples
from ufo_ds.command_line import read_recipe
from ufo_ds.data.decode import DecodeError, decode_image, decode_label, decode_mask
from ufo_ds.data.index import read_index
from ufo_ds.data.schema import ClassInfo, RawSample, TaskMeta, is_inside
from ufo_ds.data.shards import ShardSet
from ufo_ds.errors import UserError
from ufo_ds.polygons import polygons_to_mask
from ufo_ds.submission import read_submission
from ufo_ds.tasks.classification import score as classification
from ufo_ds.tasks.detection import score as detection
from ufo_ds.yaml_file import read_mapping

DET = TaskMeta("det", "test", [ClassInfo(3, "a"), ClassInfo(8, "b")], {})


class Targets:
    """The readers, each on a file of its own in one folder; `shards` is a copy of sound ones."""

    def __init__(self, shards):
        self.folder = Path(tempfile.mkdtemp(prefix="bad_input-"))
        self.shards = Path(shutil.copytree(shards, self.folder / "shards"))
        self.tar_path, self.index_path = (self.shards / f"cls/train-000000.{ext}" for ext in ("tar", "idx"))
        self.meta_path = self.shards / "cls/meta.json"
        self.sound = {path: path.read_bytes() for path in (self.tar_path, self.index_path, self.meta_path)}

    def close(self):
        shutil.rmtree(self.folder)

    def _file(self, data, name="file"):
        path = self.folder / name
        path.write_bytes(data)
        return path

    # ---- submission, ground truth, labels ----

    def submission(self, data):
        sections = read_submission(self._file(data))
        for polygons in list(sections.get("seg", {}).values())[:2]:
            polygons_to_mask(polygons, (8, 8))

    def coco(self, data):
        truths, _ = detection.read_coco(self._file(data))
        metric = detection.BoxMetric()
        metric.update([detection.no_boxes(key) for key in truths], list(truths.values()))
        assert all(0 <= value <= 1 for value in metric.compute().values())

    def labels(self, data):
        classification.read_truth(self._file(data))

    def sample(self, data):
        detection.truth_of(RawSample("a.jpg", {"jpg": b"", "json": data}), DET)

    # ---- raw downloads ----

    def raw_coco(self, data):
        coco = read_coco(self._file(data), lambda items: [ClassInfo(1, "a")])
        known = {item.id for item in coco.classes}
        for boxes in coco.boxes.values():
            assert all(item["category_id"] in known for item in boxes.annotations)

    def raw_list(self, data):
        path = self._file(data)
        for number, line in read_lines(path):
            assert number > 0 and line and "\n" not in line
        read_class_names(path)

    def voc(self, data):
        xmls = self.folder / "xmls"
        xmls.mkdir(exist_ok=True)
        (xmls / "a.xml").write_bytes(data)
        found = read_annotations(xmls)
        ids = {item.id for item in number_classes([found], None)}
        assert set(found.boxes) ^ set(found.faults) == {"a"}
        for boxes in found.boxes.values():
            assert all(item["category_id"] in ids and min(item["bbox"][2:]) > 0 for item in boxes.annotations)

    def yolo(self, data):
        with suppress(ValueError):
            for item in read_labels(self._file(data), 1, {0, 7}).annotations:
                assert item["category_id"] in (0, 7) and min(item["bbox"][2:]) > 0 and -1 < sum(item["bbox"]) < 5

    def data_yaml(self, data):
        found = read_yaml(self._file(data), self.folder)
        places = [path for images in found.images.values() for path in images.places]
        assert found.classes and all(path.is_relative_to(self.folder) for path in places)

    def mask_classes(self, data):
        self._file(data, "classes.csv")
        found = read_mask_classes(self.folder, {})
        assert [item.id for item in found.classes] == list(range(len(found.classes))) and found.codes

    # ---- shards ----

    def meta(self, data):
        self.meta_path.write_bytes(data)
        try:
            TaskMeta.read(self.shards, "cls")
        finally:
            self.meta_path.write_bytes(self.sound[self.meta_path])

    def index(self, data):
        read_index(self._file(data))

    def shard(self, tar, index):
        """A shard of these bytes, and a meta.json that vouches for them."""
        meta = json.loads(self.sound[self.meta_path])
        count = max(1, index.count(b"\n") - 1)
        meta["splits"]["train"] |= {"found": count, "samples": count}
        shard = {"samples": count, "bytes": len(tar), "sha256": hashlib.sha256(tar).hexdigest()}
        meta["splits"]["train"]["shards"][0] |= shard
        self.tar_path.write_bytes(tar)
        self.index_path.write_bytes(index)
        self.meta_path.write_text(json.dumps(meta))
        samples = ShardSet(self.shards, "cls", "train")
        for number in range(len(samples)):
            raw = samples[number]
            assert is_inside(raw.file_name) and len(raw.members) == 2
            self.pixels(raw.image)
            self.label(raw.members["cls"])

    def tar(self, data):
        """A tar that somebody else wrote: walked, and every sample looked at."""
        path = self._file(data, "file.tar")
        found = read_tar_samples(path)
        with tarfile.open(path, "r:") as opened:  # what is taken is what everybody else sees
            everybody = {info.offset_data: (info.name.removeprefix("./"), info.size) for info in opened if info.isreg()}
        for members in found.samples:
            assert all(everybody[m.offset] == (m.name, m.size) and m.offset + m.size <= len(data) for m in members)
        for task in ("cls", "det", "seg"):
            part = examine_tar(((task, path, "train-000000.tar"), found), lambda units: None)
            assert len(part.sound) + len(part.rejected) == len(found.samples)

    def pixels(self, data):
        """An image: what the builder takes, the reader can decode to the same size."""
        decoded = None
        with suppress(DecodeError):
            decoded = decode_image(data).shape[1::-1]
        with suppress(DecodeError):
            decode_mask(data)
        with suppress(UnfitError):
            assert check_image(data) == decoded
        with suppress(UnfitError):
            check_mask(data, "a.png", (40, 30), 19)
        with suppress(UnfitError):
            assert values_of(data).dtype == np.uint8

    def label(self, data):
        with suppress(DecodeError):
            decode_label(data)

    # ---- recipes and weights ----

    def yaml(self, data):
        read_mapping(str(self._file(data)))

    def recipe(self, data):
        read_recipe(self._file(data))

    def weights(self, data):
        from ufo_ds.assembly import read_tensors

        for tensor in read_tensors(self._file(data)).values():
            tensor.float().sum()


def accepts(target, *data):
    """Whether the reader takes it. Anything but a `UserError` of one line escapes, and is a bug."""
    try:
        target(*data)
    except UserError as error:
        line = str(error)
    else:
        return True
    assert line.isprintable() and len(line) <= 1200, line
    return False

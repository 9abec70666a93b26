"""Readers as functions of bytes, for the properties and the fuzzer: each accepts or raises `UserError`."""

import hashlib
import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from ufo_ds.data.decode import DecodeError, decode_image, decode_label, decode_mask
from ufo_ds.data.index import read_index
from ufo_ds.data.schema import ClassInfo, RawSample, TaskMeta
from ufo_ds.data.shards import ShardSet
from ufo_ds.errors import UserError
from ufo_ds.polygons import polygons_to_mask
from ufo_ds.submission import read_submission
from ufo_ds.tasks.classification import score as classification
from ufo_ds.tasks.detection import score as detection

DET = TaskMeta("det", "test", [ClassInfo(3, "a"), ClassInfo(8, "b")], {})


class Targets:
    """The readers, each on a file of its own in one folder; `shards` is a copy of sound ones."""

    def __init__(self, shards):
        self.folder = Path(tempfile.mkdtemp(prefix="bad_input-"))
        self.shards = Path(shutil.copytree(shards, self.folder / "shards"))
        self.tar, self.index = (self.shards / f"cls/train-000000.{ext}" for ext in ("tar", "idx"))
        self.meta = self.shards / "cls/meta.json"
        self.sound = {path: path.read_bytes() for path in (self.tar, self.index, self.meta)}

    def close(self):
        shutil.rmtree(self.folder)

    def _file(self, data):
        path = self.folder / "file"
        path.write_bytes(data)
        return path

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

    def read_meta(self, data):
        self.meta.write_bytes(data)
        try:
            TaskMeta.read(self.shards, "cls")
        finally:
            self.meta.write_bytes(self.sound[self.meta])

    def read_index(self, data):
        read_index(self._file(data))

    def shard(self, tar, index):
        """A shard of these bytes, and a meta.json that vouches for them."""
        meta = json.loads(self.sound[self.meta])
        meta["splits"]["train"]["shards"][0] |= {"bytes": len(tar), "sha256": hashlib.sha256(tar).hexdigest()}
        self.tar.write_bytes(tar)
        self.index.write_bytes(index)
        self.meta.write_text(json.dumps(meta))
        samples = ShardSet(self.shards, "cls", "train")
        for number in range(len(samples)):
            raw = samples[number]
            assert "/" not in raw.file_name and len(raw.members) == 2
            self.pixels(raw.image)
            self.label(raw.members["cls"])

    def pixels(self, data):
        for decode in (decode_image, decode_mask):
            with suppress(DecodeError):
                decode(data)

    def label(self, data):
        with suppress(DecodeError):
            decode_label(data)


def accepts(target, *data):
    """Whether the reader takes it. Anything but a `UserError` of one line escapes, and is a bug."""
    try:
        target(*data)
    except UserError as error:
        line = str(error)
    else:
        return True
    assert "\n" not in line and len(line) < 1000, line
    return False

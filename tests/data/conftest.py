"""Small shards, written by hand: the reader's tests need no builder."""

import hashlib
import io
import tarfile

import pytest

from ufo_ds.data.index import Member, write_index
from ufo_ds.data.schema import ClassInfo, ShardInfo, SplitMeta, TaskMeta


def write_tar(path, samples):
    """Samples, each a list of (member name, bytes) -> a tar and its index; returns its `ShardInfo`."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in (member for sample in samples for member in sample):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with tarfile.open(path) as tar:
        found = {info.name: info for info in tar.getmembers()}
    index = [
        [Member(name.partition(".")[2], found[name].offset_data, found[name].size, name) for name, _ in sample]
        for sample in samples
    ]
    write_index(path.with_suffix(".idx"), index)
    data = path.read_bytes()
    return ShardInfo(path.name, len(samples), len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def write_shards(tmp_path):
    """Write `{split: [shard, ...]}`, a shard being a list of samples; returns the folder of all tasks."""

    def write(task, splits, ids=(0, 1, 2), labelled=True):
        (tmp_path / task).mkdir(exist_ok=True)
        metas = {}
        for split, shards in splits.items():
            infos = [
                write_tar(tmp_path / task / f"{split}-{number:06d}.tar", samples)
                for number, samples in enumerate(shards)
            ]
            count = sum(info.samples for info in infos)
            metas[split] = SplitMeta(labelled, count, count, infos, [], [])
        TaskMeta(task, "test", [ClassInfo(i, f"class {i}") for i in ids], metas).write(tmp_path)
        return tmp_path

    return write

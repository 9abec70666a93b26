"""Ways to store samples and to read them back undecoded, that benchmarks/data.py compares. All give the same bytes.

A sample is a dict of its members' bytes by extension, the image (`jpg`) first.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from shards.pack import TarWriter
from ufo_ds.data.schema import ClassInfo, ShardInfo, SplitMeta, TaskMeta, write_index
from ufo_ds.data.shards import ShardSet

Sample = dict[str, bytes]
SHARD_SAMPLES = 512


class Ours:
    """Tar shards with an index, read by offset."""

    name = "ufo_ds ShardSet"

    def __init__(self, folder: Path, samples: Sequence[Sample]) -> None:
        (folder / "cls").mkdir(parents=True)
        infos = [
            self._write(folder / "cls" / f"train-{first // SHARD_SAMPLES:06d}.tar", samples, first)
            for first in range(0, len(samples), SHARD_SAMPLES)
        ]
        split = SplitMeta(True, len(samples), len(samples), infos, [], [])
        TaskMeta("cls", "benchmark", [ClassInfo(i, str(i)) for i in range(1000)], {"train": split}).write(folder)
        self.shards = ShardSet(folder, "cls", "train")

    @staticmethod
    def _write(path: Path, samples: Sequence[Sample], first: int) -> ShardInfo:
        with path.open("wb") as file:
            writer = TarWriter(file)
            index = [
                [writer.add(f"{first + place:08d}.{ext}", data) for ext, data in sample.items()]
                for place, sample in enumerate(samples[first : first + SHARD_SAMPLES])
            ]
            writer.finish()
        write_index(path.with_suffix(".idx"), index)
        return ShardInfo(path.name, len(index), writer.position, writer.digest.hexdigest())

    def in_order(self) -> Iterator[Sample]:
        """All samples as they are stored."""
        for index in range(len(self.shards)):
            yield self.shards[index].members

    def at_random(self, order: Sequence[int]) -> Iterator[Sample]:
        """The samples of these numbers."""
        for index in order:
            yield self.shards[index].members


class WebDataset:
    """The same shards through webdataset: a stream, shuffled in a buffer."""

    name = "webdataset"

    def __init__(self, folder: Path, samples: Sequence[Sample]) -> None:
        Ours(folder, samples)
        self.urls = sorted(map(str, (folder / "cls").glob("*.tar")))

    def in_order(self) -> Iterator[Sample]:
        """All samples as they are stored."""
        import webdataset

        return self._members(webdataset.WebDataset(self.urls, shardshuffle=False))

    def at_random(self, order: Sequence[int]) -> Iterator[Sample]:
        """All samples in an order of its own."""
        import webdataset

        return self._members(webdataset.WebDataset(self.urls, shardshuffle=len(self.urls)).shuffle(1000))

    @staticmethod
    def _members(samples: Iterator[dict]) -> Iterator[Sample]:
        return ({ext: data for ext, data in sample.items() if not ext.startswith("_")} for sample in samples)


class LitData:
    """litdata's chunks; at random by its own shuffle, which is much faster than `dataset[i]`."""

    name = "litdata"

    def __init__(self, folder: Path, samples: Sequence[Sample]) -> None:
        from litdata.streaming import Cache

        folder.mkdir(parents=True)
        cache = Cache(str(folder), chunk_bytes="64MB")
        for number, sample in enumerate(samples):
            cache[number] = sample
        cache.done()
        cache.merge()
        self.folder = str(folder)

    def in_order(self) -> Iterator[Sample]:
        """All samples as they are stored."""
        from litdata.streaming import StreamingDataset

        return iter(StreamingDataset(self.folder, shuffle=False))

    def at_random(self, order: Sequence[int]) -> Iterator[Sample]:
        """All samples in an order of its own."""
        from litdata.streaming import StreamingDataset

        return iter(StreamingDataset(self.folder, shuffle=True))


class Lmdb:
    """One B-tree file, a value a sample: lengths and names, then the members."""

    name = "lmdb"

    def __init__(self, folder: Path, samples: Sequence[Sample]) -> None:
        import lmdb

        folder.mkdir(parents=True)
        size = 2 * sum(len(data) + 8192 for sample in samples for data in sample.values())
        with lmdb.open(str(folder), map_size=size) as base, base.begin(write=True) as transaction:
            for number, sample in enumerate(samples):
                transaction.put(struct.pack(">Q", number), _joined(sample))
        self.base = lmdb.open(str(folder), readonly=True, lock=False, readahead=False)

    def in_order(self) -> Iterator[Sample]:
        """All samples as they are stored."""
        with self.base.begin(buffers=True) as transaction:
            for value in transaction.cursor().iternext(keys=False):
                yield _parted(value)

    def at_random(self, order: Sequence[int]) -> Iterator[Sample]:
        """The samples of these numbers."""
        with self.base.begin(buffers=True) as transaction:
            for number in order:
                yield _parted(transaction.get(struct.pack(">Q", number)))


class PlainFiles:
    """A file a member."""

    name = "plain files"

    def __init__(self, folder: Path, samples: Sequence[Sample]) -> None:
        folder.mkdir(parents=True)
        self.paths = [
            {ext: str(folder / f"{number:08d}.{ext}") for ext in sample} for number, sample in enumerate(samples)
        ]
        for paths, sample in zip(self.paths, samples, strict=True):
            for ext, data in sample.items():
                Path(paths[ext]).write_bytes(data)

    def in_order(self) -> Iterator[Sample]:
        """All samples as they are stored."""
        return self.at_random(range(len(self.paths)))

    def at_random(self, order: Sequence[int]) -> Iterator[Sample]:
        """The samples of these numbers."""
        for number in order:
            sample = {}
            for ext, path in self.paths[number].items():
                with open(path, "rb", buffering=0) as file:
                    sample[ext] = file.read()
            yield sample


STORES = (Ours, WebDataset, LitData, Lmdb, PlainFiles)
_NEEDS = {LitData: "litdata", Lmdb: "lmdb"}


def installed_stores() -> list[type]:
    """The stores whose library is there; says which are not."""
    # Some releases of litdata look for a newer one in the network.
    os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
    absent = {kind for kind, module in _NEEDS.items() if not importlib.util.find_spec(module)}
    for kind in absent:
        print(f"{kind.name}: skipped, not installed (pip install {_NEEDS[kind]}, or this project's extra `benchmarks`)")
    return [kind for kind in STORES if kind not in absent]


def digest(samples: Iterator[Sample]) -> str:
    """Of all bytes, whatever the order of the samples."""
    found = sorted(
        hashlib.sha256(b"".join(ext.encode() + bytes(data) for ext, data in sorted(sample.items()))).hexdigest()
        for sample in samples
    )
    return hashlib.sha256("".join(found).encode()).hexdigest()


def _joined(sample: Sample) -> bytes:
    head = ",".join(f"{ext}:{len(data)}" for ext, data in sample.items()).encode()
    return struct.pack(">H", len(head)) + head + b"".join(sample.values())


def _parted(value: memoryview) -> Sample:
    (length,) = struct.unpack_from(">H", value)
    start, sample = 2 + length, {}
    for part in bytes(value[2:start]).decode().split(","):
        ext, _, size = part.partition(":")
        sample[ext] = bytes(value[start : start + int(size)])
        start += int(size)
    return sample

"""A split of shards as a map-style data set: samples by number, read at their offsets."""

from __future__ import annotations

import os
import re
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np

from ufo_ds.data.schema import Member, RawSample, ShardInfo, TaskMeta, file_name_of, read_index
from ufo_ds.errors import UserError, shown

MAX_OPEN = 64
"""Shards that a process keeps open; a window of the shuffle is a few."""
_IMAGES = ("jpg", "jpeg", "png", "bmp", "webp")
_LABEL = {"cls": "cls", "det": "json", "seg": "png"}
_REMOTE = re.compile(r"(https?|s3|gs|hdfs|ftp)://|pipe:")
_TAR_BLOCK = 512
_REMEDY = "copy shard and index again, or run shards/build.py again"


def open_shards(location: str | Path, task: str, split: str) -> ShardSet:
    """The samples of a split, wherever the shards are; see `ShardSet`."""
    return ShardSet(local_folder(location), task, split)


def local_folder(location: str | Path) -> Path:
    """The folder on this machine that holds the shards of `location`: the one place to add remote shards.

    Raises:
        UserError: `location` is remote.
    """
    if _REMOTE.match(str(location)):
        problem = "remote shards are not supported yet"
        raise UserError(f"{location}: {problem}; copy them to a local folder and give that")
    return Path(location)


class ShardSet:
    """The samples of one split in the order of its shards.

    Reads with `os.pread`, which leaves no offset behind, so that processes which share a descriptor over a
    fork do not disturb each other; a pickled copy (other processes) opens its shards itself. Shards are
    opened when they are first read.

    Args:
        root: folder that `shards/build.py` wrote.
        task: `cls`, `det` or `seg`.
        split: `train`, `val` or `test`.

    Attributes:
        meta: the task's `meta.json`.
        shard_sizes: samples in each shard.
        file_names: of the images, by sample; from the index alone.

    Raises:
        UserError: no such split; a shard or its index is missing, truncated or of another build; a sample of
            a labelled split has no label.
    """

    def __init__(self, root: str | Path, task: str, split: str) -> None:
        self.root, self.task, self.split = Path(root), task, split
        self.meta = TaskMeta.read(root, task)
        self.shards = self.meta.splits[split].shards
        self.shard_sizes = [info.samples for info in self.shards]
        self._ends = np.cumsum(self.shard_sizes)
        samples = [members for info in self.shards for members in self._read_index(info)]
        self.file_names = [file_name_of(members[0].name) for members in samples]
        # Arrays and shared strings instead of `Member`s: a fraction of the memory, in every reader process.
        self._extensions = [tuple(sys.intern(m.ext.lower()) for m in members) for members in samples]
        self._first = np.cumsum([0, *map(len, samples)])
        self._places = np.array([(m.offset, m.size) for members in samples for m in members], np.int64)
        self._descriptors: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self.file_names)

    def __getitem__(self, index: int) -> RawSample:
        """Sample `index`, undecoded; 0 <= index < len.

        Raises:
            UserError: the shard has changed since it was listed, or cannot be read.
        """
        shard = self._shard_of(index)
        places = self._places[self._first[index] : self._first[index + 1]].tolist()
        payloads = [self._read(shard, offset, size) for offset, size in places]
        members = dict(zip(self._extensions[index], payloads, strict=True))
        return RawSample(self.file_names[index], members)

    def read_member(self, index: int, ext: str) -> bytes:
        """One member of a sample by its lower-case extension, without reading the others.

        Raises:
            UserError: the sample has no such member, or as `__getitem__`.
        """
        shard = self._shard_of(index)
        if ext not in self._extensions[index]:
            problem = f"{self.file_names[index]} has no .{ext} member"
            raise UserError(f"{self.path_of(index)}: {problem}; build the shards from labelled data")
        offset, size = self._places[self._first[index] + self._extensions[index].index(ext)].tolist()
        return self._read(shard, offset, size)

    def path_of(self, index: int) -> Path:
        """The shard that holds a sample, for messages."""
        return self._path(self._shard_of(index))

    def close(self) -> None:
        """Close the shards that this process has open; they open again when they are read."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def __del__(self) -> None:
        if "_descriptors" in self.__dict__:  # not where the constructor failed
            self.close()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_descriptors": OrderedDict()}

    # ---- files ----

    def _shard_of(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return int(np.searchsorted(self._ends, index, side="right"))

    def _path(self, shard: int) -> Path:
        return self.root / self.task / self.shards[shard].name

    def _read_index(self, info: ShardInfo) -> list[list[Member]]:
        """The samples of a shard, if tar, index and meta.json agree."""
        tar = self.root / self.task / info.name
        try:
            _check_size(tar, tar.stat().st_size, info.bytes)
        except OSError as error:
            raise _unreadable(tar, error) from None
        index = tar.with_name(info.index_name)
        samples = read_index(index)
        if len(samples) != info.samples:
            raise UserError(f"{index}: {len(samples)} samples, but meta.json says {info.samples}; {_REMEDY}")
        label = _LABEL.get(self.task) if self.meta.splits[self.split].labelled else None
        for line, members in enumerate(samples, start=2):
            if problem := _problem(members, info.bytes, label):
                raise UserError(f"{index}:{line}: {problem}; {_REMEDY}")
        return samples

    def _read(self, shard: int, offset: int, size: int) -> bytes:
        try:
            data = os.pread(self._descriptor(shard), _TAR_BLOCK + size, offset - _TAR_BLOCK)
        except OSError as error:
            raise _unreadable(self._path(shard), error) from None
        if len(data) != _TAR_BLOCK + size:
            raise UserError(f"{self._path(shard)}: breaks off before byte {offset + size}; {_REMEDY}")
        self._check_header(shard, data[:_TAR_BLOCK], size)
        return data[_TAR_BLOCK:]

    def _descriptor(self, shard: int) -> int:
        if shard not in self._descriptors:
            if len(self._descriptors) >= MAX_OPEN:
                os.close(self._descriptors.popitem(last=False)[1])
            self._descriptors[shard] = self._open(shard)
        self._descriptors.move_to_end(shard)
        return self._descriptors[shard]

    def _open(self, shard: int) -> int:
        descriptor = os.open(self._path(shard), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check_size(self._path(shard), os.fstat(descriptor).st_size, self.shards[shard].bytes)
            self._check_last_header(shard, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _check_last_header(self, shard: int, descriptor: int) -> None:
        """Is the last image where it should be? Tars are padded, so another may well have the same size."""
        offset, size = self._places[self._first[int(self._ends[shard]) - 1]].tolist()
        self._check_header(shard, os.pread(descriptor, _TAR_BLOCK, offset - _TAR_BLOCK), size)

    def _check_header(self, shard: int, header: bytes, size: int) -> None:
        """Does the header before a payload announce a plain file of that size? A link has no payload of its own."""
        try:
            found = int(header[124:135], 8)  # the size field of a tar header, octal
        except ValueError:
            found = -1
        if found != size or header[156:157] not in (b"0", b"\0"):
            raise UserError(f"{self._path(shard)}: is not the shard that its index describes; {_REMEDY}")


def _check_size(path: Path, size: int, expected: int) -> None:
    if size != expected:
        problem = f"{size} bytes, but meta.json says {expected} (truncated or swapped)"
        raise UserError(f"{path}: {problem}; {_REMEDY}")


def _problem(members: list[Member], shard_bytes: int, label: str | None) -> str | None:
    """What is wrong with a sample's line of the index."""
    key = members[0].name.partition(".")[0]
    extensions = [member.ext.lower() for member in members]
    file_name = file_name_of(members[0].name)
    if not key or any(sign in file_name for sign in "/\\\0"):
        return f"{shown(file_name, 80)} is not a bare file name"
    if extensions[0] not in _IMAGES:
        return f"{shown(members[0].name, 80)} is no image ({', '.join(_IMAGES)}), and an image must come first"
    if any(member.name != f"{key}.{member.ext}" for member in members):
        names = ", ".join(member.name for member in members)
        return f"members of several samples ({shown(names, 80)})"
    if any(not _TAR_BLOCK <= m.offset <= shard_bytes - m.size for m in members):
        return f"{key[:80]} lies outside the shard's {shard_bytes} bytes"
    if len(set(extensions)) != len(extensions):
        return f"{key[:80]} has two members of one kind"
    if label and label not in extensions[1:]:
        return f"{key[:80]} has no .{label} member, though the split is labelled"
    return None


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be read ({error.strerror}); {_REMEDY}")

"""A split of shards as a map-style data set: samples by number, read at their offsets."""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ufo_ds.data.schema import (
    IMAGE_EXTENSIONS,
    Member,
    RawSample,
    ShardInfo,
    TaskMeta,
    file_name_of,
    is_inside,
    label_extension,
    read_index,
)
from ufo_ds.errors import UserError, shown

MAX_OPEN = 64
"""Shards that a process keeps open; a window of the shuffle is a few."""
_TAR_BLOCK = 512
_REMEDY = "copy shard and index again, or run shards/build.py again"


def open_shards(location: Any, task: str, split: str, meta: TaskMeta | None = None) -> ShardSet:
    """The samples of a split, wherever the shards are; see `ShardSet`.

    Args:
        location: a path or URL, or what `folders.open_folder` made of it with more settings.
        task: `cls`, `det` or `seg`.
        split: `train`, `val` or `test`.
        meta: the task's `meta.json`, if it has been read.
    """
    from ufo_ds.data.folders import open_folder  # builds on this module

    folder = open_folder(location) if isinstance(location, str | Path) else location
    return folder.open(task, split, meta)


class ShardSet:
    """The samples of one split in the order of its shards.

    Reads with `os.pread`, which leaves no offset behind, so that processes which share a descriptor over a
    fork do not disturb each other; a pickled copy (other processes) opens its shards itself. Shards are
    opened when they are first read.

    Args:
        root: folder that `shards/build.py` wrote.
        task: `cls`, `det` or `seg`.
        split: `train`, `val` or `test`.
        meta: the task's `meta.json`, if it has been read.

    Attributes:
        meta: the task's `meta.json`.
        shard_sizes: samples in each shard.
        file_names: of the images, by sample; from the index alone.

    Raises:
        UserError: no such split; a shard or its index is missing, truncated or of another build; a sample of
            a labelled split has no label.
    """

    max_open: int | None = None
    """Shards that a process keeps open; None: `MAX_OPEN`."""
    _own: tuple[str, ...] = ("_descriptors",)  # of one process

    def __init__(self, root: str | Path, task: str, split: str, meta: TaskMeta | None = None) -> None:
        self.root, self.task, self.split = root, task, split
        self.meta = meta or TaskMeta.read(root, task)
        self.shards = self.meta.splits[split].shards
        self.shard_sizes = [info.samples for info in self.shards]
        self._ends = np.cumsum(self.shard_sizes)
        samples = self._read_indexes()
        self.file_names = [file_name_of(members[0].name) for members in samples]
        # Arrays and shared strings instead of `Member`s: a fraction of the memory, in every reader process.
        self._extensions = [tuple(sys.intern(m.ext.lower()) for m in members) for members in samples]
        self._first = np.cumsum([0, *map(len, samples)])
        self._places = np.array([(m.offset, m.size) for members in samples for m in members], np.int64)
        self._reset()

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
        self._require_member(index, ext)
        offset, size = self._places[self._first[index] + self._extensions[index].index(ext)].tolist()
        return self._read(self._shard_of(index), offset, size)

    def path_of(self, index: int) -> Path | str:
        """The shard that holds a sample, for messages: its path, or its address on another machine."""
        return self._place(self._shard_of(index))

    def place_of(self, index: int) -> str:
        """Shard and file name of a sample, for messages."""
        return f"{self.path_of(index)}: {self.file_names[index]}"

    def keep(self, window: int | None) -> None:
        """Make ready for an order that reads `window` shards at a time, or, None, any at any time.

        To local shards this means nothing, nor do `begin` and `look_ahead`.
        """

    def begin(self, number: int, samples_of: Callable[[int], Sequence[int]]) -> None:
        """Batch `number` will be the first that is asked for; `samples_of` gives the samples of a batch by number."""

    def look_ahead(self, number: int, samples_of: Callable[[int], Sequence[int]]) -> None:
        """This process makes batch `number` now, and later ones after it."""

    def _reset(self) -> None:
        self._descriptors: OrderedDict[int, int] = OrderedDict()

    def close(self) -> None:
        """Close the shards that this process has open; they open again when they are read."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def __del__(self) -> None:
        if "_descriptors" in self.__dict__:  # not where the constructor failed
            self.close()

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name not in self._own}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._reset()

    # ---- files ----

    def _shards_of(self, indices: Sequence[int]) -> list[int]:
        return np.searchsorted(self._ends, indices, side="right").tolist()

    def _shard_of(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return int(np.searchsorted(self._ends, index, side="right"))

    def _place(self, shard: int) -> Path | str:
        return self._tar(self.shards[shard])

    def _tar(self, info: ShardInfo) -> Path:
        return Path(self.root) / self.task / info.name

    def _require_member(self, index: int, ext: str) -> None:
        self._shard_of(index)
        if ext not in self._extensions[index]:
            problem = f"{self.file_names[index]} has no .{ext} member"
            raise UserError(f"{self.path_of(index)}: {problem}; build the shards from labelled data")

    def _read_indexes(self) -> list[list[Member]]:
        return [members for info in self.shards for members in self._read_index(info)]

    def _read_index(self, info: ShardInfo) -> list[list[Member]]:
        """The samples of a shard, if tar, index and meta.json agree."""
        tar = self._tar(info)
        try:
            _check_size(tar, tar.stat().st_size, info.bytes)
        except OSError as error:
            raise _unreadable(tar, error) from None
        index = tar.with_name(info.index_name)
        samples = read_index(index)
        self._check_samples(samples, info, index)
        return samples

    def _check_samples(self, samples: list[list[Member]], info: ShardInfo, index: str | Path) -> None:
        if len(samples) != info.samples:
            raise UserError(f"{index}: {len(samples)} samples, but meta.json says {info.samples}; {_REMEDY}")
        task = self.task if self.meta.splits[self.split].labelled else None
        for line, members in enumerate(samples, start=2):
            if problem := _problem(members, info.bytes, task):
                raise UserError(f"{index}:{line}: {problem}; {_REMEDY}")

    def _read(self, shard: int, offset: int, size: int) -> bytes:
        try:
            data = os.pread(self._descriptor(shard), _TAR_BLOCK + size, offset - _TAR_BLOCK)
        except OSError as error:
            raise _unreadable(self._place(shard), error) from None
        if len(data) != _TAR_BLOCK + size:
            raise UserError(f"{self._place(shard)}: breaks off before byte {offset + size}; {_REMEDY}")
        self._check_header(shard, data[:_TAR_BLOCK], size)
        return data[_TAR_BLOCK:]

    def _descriptor(self, shard: int) -> int:
        if shard not in self._descriptors:
            if len(self._descriptors) >= (self.max_open or MAX_OPEN):
                os.close(self._descriptors.popitem(last=False)[1])
            self._descriptors[shard] = self._open(shard)
        self._descriptors.move_to_end(shard)
        return self._descriptors[shard]

    def _open(self, shard: int) -> int:
        descriptor = self._open_file(shard)
        try:
            _check_size(self._place(shard), os.fstat(descriptor).st_size, self.shards[shard].bytes)
            self._check_last_header(shard, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _open_file(self, shard: int) -> int:
        return os.open(self._tar(self.shards[shard]), os.O_RDONLY | os.O_CLOEXEC)

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
            raise self._not_described(shard)

    def _not_described(self, shard: int) -> UserError:
        return UserError(f"{self._place(shard)}: is not the shard that its index describes; {_REMEDY}")


def _check_size(path: str | Path, size: int, expected: int) -> None:
    if size != expected:
        problem = f"{size} bytes, but meta.json says {expected} (truncated or swapped)"
        raise UserError(f"{path}: {problem}; {_REMEDY}")


def _problem(members: list[Member], shard_bytes: int, task: str | None) -> str | None:
    """What is wrong with a sample's line of the index; with a `task`, there has to be a label."""
    key = members[0].name.partition(".")[0]
    extensions = [member.ext.lower() for member in members]
    file_name = file_name_of(members[0].name)
    if not key or not is_inside(file_name):
        return f"{shown(file_name, 80)} is not a file's name"
    if extensions[0] not in IMAGE_EXTENSIONS:
        return f"{shown(members[0].name, 80)} is no image ({', '.join(IMAGE_EXTENSIONS)}), and an image must come first"
    if any(member.name != f"{key}.{member.ext}" for member in members):
        names = ", ".join(member.name for member in members)
        return f"members of several samples ({shown(names, 80)})"
    if any(not _TAR_BLOCK <= m.offset <= shard_bytes - m.size for m in members):
        return f"{key[:80]} lies outside the shard's {shard_bytes} bytes"
    if len(set(extensions)) != len(extensions):
        return f"{key[:80]} has two members of one kind"
    if task and (label := label_extension(task, extensions)) not in extensions[1:]:
        return f"{key[:80]} has no .{label} member, though the split is labelled"
    return None


def _unreadable(path: str | Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be read ({error.strerror}); {_REMEDY}")

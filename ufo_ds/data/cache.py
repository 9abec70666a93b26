"""A folder of fetched shards that the processes of a machine share: each shard is fetched once, the oldest give way.

Files are named by the shard's SHA-256, so that those of another build are other files. A process that reads a shard
holds a shared lock on it, one that fetches it an exclusive one: what is locked is not removed. Locks go with their
processes, whichever way these end.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ufo_ds.data.schema import ShardInfo
from ufo_ds.errors import UserError

GIB = 2**30
POLL_SECONDS = 0.1
"""Between two looks at a shard that another process fetches."""
_NAME = re.compile(r"[0-9a-f]{64}\.(tar|idx|tar\.partial)")
_REMEDY = "make room, or choose another place with data.cache"

Download = Callable[[Callable[[int, bytes], None]], None]


class NoRoomError(Exception):
    """The cache is full of what is in use."""


class _Entry(NamedTuple):
    used: int  # nanoseconds
    size: int
    path: Path


class ShardCache:
    """Shards of any data sets in one folder.

    Args:
        folder: made where absent; nothing in it is touched but what has such a name.
        limit: bytes. Shards that are being read count, and are the only ones that may go beyond it.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit

    def holds(self, info: ShardInfo) -> bool:
        """Whether the shard is here, whole."""
        try:
            return self._tar(info).stat().st_size == info.bytes
        except OSError:
            return False

    def fetch(
        self, info: ShardInfo, download: Download, *, wait: bool = True, spare: Collection[str] = frozenset()
    ) -> bool:
        """Bring a shard here, if it is not; of several processes one fetches, the others wait.

        Args:
            info: of `meta.json`.
            download: given a function (offset, bytes) that writes, brings a verified shard or raises.
            wait: False leaves it alone where another process is at it.
            spare: with `wait` False, SHA-256 of shards that are not to make room for it.

        Returns:
            Whether it is here now.

        Raises:
            UserError: it does not fit the limit or the disk, or as `download`.
            NoRoomError: with `wait` False, only shards in use or spared would make room.
        """
        if info.bytes > self.limit:
            problem = f"{info.name} has {info.bytes / GIB:.2f} GiB, the cache takes {self.limit / GIB:.2f} GiB"
            raise UserError(f"{self.folder}: {problem}; raise data.cache_gib")
        partial = self._tar(info).with_suffix(".tar.partial")
        while not self.holds(info):
            with self._errors(partial):
                descriptor = self._claim(partial, info, None if wait else spare)
                if descriptor is not None:
                    self._fill(descriptor, partial, info, download)
                elif not wait:
                    return self.holds(info)
                else:
                    time.sleep(POLL_SECONDS)
        return True

    def open(self, info: ShardInfo, download: Download) -> int:
        """A descriptor of a shard, fetched where it has to be; until it is closed, the shard stays."""
        path = self._tar(info)
        while True:
            self.fetch(info, download)
            with self._errors(path), contextlib.suppress(FileNotFoundError):  # removed between the two lines
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                with contextlib.suppress(OSError):  # a file system without locks, or somebody else's file
                    fcntl.flock(descriptor, fcntl.LOCK_SH)
                    os.utime(path)
                return descriptor

    def read_index(self, info: ShardInfo) -> bytes | None:
        """The index of a shard, if it is here."""
        try:
            return self._tar(info).with_suffix(".idx").read_bytes()
        except OSError:
            return None

    def write_index(self, info: ShardInfo, data: bytes | None) -> None:
        """Keep the index of a shard; None removes it."""
        path = self._tar(info).with_suffix(".idx")
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with self._errors(path):
            if data is None:
                path.unlink(missing_ok=True)
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(data)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)

    def _tar(self, info: ShardInfo) -> Path:
        return self.folder / f"{info.sha256}.tar"

    def _fill(self, descriptor: int, partial: Path, info: ShardInfo, download: Download) -> None:
        def write(offset: int, data: bytes) -> None:
            view = memoryview(data)
            with self._errors(partial):
                while view:
                    offset += (done := os.pwrite(descriptor, view, offset))
                    view = view[done:]

        try:
            download(write)
            os.fsync(descriptor)  # a name that promises a content must not outlive a power cut without it
            os.replace(partial, self._tar(info))
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def _claim(self, partial: Path, info: ShardInfo, spare: Collection[str] | None) -> int | None:
        """The descriptor of a partial file that is this process's alone, with room for it; None: another's, or done.

        Both under one lock: what is seen as claimed has its room.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                # Whoever held the lock may have renamed or removed the file meanwhile.
                if not _lock(descriptor) or not _is_at(descriptor, partial):
                    os.close(descriptor)
                    return None
                if self.holds(info):
                    partial.unlink()
                    os.close(descriptor)
                    return None
                self._make_room(descriptor, info.bytes, spare)
            except BaseException:
                partial.unlink(missing_ok=True)
                os.close(descriptor)
                raise
        return descriptor

    def _make_room(self, descriptor: int, size: int, spare: Collection[str] | None) -> None:
        """Remove what was used longest ago, and book `size` bytes: the file has its length from the start."""
        os.ftruncate(descriptor, 0)  # what an ended process has left
        entries = sorted(self._entries())
        total = sum(entry.size for entry in entries)
        for entry in entries:
            if total + size <= self.limit:
                break
            if entry.path.name.partition(".")[0] not in (spare or ()) and _remove(entry.path):
                total -= entry.size
        if spare is not None and total + size > self.limit:
            raise NoRoomError
        os.ftruncate(descriptor, size)

    def _entries(self) -> Iterator[_Entry]:
        for entry in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):
                if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    status = entry.stat()
                    # What an ended process has left half fetched is of no use to anyone.
                    used = 0 if entry.name.endswith(".partial") else status.st_mtime_ns
                    yield _Entry(used, status.st_size, Path(entry.path))

    @contextmanager
    def _errors(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                problem = "the file system has no locks; choose a local disk with data.cache"
                raise UserError(f"{self.folder}: {problem}") from None
            raise UserError(f"{path}: cannot be cached ({error.strerror}); {_REMEDY}") from None


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _remove(path: Path) -> bool:
    """Remove a file that no process reads or writes. Whether it is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        if not _lock(descriptor) or not _is_at(descriptor, path):
            return False
        path.unlink()
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)

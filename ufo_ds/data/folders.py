"""A folder of shards, on this machine or another: what `data.shards` names."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from ufo_ds.data.cache import GIB, ShardCache
from ufo_ds.data.fetching import AbsentError, Fetcher, fetch_bytes
from ufo_ds.data.http_fetcher import HttpFetcher
from ufo_ds.data.pipe_fetcher import PipeFetcher, s3_command
from ufo_ds.data.remote import CachedShards
from ufo_ds.data.schema import META_NAME, TaskMeta
from ufo_ds.data.shards import ShardSet
from ufo_ds.data.streamed import StreamedShards
from ufo_ds.errors import UserError
from ufo_ds.redaction import without_secrets

CACHE_GIB = 100.0
"""Size of the cache where nothing is said."""
MAX_META_BYTES = 2**28
_COMMANDS = {"gs": "gsutil -q cat", "hdfs": "hdfs dfs -cat", "ftp": "curl -sSf"}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://|(pipe):")


def open_folder(
    location: str | Path, *, cache: str | None = None, cache_gib: float = CACHE_GIB, stream: bool = False
) -> LocalFolder | RemoteFolder:
    """The folder that a location names; nothing is read yet.

    Args:
        location: a path, `http://...`, `https://...`, `s3://...`, or `pipe:` and a command with `{}`.
        cache: folder for what is fetched; None: `ufo_ds/shards` in the user's cache folder.
        cache_gib: its size limit, GiB.
        stream: hold shards in memory instead.

    Raises:
        UserError: a location that cannot be read.
    """
    found = _SCHEME.match(str(location))
    if not found:
        return LocalFolder(location)
    place, fetcher = _fetcher((found[1] or found[2]).lower(), str(location))
    return RemoteFolder(place, fetcher, None if stream else ShardCache(_cache_folder(cache), int(cache_gib * GIB)))


def _fetcher(scheme: str, location: str) -> tuple[str, Fetcher]:
    if scheme in ("http", "https"):
        http = HttpFetcher(location)
        return http.place(""), http
    if scheme == "pipe":
        pipe = PipeFetcher(location.partition(":")[2])
        return pipe.place(""), pipe
    address = without_secrets(location).rstrip("/")
    if scheme == "s3":
        return address, PipeFetcher(s3_command(location), address)
    command = _COMMANDS.get(scheme, "COMMAND")
    raise UserError(f"{address}: {scheme}:// is not read by itself; give a path, a http(s) or s3 URL, or the command "
                    f"that writes a file to its output: pipe:{command} {scheme}://.../{{}}")  # fmt: skip


def _cache_folder(cache: str | None) -> Path:
    try:
        if cache:
            return Path(cache).expanduser().absolute()
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (base if base.is_absolute() else Path.home() / ".cache") / "ufo_ds" / "shards"
    except RuntimeError:
        raise UserError("no home folder for the cache of shards; name a folder with data.cache") from None


class LocalFolder:
    """Shards on this machine."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def __str__(self) -> str:
        return str(self.root)

    def has(self, task: str) -> bool:
        """Whether there is a folder of the task, finished or not."""
        return (self.root / task).is_dir()

    def is_built(self, task: str) -> bool:
        """Whether there are finished shards of the task."""
        return (self.root / task / META_NAME).is_file()

    def read_meta(self, task: str) -> TaskMeta:
        """The task's `meta.json`. Raises `UserError`."""
        return TaskMeta.read(self.root, task)

    def open(self, task: str, split: str, meta: TaskMeta | None = None) -> ShardSet:
        """The samples of a split. Raises `UserError`."""
        return ShardSet(self.root, task, split, meta)


class RemoteFolder:
    """Shards on another machine.

    Each `meta.json` is fetched once for each of these objects, and always anew: it decides which shards are meant.

    Args:
        place: the address, without secrets.
        fetcher: of its files.
        cache: of this machine; None: nothing is written, shards are held in memory.
    """

    def __init__(self, place: str, fetcher: Fetcher, cache: ShardCache | None) -> None:
        self.place, self.fetcher, self.cache = place, fetcher, cache
        self._metas: dict[str, TaskMeta] = {}

    def __str__(self) -> str:
        return self.place

    def has(self, task: str) -> bool:
        """Whether there are shards of the task.

        Raises:
            UserError: nobody can tell: anything but a clear no, which commands cannot give.
        """
        try:
            self.read_meta(task)
        except AbsentError:
            return False
        except UserError as error:
            raise UserError(f"{error}; where there are no {task} shards, name the tasks that have some") from None
        return True

    is_built = has

    def read_meta(self, task: str) -> TaskMeta:
        """The task's `meta.json`.

        Raises:
            UserError: it cannot be fetched (`AbsentError`: it is not there), or as `TaskMeta.parse`.
        """
        if task not in self._metas:
            name = f"{task}/{META_NAME}"
            data = fetch_bytes(self.fetcher, name, MAX_META_BYTES)
            try:
                meta = TaskMeta.parse(data, self.fetcher.place(name), task)
            except UserError:
                data = fetch_bytes(self.fetcher, name, MAX_META_BYTES)
                meta = TaskMeta.parse(data, self.fetcher.place(name), task)
            self._metas[task] = meta
        return self._metas[task]

    def open(self, task: str, split: str, meta: TaskMeta | None = None) -> ShardSet:
        """The samples of a split. Raises `UserError`."""
        kind = CachedShards if self.cache else StreamedShards
        return kind(self, task, split, meta)


def fingerprint(meta: TaskMeta) -> str:
    """SHA-256 over the classes and the shards of a task, by their own SHA-256 and in their order."""
    splits = {
        name: [(item.name, item.samples, item.sha256) for item in split.shards] for name, split in meta.splits.items()
    }
    classes = [(item.id, item.name) for item in meta.classes]
    return hashlib.sha256(json.dumps([classes, splits], sort_keys=True).encode()).hexdigest()

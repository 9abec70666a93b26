"""Where the samples come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass
class DataConfig:
    """Where the samples come from."""

    shards: str | None = None
    """What `shards/build.py` wrote: a folder, its `http(s)://` or `s3://` URL, or `pipe:` and a shell command with `{}`
    in place of `<task>/<file>`, which writes that file to its output."""
    workers: int = 2
    """Reader processes a task on each rank; 0 reads in the training process."""
    window: int = 4
    """Shards that are shuffled together."""
    remote: Literal["cache", "stream"] = "cache"
    """How shards of another machine are read: `cache` fetches each once into a folder of this machine; `stream` needs
    no disk, but every reader fetches for itself and holds two windows of shards in memory."""
    cache: str | None = None
    """Folder for fetched shards, shared by the processes of a machine; null: `ufo_ds/shards` in `$XDG_CACHE_HOME`, else
    in `~/.cache`."""
    cache_gib: float = 100.0
    """Size limit of that folder, GiB; it must take what the order reads at a time: `window` shards a task, all with
    `tasks.cls.balanced`."""

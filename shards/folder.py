"""`OUT/<task>`: what an earlier build left there, and how a build begins and ends."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shards.pack import ShardResult, state_path
from ufo_ds.data.schema import META_NAME, TaskMeta, read_index
from ufo_ds.errors import UserError
from ufo_ds.files import read_text, replace_file

_OURS = re.compile(r"(train|val|test)-\d{6}\.(tar|idx)")
_RECORD = ".build.json"
"""Kept beside a finished build: the fingerprints of its plan and of each shard, so that the next run can tell
what is still true. Not part of `meta.json`, which knows no file times: the same for the same data."""


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold `out` (made if absent) for one build; a second one at the same time is a `UserError`."""
    out.mkdir(parents=True, exist_ok=True)
    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{out}: another build is writing there; wait for it or choose another --out") from None
        except OSError:  # a file system without locks: the user takes care
            pass
        yield
    finally:
        os.close(handle)


class TaskFolder:
    """The folder of one task's shards."""

    def __init__(self, out: Path, task: str) -> None:
        self.out = out
        self.task = task
        self.path = out / task
        self._record = self._read_record()

    def _read_record(self) -> dict:
        with suppress(OSError, ValueError, RecursionError):
            record = json.loads(read_text(self.path / _RECORD, "ascii"))
            if isinstance(record, dict) and isinstance(record.get("shards"), dict):
                return record
        return {"plan": "", "shards": {}}

    def finished(self, fingerprint: str) -> TaskMeta | None:
        """The `meta.json` of a whole build of exactly this plan, if that is what stands here."""
        if self._record.get("plan") != fingerprint:
            return None
        try:
            meta = TaskMeta.read(self.out, self.task)
            shards = [shard for split in meta.splits.values() for shard in split.shards]
            whole = all(
                (self.path / shard.name).stat().st_size == shard.bytes
                and len(read_index(self.path / shard.index_name)) == shard.samples
                for shard in shards
            )
        except (OSError, UserError):
            return None
        return meta if whole else None

    def begin(self) -> None:
        """Declare the folder unfinished, and clear away what a killed build left half."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / META_NAME).unlink(missing_ok=True)
        for leftover in self.path.glob(".*.tmp"):
            leftover.unlink()

    def known(self, name: str) -> ShardResult | None:
        """What is noted of a shard of that name: by an unfinished build, or else by the last finished one."""
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            return ShardResult.parse(read_text(state_path(self.path, name), "ascii"), name)
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            return ShardResult.parse(self._record["shards"][name], name)
        return None

    def finish(self, fingerprint: str, results: list[ShardResult], meta: TaskMeta) -> None:
        """Remove what is no longer planned and declare the folder finished; `meta.json` comes last."""
        kept = {result.info.name: result for result in results if result.info}
        names = {name for result in kept.values() for name in (result.info.name, result.info.index_name)}
        for path in list(self.path.iterdir()):
            if _OURS.fullmatch(path.name) and path.name not in names:
                path.unlink()
        record = {"plan": fingerprint, "shards": {name: result.text() for name, result in kept.items()}}
        replace_file(self.path / _RECORD, json.dumps(record, indent=1) + "\n")
        for note in self.path.glob(".*.state"):
            note.unlink()
        meta.write(self.out)

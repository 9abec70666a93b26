"""Reading a whole shard again: tar, index and `meta.json` against one another, and every member decoded."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shards.image_check import UnfitError
from shards.pool import Tick, run_jobs
from shards.sample_check import Facts, examine_members
from shards.tar_samples import key_of, read_tar_samples
from ufo_ds.data.schema import SPLITS, Member, ShardInfo, SplitMeta, TaskMeta, read_index
from ufo_ds.errors import UserError, printable
from ufo_ds.files import sha256_of

_IN_THIS_PROCESS = 2000
"""Below so many images the start of other processes takes longer than they save."""
_LISTED = 8
"""Problems of one shard: a wrong file has as many as it has samples, and they say no more than the first."""


@dataclass(frozen=True)
class ShardJob:
    """A shard to be read again.

    Attributes:
        folder: that holds it.
        task: of the folder.
        info: what `meta.json` says of it.
        labelled: whether its samples must have labels.
        class_ids: that labels may use.
        rejected: `<tar>/<member>` of samples that stand in the tar and were left out of its index.
        remedy: the end of every line.
    """

    folder: Path
    task: str
    info: ShardInfo
    labelled: bool
    class_ids: frozenset[int]
    rejected: frozenset[str]
    remedy: str


def check_folders(root: Path, tasks: list[str], splits: list[str], workers: int) -> tuple[list[str], int, int]:
    """Check the shards of tasks and splits, with a progress bar.

    Returns:
        The problems, a line each: file, key, what, remedy; how many shards and how many samples there are.
    """
    problems: list[str] = []
    jobs: list[ShardJob] = []
    for task in tasks:
        try:
            meta = TaskMeta.read(root, task)
        except UserError as error:
            problems.append(str(error))
            continue
        jobs += [job for name, split in meta.splits.items() if name in splits
                 for job in _jobs(root / task, meta, split)]  # fmt: skip
        problems += _strays(root / task, meta, splits)
    samples = sum(job.info.samples for job in jobs)
    found = run_jobs(check_shard, jobs, workers if samples >= _IN_THIS_PROCESS else 1, samples, "verifying")
    return problems + [line for lines in found for line in lines], len(jobs), samples


def verify(root: Path, tasks: list[str], splits: list[str], workers: int) -> None:
    """Check shards and print the problems; `UserError` where there is any."""
    problems, shards, samples = check_folders(root, tasks, splits, workers)
    for line in problems:
        print(printable(line))
    if problems:
        raise UserError(f"{root}: {len(problems)} problem{'s' if len(problems) > 1 else ''}, listed above")
    if not shards:
        raise UserError(f"{root}: nothing to verify, no {' or '.join(splits)} split in {', '.join(tasks)}")
    print(f"all is well: {samples} samples in {shards} shards")


def _jobs(folder: Path, meta: TaskMeta, split: SplitMeta) -> list[ShardJob]:
    tool = "shards/build.py" if meta.layout != "webdataset" else "shards/index.py"
    remedy = f"copy shard and index again, or run {tool} again"
    ids, rejected = frozenset(meta.class_ids), frozenset(item.file for item in split.rejected)
    return [ShardJob(folder, meta.task, info, split.labelled, ids, rejected, remedy) for info in split.shards]


def _strays(folder: Path, meta: TaskMeta, splits: list[str]) -> list[str]:
    """Tars that look like shards of these splits and are none: a reader that lists the folder would take them."""
    known = {info.name for split in meta.splits.values() for info in split.shards}
    there = sorted(path.name for split in SPLITS if split in splits for path in folder.glob(f"{split}-*.tar"))
    return [f"{folder / name}: is not in meta.json; remove it, or build again" for name in there if name not in known]


def check_shard(job: ShardJob, tick: Tick) -> list[str]:
    """The problems of one shard, a line each."""
    return _Check(job, tick).run()


class _Check:
    def __init__(self, job: ShardJob, tick: Tick) -> None:
        self.job, self.tick = job, tick
        self.tar = job.folder / job.info.name
        self.index = job.folder / job.info.index_name
        self.problems: list[str] = []

    def note(self, path: Path, problem: str) -> None:
        self.problems.append(f"{path}: {problem}; {self.job.remedy}")

    def run(self) -> list[str]:
        """Check everything; returns the first problems, and how many more there are."""
        self._check()
        more = len(self.problems) - _LISTED
        if more <= 1:
            return self.problems
        rest = f"{self.tar}: {more} more problems of this shard, probably for the same reason"
        return [*self.problems[:_LISTED], rest]

    def _check(self) -> None:
        try:
            self._check_bytes()
        except OSError as error:
            self.note(self.tar, f"cannot be read ({error.strerror})")
            self.tick(self.job.info.samples)
            return
        walked = self._listed(lambda: read_tar_samples(self.tar).samples)
        indexed = self._listed(lambda: read_index(self.index))
        if indexed is not None and len(indexed) != self.job.info.samples:
            self.note(self.index, f"{len(indexed)} samples, but meta.json says {self.job.info.samples}")
        if walked is not None:
            walked = [members for members in walked if not self._was_rejected(members)]
            if len(walked) != self.job.info.samples:
                self.note(self.tar, f"{len(walked)} samples, but meta.json says {self.job.info.samples}")
            if indexed is not None:
                self._compare(walked, indexed)
        # The tar's own word on where things are, and the index's only where the tar cannot be walked.
        self._decode(walked if walked is not None else indexed or [])

    def _check_bytes(self) -> None:
        status, info = self.tar.stat(), self.job.info
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if (size := status.st_size) != info.bytes:
            self.note(self.tar, f"{size} bytes, but meta.json says {info.bytes} (truncated or swapped)")
        elif sha256_of(self.tar) != info.sha256:
            self.note(self.tar, "its bytes have changed: the SHA-256 is not that of meta.json")

    def _listed(self, read: Callable[[], list[list[Member]]]) -> list[list[Member]] | None:
        try:
            return read()
        except UserError as error:
            self.problems.append(str(error))
            return None

    def _was_rejected(self, members: list[Member]) -> bool:
        return any(f"{self.job.info.name}/{member.name}" in self.job.rejected for member in members)

    def _compare(self, walked: list[list[Member]], indexed: list[list[Member]]) -> None:
        places = {key_of(members[0].name): {m.name: m for m in members} for members in walked}
        keys = [key_of(members[0].name) for members in indexed]
        for line, (key, members) in enumerate(zip(keys, indexed, strict=True), start=2):
            there = places.get(key, {})
            for m in members:
                if m.name not in there:
                    self.note(self.index, f"{m.name}: line {line} lists it, but the tar has no such member")
                elif (m.offset, m.size) != (real := there[m.name])[1:3]:
                    problem = f"line {line} says byte {m.offset}, {m.size} bytes; the tar has byte {real.offset}"
                    self.note(self.index, f"{m.name}: {problem}, {real.size} bytes")
            for name in sorted(there.keys() - {m.name for m in members}):
                self.note(self.index, f"{name}: is in the tar, but not in line {line}")
        for key in sorted(places.keys() - set(keys)):
            self.note(self.index, f"{key}: is in the tar, but not in the index")
        if sorted(keys) == sorted(places) and keys != list(places):
            self.note(self.index, "the samples stand in another order than in the tar")

    def _decode(self, samples: list[list[Member]]) -> None:
        with self.tar.open("rb") as file:
            for members in samples:
                try:
                    self._check_facts(examine_members(self.job.task, file, members))
                except UnfitError as fault:
                    self.note(self.tar, f"{key_of(members[0].name)}: {fault}")
                self.tick(1)
        self.tick(max(0, self.job.info.samples - len(samples)))  # what could not be found

    def _check_facts(self, facts: Facts) -> None:
        if self.job.labelled and not facts.labelled:
            raise UnfitError("has no label, though the split is labelled")
        if foreign := [str(i) for i in facts.class_ids if i not in self.job.class_ids]:
            raise UnfitError(f"class {', '.join(foreign[:8])} is none of the classes in meta.json")

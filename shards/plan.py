"""From what a layout found to shards: order, balance, and the fingerprint that tells a finished shard."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from shards.layouts import Boxes, CodedMask, Sample, Source, SplitPlan, TaskPlan

BUILDER = 1
"""Raised when the same raw data shall give other shards: old ones are then not taken for finished."""


@dataclass(frozen=True)
class ShardLimits:
    """How large a shard may be planned: samples, and bytes of raw files."""

    samples: int
    bytes: int


@dataclass(frozen=True)
class ShardPlan:
    """A shard to be written; goes to a worker process.

    Attributes:
        folder: of the task's shards.
        name: of the tar.
        class_count: K, for the check of masks.
        samples: in order.
        fingerprint: of all that decides its bytes.
    """

    folder: Path
    name: str
    class_count: int
    samples: list[Sample]
    fingerprint: str


def plan_shards(plan: TaskPlan, split: str, folder: Path, raw: Path, limits: ShardLimits) -> list[ShardPlan]:
    """Cut a split into shards whose sample counts differ by one at most."""
    samples = plan.splits[split].samples
    if split == "train":
        samples = sorted(samples, key=lambda sample: _shuffle_key(plan.task, sample))
    parts = _balanced(samples, _shard_count(samples, limits))
    head = [BUILDER, plan.task, split, len(plan.classes)]
    return [
        ShardPlan(
            folder,
            f"{split}-{number:06d}.tar",
            len(plan.classes),
            part,
            _digest([*head, number, [_sample_record(sample, raw) for sample in part]]),
        )
        for number, part in enumerate(parts)
    ]


def plan_fingerprint(plan: TaskPlan, shards: dict[str, list[ShardPlan]]) -> str:
    """Of everything that decides a task's folder, `meta.json` included."""
    splits = {name: _split_record(split, shards[name]) for name, split in plan.splits.items()}
    return _digest([BUILDER, plan.task, plan.layout, [asdict(item) for item in plan.classes], splits])


def _shuffle_key(task: str, sample: Sample) -> bytes:
    # Sorting by a hash is a permutation that depends on the names alone: the same on every machine and with
    # every version of every random generator.
    return hashlib.sha256(f"{task}/{sample.file_name}".encode("utf-8", "surrogateescape")).digest()


def _shard_count(samples: list[Sample], limits: ShardLimits) -> int:
    total = sum(source.size for sample in samples for source in _sources(sample))
    return min(len(samples), max(math.ceil(len(samples) / limits.samples), math.ceil(total / limits.bytes)))


def _sources(sample: Sample) -> list[Source]:
    label = sample.label.source if isinstance(sample.label, CodedMask) else sample.label
    return [sample.image, label] if isinstance(label, Source) else [sample.image]


def _balanced(samples: list[Sample], count: int) -> list[list[Sample]]:
    cuts = [len(samples) * number // count for number in range(count + 1)] if count else []
    return [samples[start:stop] for start, stop in pairwise(cuts)]


def _source_record(source: Source, raw: Path) -> list[Any]:
    # Relative to the raw folder, so that moving the download rebuilds nothing.
    return [str(source.path).removeprefix(str(raw)), source.size, source.mtime_ns]


def _sample_record(sample: Sample, raw: Path) -> list[Any]:
    label: Any = sample.label
    if isinstance(label, Source):
        label = _source_record(label, raw)
    elif isinstance(label, CodedMask):
        label = [_source_record(label.source, raw), label.codes, label.coloured]
    elif isinstance(label, Boxes):
        label = asdict(label)
    return [_source_record(sample.image, raw), label, *([sample.name] if sample.name else [])]


def _split_record(split: SplitPlan, shards: list[ShardPlan]) -> list[Any]:
    accounts = [[asdict(item) for item in items] for items in (split.rejected, split.unmatched)]
    return [split.labelled, accounts, [shard.fingerprint for shard in shards]]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("ascii")).hexdigest()

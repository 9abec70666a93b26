"""Splits of data whose makers did not know ours: other names for them, or none at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Hashable
from dataclasses import replace
from pathlib import Path

from shards.layouts import Sample, SplitPlan, TaskPlan
from shards.layouts.files import is_hidden
from ufo_ds.errors import UserError

FOLDER_NAMES = {
    "train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing"),
}  # fmt: skip
"""What a split's folder may be called, in letters of either case and with `_set` behind."""
HELD_OUT = 0.1
"""Share of the labelled images that become val where the data have no splits."""
FEWEST = 5
"""Of fewer images none is held out."""


def unwrap(raw: Path, is_right: Callable[[Path], bool]) -> Path:
    """`raw`, or the folder in it that archives are packed with: the only one there, and the right one."""
    path = raw
    while not is_right(path):
        inner = folders_in(path)
        if len(inner) != 1:
            return raw
        path = inner[0]
    return path


def find_folders(parent: Path, inner: str = "") -> dict[str, Path]:
    """The folders `parent/<split>/inner` that there are, by split. `UserError` where a split has two."""
    found: dict[str, Path] = {}
    for path in folders_in(parent) if parent.is_dir() else ():
        split = split_of(path.name)
        if split is None or not (path / inner).is_dir():
            continue
        if split in found:
            raise UserError(f"{path / inner}: stands beside {found[split]}; both mean the {split} split, keep one")
        found[split] = path / inner
    return {split: found[split] for split in FOLDER_NAMES if split in found}


def split_of(name: str) -> str | None:
    """The split that a folder of this name holds."""
    plain = name.lower().removesuffix("_set")
    return next((split for split, names in FOLDER_NAMES.items() if plain in names), None)


def other_folders(parent: Path) -> list[str]:
    """Names of the folders that are no split's."""
    return [path.name for path in folders_in(parent) if split_of(path.name) is None]


def folders_in(parent: Path) -> list[Path]:
    """The folders that anybody sees in a folder, ascending."""
    return sorted(path for path in parent.iterdir() if path.is_dir() and not is_hidden(path))


def need_train(raw: Path, found: Collection[str]) -> None:
    """`UserError` where there are splits, but not this one."""
    if found and "train" not in found:
        raise UserError(f"{raw}: has images for {', '.join(found)}, but none for train; add them")


def finish(plan: TaskPlan, divided: bool, group_of: Callable[[Sample], Hashable] = lambda _: 0) -> TaskPlan:
    """Take val out of train where the data have no splits, and say in `notes` what they do not have.

    Args:
        plan: changed in place.
        divided: whether train is yet to be divided.
        group_of: the images of a group are divided by themselves.
    """
    if divided:
        plan.splits = {**hold_out(plan.splits.pop("train"), group_of), **plan.splits}
        held = len(plan.splits["val"].samples) if "val" in plan.splits else 0
        plan.notes.append(f"{plan.task}: no splits given; {held} images, chosen by a hash of their names, are val")
    else:
        plan.notes += [f"{plan.task}: no {split} split" for split in FOLDER_NAMES if split not in plan.splits]
    return plan


def hold_out(plan: SplitPlan, group_of: Callable[[Sample], Hashable] = lambda _: 0) -> dict[str, SplitPlan]:
    """Divide train into train and val; what was rejected stays with train.

    In each group a tenth of the images becomes val, at least one of five: those whose names' hashes are the smallest.
    So it is the same on every machine, and images that are added move few others.
    """
    groups: dict[Hashable, list[Sample]] = {}
    for sample in plan.samples:
        groups.setdefault(group_of(sample), []).append(sample)
    val: set[str] = set()
    for samples in groups.values():
        count = max(1, round(HELD_OUT * len(samples))) if len(samples) >= FEWEST else 0
        val.update(sample.file_name for sample in sorted(samples, key=_hash)[:count])
    parts = {
        "train": replace(plan, samples=[sample for sample in plan.samples if sample.file_name not in val]),
        "val": SplitPlan(plan.labelled, [sample for sample in plan.samples if sample.file_name in val]),
    }
    return {name: part for name, part in parts.items() if part.samples or name == "train"}


def _hash(sample: Sample) -> bytes:
    return hashlib.sha256(f"val/{sample.file_name}".encode("utf-8", "surrogateescape")).digest()
